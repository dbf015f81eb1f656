"""Clients that do what no honest one does: nothing of them stays, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from passbook.servicedb import tables
from sync_gateway import bodies, feeds
from sync_gateway.limits import Bounds
from tests.gateway.conftest import Device, People, settled
from tests.gateway.pipes import Door, Raw, Running, feed, running, until
from tests.support.couch import Couch

LIVE = "_changes?feed=continuous&heartbeat=1000"


@pytest.fixture
async def gateway(service_url: str, couch_url: str) -> AsyncIterator[Running]:
    async with running(service_url, couch_url) as one:
        yield one


@pytest.fixture
async def device(couch: Couch, people: People, gateway: Running) -> Device:
    couch.wrote = people.wrote
    return gateway.of(await settled(couch, people))


async def gone(gateway: Running, within: float = 10.0) -> None:
    """Nothing is left of any request."""
    with contextlib.suppress(AssertionError):
        await until(lambda: not gateway.left, within=within)
    assert gateway.left == {}


async def served(device: Device) -> None:
    """This one is served as if nothing were the matter."""
    raw = await Raw.asks(device, "")
    assert (await raw.over(within=2), raw.status) == ("end", 200)
    await raw.close()


async def test_a_feed_that_is_never_read(
    device: Device, couch: Couch, gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little waits for it here, and after a while it is given up."""
    monkeypatch.setattr(feeds, "STALLED_FOR", 1.0)
    for _ in range(20):
        await couch.write(
            device.database, *({"_id": f"loan:{random.random()}", "text": "x" * 99_999} for _ in range(8))
        )
    raw = await Raw.connect(device.url, limit=1024)
    raw.send(device, LIVE + "&include_docs=true")
    (request,) = await until(lambda: list(gateway.parts.requests._all()))
    transport = request.request.transport
    await until(lambda: transport.get_write_buffer_size() > 0)
    assert transport.get_write_buffer_size() < 1_000_000
    await until(lambda: gateway.empty, within=5)
    await raw.close()
    await gone(gateway)


async def test_a_thousand_feeds_of_one_device(
    device: Device, couch: Couch, people: People, gateway: Running
) -> None:
    other = gateway.of(await settled(couch, people))
    async with feed(other) as good:
        clients = []
        for _ in range(20):
            clients += await asyncio.gather(*(Raw.asks(device, LIVE) for _ in range(50)))
        await until(lambda: all(raw.status for raw in clients), within=60)
        most = Bounds().device_feeds
        assert sorted({raw.status for raw in clients}) == [200, 429]
        assert sum(raw.status == 200 for raw in clients) == most
        assert gateway.parts.requests.feeds["continuous"] == most + 1
        await served(other)
        await couch.write(other.database, {"_id": "loan:1"})
        await until(lambda: good.ids == ["loan:1"], within=2)
        for raw in clients:
            await raw.close()
    await gone(gateway)


def reset(raw: Raw) -> None:
    """Hang up without a word of goodbye."""
    raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.writer.transport.abort()


async def test_a_flood_of_those_who_come_and_go(
    device: Device, couch: Couch, people: People, gateway: Running
) -> None:
    """At whatever moment they leave: while they are looked up, while CouchDB is asked, while they are answered."""
    await couch.write(device.database, *({"_id": f"loan:{n}", "text": "x" * 20_000} for n in range(50)))
    others = [gateway.of(await settled(couch, people)) for _ in range(4)]
    await served(device)
    tasks = len(asyncio.all_tasks())
    chance = random.Random(1)
    paths = [LIVE, "_changes?feed=longpoll&heartbeat=60000", "_all_docs?include_docs=true", "", "loan:1", "nothing"]

    async def come_and_go(who: Device) -> None:
        raw = await Raw.connect(who.url)
        raw.send(who, chance.choice(paths))
        await asyncio.sleep(chance.choice([0, 0.001, 0.003, 0.01, 0.05, 0.2]))
        reset(raw)

    async def keep_coming(who: Device) -> None:
        for _ in range(60):
            await come_and_go(who)

    async with feed(others[0]) as good:
        await asyncio.gather(*(keep_coming(who) for who in [device] * 4 + others[1:]))
        await couch.write(others[0].database, {"_id": "loan:1"})
        await until(lambda: good.ids == ["loan:1"], within=3)
    await gone(gateway)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    # Nobody who left cost the service database a connection.
    assert gateway.credentials._engine.pool.status().count("overflow") <= 1
    await served(device)


