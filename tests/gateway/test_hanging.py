"""CouchDB behind one address, one node of which hangs: devices are answered by another, within seconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import structlog

from passbook import patience
from sync_gateway import proxy
from tests.gateway.conftest import Device, People, settled
from tests.gateway.pipes import Running, feed, running, until
from tests.support.before_couch import Before, before
from tests.support.couch import Couch


@pytest.fixture
async def between(couch_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Before]:
    """Stands between the gateway and CouchDB; what takes ten seconds takes half of one."""
    monkeypatch.setattr(patience, "FIRST_SECONDS", 0.5)
    monkeypatch.setattr(patience, "LATE_SECONDS", 0.2)
    async with before(couch_url) as made:
        yield made


@pytest.fixture
async def gateway(service_url: str, between: Before) -> AsyncIterator[Running]:
    async with running(service_url, between.url) as one:
        yield one


@pytest.fixture
async def device(gateway: Running, couch: Couch, people: People) -> Device:
    couch.wrote = people.wrote
    made = gateway.of(await settled(couch, people))
    await couch.write(made.database, {"_id": "loan:1"})
    return made


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "_changes?since=0", None),
        ("GET", "_changes?feed=longpoll&since=0&heartbeat=10000", None),
        ("GET", "loan:1", None),
        ("POST", "_bulk_get", {"docs": [{"id": "loan:1"}]}),
        ("POST", "_revs_diff", {"loan:1": ["1-a"]}),
    ],
)
async def test_a_question_that_gets_no_answer_is_asked_again(
    between: Before, device: Device, method: str, path: str, body: object
) -> None:
    between.hang_once(device.database)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(10), aiohttp.ClientSession() as http:
            url = f"{device.url}/{path}" if path else device.url
            async with http.request(method, url, json=body, headers=device.headers) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
    late = [one for one in logs if one["event"] == "couchdb_late"]
    assert len(late) == 1
    assert device.database not in str(late)


async def test_a_feed_that_waits_is_served_when_a_node_hangs(between: Before, device: Device, couch: Couch) -> None:
    async with feed(device) as raw:
        await until(lambda: raw.ids == ["loan:1"])
        between.hang_once("_changes")
        await couch.write(device.database, {"_id": "loan:2"})
        await until(lambda: raw.ids == ["loan:1", "loan:2"])
        assert not raw.ended


async def test_a_checkpoint_is_not_written_twice(between: Before, device: Device) -> None:
    """CouchDB would take the second for a conflict; the device comes again by itself."""
    between.hang_once("/_local/")
    async with asyncio.timeout(10), aiohttp.ClientSession() as http:
        body = json.dumps({"last_seq": 0}).encode()
        async with http.put(f"{device.url}/_local/{'a' * 22}", data=body, headers=device.headers) as answer:
            assert answer.status == 503
    assert sum(method == "PUT" for method, _ in between.asked) == 1


async def test_an_answer_that_has_begun_may_pause(
    between: Before, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is for the beginning: a large answer on a busy server is not cut and asked for again."""
    monkeypatch.setattr(proxy, "SILENT_FOR", 20.0)
    between.pause = 1.5
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as http,
        http.get(f"{device.url}/_changes?since=0", headers=device.headers) as answer,
    ):
        assert [row["id"] for row in (await answer.json())["results"]] == ["loan:1"]
    assert sum("_changes" in path for _, path in between.asked) == 1


async def test_a_server_that_never_answers_is_asked_twice_and_no_more(between: Before, device: Device) -> None:
    between.rule = between.hang
    between.asked.clear()
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as http,
        http.get(f"{device.url}/_changes?since=0", headers=device.headers) as answer,
    ):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
    assert len(between.asked) == 2
