"""Gateways as processes, two of them before one CouchDB: told to stop, killed, and of one mind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from passbook.servicedb import tables
from sync_gateway.serving import DRAIN_WITHIN, SHUTDOWN_WITHIN
from tests.gateway.conftest import Device, People, settled
from tests.gateway.gateways import environment
from tests.gateway.pipes import Door, Raw, feed, until
from tests.support.couch import Couch

CUT_WITHIN = 1.0
#: A thousand, six of each person's.
PHONES = 1_002


@dataclass
class Process:
    """`passbook gateway` as an operator starts it."""

    process: asyncio.subprocess.Process
    url: str
    errors: Path

    def of(self, device: Device) -> Device:
        """The device, at this gateway."""
        return Device(device.id, device.secret, device.person, device.database, f"{self.url}/passbook")

    async def ended(self, within: float) -> int:
        async with asyncio.timeout(within):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def started(service_url: str, couch_url: str, directory: Path, name: str) -> AsyncIterator[Process]:
    errors = directory / f"{name}.log"
    with errors.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "passbook", "gateway", "--port", "0"),
            env=environment(service_url, couch_url, directory),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=sink,
        )
    assert process.stdout
    try:
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"http://[\d.]+:\d+", line)
        assert found, line + errors.read_text()
        yield Process(process, found[0], errors)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.fixture
async def gateways(service_url: str, couch_url: str, tmp_path: Path) -> AsyncIterator[list[Process]]:
    async with (
        started(service_url, couch_url, tmp_path, "one") as one,
        started(service_url, couch_url, tmp_path, "two") as two,
    ):
        yield [one, two]


async def test_T04_one_revocation_and_every_gateway_closes(
    couch: Couch, people: People, gateways: list[Process]
) -> None:
    couch.wrote = people.wrote
    device = await settled(couch, people)
    other = await settled(couch, people)
    async with contextlib.AsyncExitStack() as stack:
        feeds = [
            await stack.enter_async_context(feed(gateway.of(device), f"feed={kind}&heartbeat=60000"))
            for gateway in gateways
            for kind in ("continuous", "longpoll")
        ]
        theirs = [await stack.enter_async_context(feed(gateway.of(other))) for gateway in gateways]
        people.change(tables.device, device.id, revoked_at=sa.func.now())
        revoked_at = time.monotonic()
        await couch.write(device.database, {"_id": "loan:1"})
        await until(lambda: all(raw.ended for raw in feeds), within=CUT_WITHIN + 1)
        assert [raw.ended for raw in feeds] == ["torn"] * 4
        assert all(raw.at < revoked_at + CUT_WITHIN for raw in feeds)
        await couch.write(other.database, {"_id": "loan:2"})
        await until(lambda: all(raw.ids == ["loan:2"] for raw in theirs))


class Phone:
    """Reads on from where it was, at whichever gateway answers, as replication does."""

    def __init__(self, device: Device, gateways: list[Process], kind: str) -> None:
        self._device = device
        self._gateways = gateways
        self._kind = kind
        self._since = "0"
        self.ids: list[str] = []
        self.connected_to: Process | None = None

    async def live(self) -> None:
        while True:
            for gateway in self._gateways:
                with contextlib.suppress(OSError):
                    await self._read(gateway)
                self.connected_to = None
            await asyncio.sleep(0.05)

    async def _read(self, gateway: Process) -> None:
        query = f"feed={self._kind}&heartbeat=10000&since={self._since}"
        async with feed(gateway.of(self._device), query) as raw:
            taken = 0
            while True:
                await raw.heard.wait()
                raw.heard.clear()
                ended = raw.ended
                if raw.status == 200:
                    self.connected_to = gateway
                rows = raw.rows
                for row in rows[taken:]:
                    self.ids.append(row["id"])
                    self._since = str(row["seq"])
                taken = len(rows)
                if ended:
                    if ended == "end" and raw.status == 200:
                        self._since = str(json.loads(raw.body)["last_seq"])
                    return


@pytest.mark.timeout(300)
async def test_a_gateway_that_is_killed_loses_and_repeats_nothing(
    couch: Couch, people: People, gateways: list[Process]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    couch.wrote = people.wrote
    owners = [await settled(couch, people) for _ in range(PHONES // 6)]
    phones = []
    for number, owner in enumerate(owners):
        for again in range(6):
            device = owner
            if again:
                device = Device(f"{owner.id}-{again}", "s", owner.person, owner.database)
                people.add_device(device)
            phones.append(Phone(device, gateways, ("continuous", "longpoll")[(number + again) % 2]))
    assert len(phones) == PHONES
    tasks = []
    try:
        # Not all in one moment, or the gateway tells some to come later, and they go to the other.
        for first in range(0, PHONES, 100):
            group = phones[first : first + 100]
            tasks += [asyncio.create_task(phone.live()) for phone in group]
            await until(partial(_all_at, group, gateways[0]), within=60)
        rounds = 0

        async def write() -> None:
            nonlocal rounds
            for owner in owners:
                await couch.write(owner.database, {"_id": f"loan:{rounds:04}"})
            rounds += 1

        await write()
        gateways[0].process.send_signal(signal.SIGKILL)
        for _ in range(3):
            await write()
        await until(partial(_all_at, phones, gateways[1]), within=60)
        await write()
        expected = [f"loan:{number:04}" for number in range(rounds)]
        await until(lambda: all(len(phone.ids) >= rounds for phone in phones), within=60)
        assert all(phone.ids == expected for phone in phones)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _all_at(phones: Sequence[Phone], gateway: Process) -> bool:
    return all(phone.connected_to is gateway for phone in phones)


async def test_told_to_stop_it_sends_devices_elsewhere(
    couch: Couch, couch_url: str, people: People, service_url: str, tmp_path: Path
) -> None:
    """Nothing new is taken; what is being answered is answered; long polls end with their place."""
    async with Door.before(couch_url) as door, started(service_url, door.url, tmp_path, "one") as gateway:
        couch.wrote = people.wrote
        device = gateway.of(await settled(couch, people))
        second = gateway.of(await settled(couch, people))
        await couch.write(device.database, {"_id": "loan:1"})
        last = str((await couch.ask("GET", f"{device.database}/_changes"))["last_seq"])
        async with (
            feed(device, f"feed=longpoll&heartbeat=60000&since={last}") as poll,
            feed(device, "feed=continuous&heartbeat=60000") as live,
        ):
            await until(lambda: live.ids == ["loan:1"])
            door.shut()
            answering = await Raw.asks(second, "_changes")
            await until(lambda: door.waiting == 1)
            gateway.process.send_signal(signal.SIGTERM)
            stopped_at = time.monotonic()
            assert await poll.over(within=1) == "end"
            assert json.loads(poll.body)["results"] == []
            assert str(json.loads(poll.body)["last_seq"]) == last
            assert await live.over(within=1) == "torn"
            with pytest.raises(ConnectionRefusedError):
                await Raw.connect(gateway.url)
            door.open()
            assert (await answering.over(within=2), answering.status) == ("end", 200)
            assert await gateway.ended(SHUTDOWN_WITHIN) == 0
            assert time.monotonic() - stopped_at < DRAIN_WITHIN
            await answering.close()
    assert "Traceback" not in gateway.errors.read_text()


async def test_told_to_stop_it_stops_whatever_its_clients_do(
    couch: Couch, couch_url: str, people: People, service_url: str, tmp_path: Path
) -> None:
    async with Door.before(couch_url) as door, started(service_url, door.url, tmp_path, "one") as gateway:
        device = gateway.of(await settled(couch, people))
        for part in range(10):
            await couch.write(
                device.database, *({"_id": f"loan:{part}:{n}", "text": "x" * 90_000} for n in range(10))
            )
        raws = [await Raw.connect(gateway.url, limit=1024) for _ in range(6)]
        raws[0].send(device, "_all_docs?include_docs=true")  # never read
        raws[1].send(device, "_changes?feed=continuous&include_docs=true")  # never read
        raws[2].writer.write(b"GET /passbook/ HTTP/1.1\r\nHos")
        raws[3].send(device, "_bulk_get", method="POST")  # without the body that was announced
        door.shut()
        raws[4].send(device, "_changes")  # CouchDB never answers
        raws[5].send(device, "loan:0:0")
        await until(lambda: door.waiting >= 1)
        await asyncio.sleep(0.5)
        gateway.process.send_signal(signal.SIGTERM)
        stopped_at = time.monotonic()
        assert await gateway.ended(SHUTDOWN_WITHIN + 1) == 0
        assert time.monotonic() - stopped_at < SHUTDOWN_WITHIN
        for raw in raws:
            await raw.close()
    assert "Traceback" not in gateway.errors.read_text()