async def test_whoever_hangs_up_tears_no_connection_of_the_service_database(
    device: Device, people: People, gateway: Running
) -> None:
    def backends() -> set[int]:
        with people._engine.begin() as connection:
            mine = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            return set(connection.execute(sa.text(mine)).scalars())

    await asyncio.gather(*(served(device) for _ in range(5)))
    before = backends()
    for wave in range(40):
        raws = [await Raw.connect(device.url) for _ in range(5)]  # more, and the pool would not keep them all
        for raw in raws:
            raw.send(device, "")
        await asyncio.sleep(wave * 0.0002)
        for raw in raws:
            reset(raw)
        await gone(gateway)
    assert before <= backends()


@pytest.mark.parametrize("beat", ["1", "0", "999"])
async def test_a_heartbeat_of_nearly_nothing(device: Device, gateway: Running, beat: str) -> None:
    async with feed(device, f"feed=continuous&heartbeat={beat}") as raw:
        begun = len(raw.body)
        await asyncio.sleep(2.5)
        assert 2 <= len(raw.body) - begun <= 3
    await gone(gateway)


@pytest.mark.parametrize("path", [LIVE, "_changes?feed=longpoll&heartbeat=1000", "_all_docs"])
async def test_the_end_of_all_sending_after_the_request(device: Device, gateway: Running, path: str) -> None:
    """To aiohttp that is a device that has hung up; in any case nothing stays."""
    raw = await Raw.connect(device.url)
    raw.send(device, path)
    await raw.writer.drain()
    raw.writer.write_eof()
    raw.read()
    await raw.over()
    await gone(gateway)
    await raw.close()


async def test_half_a_request(device: Device, gateway: Running) -> None:
    """Headers that never end take a connection, for as long as anybody idle may have one, and nothing else."""
    raws = []
    for part in (b"", b"GET /pass", b"GET /passbook/ HTTP/1.1\r\nHost: x\r\nAuthorization: Ba"):
        raws.append(raw := await Raw.connect(device.url))
        raw.writer.write(part)
    # What was looked up for others before may still be under way.
    await until(lambda: gateway.left == {"connections": 3})
    await served(device)
    for raw in raws:
        await raw.close()
    await gone(gateway)


async def test_a_body_that_never_ends(
    device: Device, gateway: Running, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "READ_WITHIN", 1.0)
    head = f"POST /passbook/_bulk_get HTTP/1.1\r\nHost: x\r\nAuthorization: {device.headers['Authorization']}\r\n"
    slow, cut = await Raw.connect(device.url), await Raw.connect(device.url)
    slow.writer.write(head.encode() + b"Content-Length: 1000\r\n\r\n{")
    slow.read()
    await slow.over(within=4)
    assert slow.status == 408
    monkeypatch.setattr(bodies, "READ_WITHIN", 60.0)
    cut.writer.write(head.encode() + b"Content-Length: 1000\r\n\r\n{")
    cut.read()
    await until(lambda: len(gateway.parts.requests) == 1)
    people.change(tables.device, device.id, revoked_at=sa.func.now())
    assert await cut.over(within=1) == "torn"
    for raw in (slow, cut):
        await raw.close()
    await gone(gateway)


async def test_T31_receipts_that_never_end(device: Device, gateway: Running, people: People) -> None:
    """Whoever was not told to wipe is sent away unread; who was has two at a time, beside all others."""
    told = [gateway.of(people.ordered(f"nowhere-{number}-{time.monotonic_ns()}")) for number in range(2)]
    wrong = Device(told[0].id, "not its secret", told[0].person, told[0].database)
    strangers, mine = [], []

    async def begins(authorization: str) -> Raw:
        raw = await Raw.connect(device.url)
        head = f"POST /wiped HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: 20\r\n\r\n{{"
        raw.writer.write(head.encode())
        raw.read()
        return raw

    for who in ("", "Basic x", wrong.headers["Authorization"], device.headers["Authorization"]):
        strangers += [await begins(who) for _ in range(20)]
    mine = [await begins(told[0].headers["Authorization"]) for _ in range(5)]
    await until(lambda: all(raw.status == 401 for raw in strangers))
    await until(lambda: sorted(raw.status for raw in mine) == [0, 0, 429, 429, 429])
    # They hold nothing that another device needs to send its own.
    raw = await Raw.connect(device.url)
    body = json.dumps({"order": people.order_of(told[1])}).encode()
    head = f"POST /wiped HTTP/1.1\r\nHost: x\r\nAuthorization: {told[1].headers['Authorization']}\r\n"
    raw.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    raw.read()
    assert (await raw.over(), raw.status) == ("end", 200)
    await served(device)
    for one in (raw, *mine, *strangers):
        await one.close()
    await gone(gateway)


