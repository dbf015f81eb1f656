"""Real PouchDB while others flood the gateway, and when it is itself told to wait."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sample_institution.pouch import PouchClient
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.limits import Bounds
from tests.gateway.conftest import Device, People, Recorder, basic, running_gateway, settled
from tests.gateway.test_fairness import Clock, parts_with, second_device, status_of, until
from tests.support.couch import Couch


async def test_a_first_synchronisation_stays_far_below_the_limits(
    device: Device, couch: Couch, recorder: Recorder
) -> None:
    """An agent with a thousand clients has some ten thousand documents: ten times these."""
    for part in range(5):
        await couch.write(device.database, *({"_id": f"loan:{part}:{n}", "text": "x" * 1000} for n in range(200)))
    async with PouchClient.started(device.url, device.id, device.secret) as pouch:
        assert (await pouch.replicate())["written"] == 1000
    assert {status for _, _, status in recorder.requests} <= {200, 201, 404}
    assert len(recorder.requests) * 10 < Bounds().device_requests_per_minute / 4


@pytest.mark.parametrize("refusal", ["429", "503"])
async def test_pouchdb_that_is_told_to_wait_backs_off_and_recovers(
    couch: Couch,
    people: People,
    service_url: str,
    couch_url: str,
    credentials: DatabaseCredentials,
    recorder: Recorder,
    refusal: str,
) -> None:
    clock = Clock()
    parts = parts_with(clock, device_requests_per_minute=150)
    async with running_gateway(service_url, couch_url, credentials, recorder, parts=parts) as url:
        device = await settled(couch, people)
        couch.wrote = people.wrote
        await couch.write(device.database, *({"_id": f"loan:{number:04}"} for number in range(450)))
        if refusal == "503":
            parts.limits.requests = parts.limits.bounds.requests
        else:
            async with aiohttp.ClientSession() as http:  # so that what is left ends in the middle
                for _ in range(140):
                    await status_of(http, f"{url}/", device)
        recorder.requests.clear()
        async with PouchClient.started(f"{url}/passbook", device.id, device.secret, live=True) as pouch:
            assert (await pouch.wait("paused"))["error"]["status"] == int(refusal)
            await asyncio.sleep(5)
            refused = [request for request in recorder.requests if request[2] == int(refusal)]
            # It doubles its pauses, from up to two seconds on; one that did not wait would ask hundreds of times.
            assert 0 < len(refused) < 60
            assert [event for event in pouch.events if event["event"] in ("error", "complete", "denied")] == []
            parts.limits.requests = 0
            async with asyncio.timeout(90):
                while len(await pouch.docs()) < 450:
                    clock.now += 60
                    await asyncio.sleep(0.5)
            await couch.write(device.database, {"_id": "loan:new"})
            clock.now += 600
            await pouch.until_document("loan:new", within=60)


@contextlib.asynccontextmanager
async def flooding_with(**what: object) -> AsyncIterator[dict[str, int]]:
    """Floods from another process; gives the answers it got, by status, as they come."""
    answers: dict[str, int] = defaultdict(int)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.gateway.flood",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(what).encode() + b"\n")

    async def read(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            answers.update(json.loads(line))

    reading = asyncio.create_task(read(process.stdout))
    try:
        yield answers
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)
        await reading


async def test_T30_one_persons_flood_does_not_keep_another_from_synchronising(
    couch: Couch,
    people: People,
    service_url: str,
    couch_url: str,
    credentials: DatabaseCredentials,
) -> None:
    """A thousand feeds, and as many requests as go, of one person with three devices; another synchronises."""
    parts = parts_with()
    bounds = parts.limits.bounds
    async with running_gateway(service_url, couch_url, credentials, parts=parts) as url:
        flooding, quiet = await settled(couch, people), await settled(couch, people)
        couch.wrote = people.wrote
        devices = [flooding, second_device(people, flooding)]
        devices.append(Device(f"{flooding.id}-3", "x", flooding.person, flooding.database))
        people.add_device(devices[2])
        await couch.write(flooding.database, *({"_id": f"loan:{n}", "text": "x" * 2500} for n in range(300)))
        await couch.write(quiet.database, *({"_id": f"loan:{n:04}", "text": "y" * 500} for n in range(300)))
        most_feeds = most_open = 0
        async with flooding_with(
            url=url, authorizations=[device.headers["Authorization"] for device in devices], feeds=1000, askers=200
        ) as answers:
            await until(lambda: answers["429"] >= 1000, within=60)
            async with PouchClient.started(f"{url}/passbook", quiet.id, quiet.secret, live=True) as pouch:
                synchronised = asyncio.create_task(pouch.until_document("loan:0299", within=120))
                while not synchronised.done():
                    most_feeds = max(most_feeds, parts.limits.feeds)
                    most_open = max(most_open, len(parts.requests))
                    await asyncio.sleep(0.01)
                await synchronised
                assert len(await pouch.docs()) == 300
        assert set(answers) == {"200", "429"}
        assert most_feeds <= 3 * bounds.device_feeds + 1
        assert most_open <= bounds.person_requests + bounds.device_requests  # of the one and of the other
        # Its own share was never touched. (On a machine that is busy enough it may have been told to wait for all.)
        errors = [
            event["error"] for event in pouch.events if event["event"] in ("paused", "error") and "error" in event
        ]
        assert {error["status"] for error in errors} <= {503, None}, errors


async def test_T18_guessing_keeps_nobody_from_synchronising(
    couch: Couch,
    people: People,
    service_url: str,
    couch_url: str,
    credentials: DatabaseCredentials,
) -> None:
    """As many guesses as go, at a device's own secret and at devices that do not exist."""
    parts = parts_with()
    async with running_gateway(service_url, couch_url, credentials, parts=parts) as url:
        quiet = await settled(couch, people)
        couch.wrote = people.wrote
        await couch.write(quiet.database, *({"_id": f"loan:{n:04}", "text": "y" * 500} for n in range(300)))
        guesses = [basic(quiet.id if n % 2 else f"device-{n}", f"guess-{n}") for n in range(400)]
        async with flooding_with(url=url, authorizations=guesses, feeds=0, askers=400) as answers:
            await until(lambda: sum(answers.values()) >= 1000, within=60)
            async with PouchClient.started(f"{url}/passbook", quiet.id, quiet.secret, live=True) as pouch:
                await pouch.until_document("loan:0299", within=120)
                assert len(await pouch.docs()) == 300
        # Whoever guesses learns nothing, waits, or is sent away; and none of it is held against the device.
        assert set(answers) <= {"401", "429", "503"}, answers
        assert answers["401"] > 0
        assert [one for one in pouch.events if one["event"] in ("error", "denied") and "n" not in one] == []