async def test_what_a_request_expects_is_not_told_back(device: Device) -> None:
    for expected, authorization in (("secret-thing", ""), ("100-continue", device.headers["Authorization"])):
        raw = await Raw.connect(device.url)
        head = f"GET /passbook HTTP/1.1\r\nHost: x\r\nExpect: {expected}\r\nConnection: close\r\n"
        raw.writer.write(f"{head}Authorization: {authorization}\r\n\r\n".encode())
        said = await raw.reader.read()
        assert (b"HTTP/1.1 200 OK" if authorization else b"HTTP/1.1 401 ") in said
        assert said.startswith(b"HTTP/1.1 100 Continue") == bool(authorization)
        assert b"aiohttp" not in said
        assert b"secret-thing" not in said
        await raw.close()


async def test_backwards_and_live_ends_at_once(device: Device, couch: Couch, gateway: Running) -> None:
    """With a filter that leaves something out CouchDB would wait for the rest for ever, and hold a connection."""
    await couch.write(device.database, {"_id": "loan:1"}, {"_id": "loan:2"})
    for kind in ("continuous", "longpoll"):
        filtered = "filter=_doc_ids&doc_ids=%5B%22nothing%22%5D"
        raw = await Raw.asks(device, f"_changes?feed={kind}&descending=true&heartbeat=1000&{filtered}")
        assert await raw.over(within=5) == "end"
        await raw.close()
    await gone(gateway)


async def test_requests_that_wait_behind_a_feed(
    device: Device, couch: Couch, people: People, gateway: Running
) -> None:
    """They are not begun before it ends, and when it is cut, never."""
    await couch.write(device.database, {"_id": "loan:1"})
    raw = await Raw.connect(device.url)
    raw.send(device, "_changes?feed=longpoll&since=now&heartbeat=60000")
    for _ in range(100):
        raw.send(device, "loan:1")
    await until(lambda: len(gateway.parts.hub) == 1)
    assert len(gateway.parts.requests) == 1
    people.change(tables.device, device.id, revoked_at=sa.func.now())
    async with asyncio.timeout(2):
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := await raw.reader.read(65536):
                received += data
    assert b"loan:1" not in received
    await raw.close()
    await gone(gateway)


async def test_requests_in_one_breath(device: Device, couch: Couch, gateway: Running) -> None:
    await couch.write(device.database, *({"_id": f"loan:{n}"} for n in range(5)))
    raw = await Raw.connect(device.url)
    for n in range(5):
        raw.send(device, f"loan:{n}")
    received = b""
    async with asyncio.timeout(5):
        while received.count(b"HTTP/1.1 200") < 5 or b'"loan:4"' not in received:
            received += await raw.reader.read(65536)
    assert [received.index(f'"_id":"loan:{n}"'.encode()) for n in range(5)] == sorted(
        received.index(f'"_id":"loan:{n}"'.encode()) for n in range(5)
    )
    await raw.close()
    await gone(gateway)


async def test_whoever_vanishes_is_noticed_by_the_system(gateway: Running, device: Device) -> None:
    """Phones lose their network without a word; what they held must not count for long."""
    async with feed(device):
        (request,) = gateway.parts.requests._all()
        connection = request.request.transport.get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert 0 < connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 120_000
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert 0 < connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 120


async def test_couchdb_hangs_and_the_device_leaves(
    couch: Couch, couch_url: str, people: People, service_url: str
) -> None:
    async with Door.before(couch_url) as door, running(service_url, door.url) as gateway:
        device = gateway.of(await settled(couch, people))
        door.shut()
        raws = [await Raw.asks(device, path) for path in (LIVE, "_changes", "_changes?feed=longpoll")]
        await until(lambda: door.waiting == 3)
        for raw in raws:
            reset(raw)
        await gone(gateway)
        for raw in raws:
            await raw.close()


async def test_an_answer_says_why(device: Device, people: People) -> None:
    people.change(tables.device, device.id, revoked_at=sa.func.now())
    started = time.monotonic()
    raw = await Raw.asks(device, LIVE)
    assert (await raw.over(), raw.status, json.loads(raw.body)["code"]) == ("end", 401, "revoked")
    assert time.monotonic() - started < 1
    await raw.close()
