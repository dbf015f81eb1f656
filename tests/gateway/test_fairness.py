"""Nobody takes so much that others get nothing, and whoever is told to wait comes back and gets everything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from passbook import listening
from passbook.settings import Settings
from sync_gateway import bodies
from sync_gateway.answers import Problem
from sync_gateway.app import Parts, build, serving
from sync_gateway.buckets import Buckets
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.limits import Bounds, Limits
from sync_gateway.proxy import Upstream
from tests.gateway.conftest import Device, People, running_gateway, settled
from tests.support.couch import Couch


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def parts_with(clock: Clock | None = None, **bounds: float) -> Parts:
    """The parts of a gateway with these settings, `gateway_` left out."""
    settings = Settings.load({f"PASSBOOK_GATEWAY_{name.upper()}": str(value) for name, value in bounds.items()})
    if clock is None:
        return Parts.new(settings)
    return Parts(limits=Limits(Bounds.of(settings), clock))


async def until(holds: Callable[[], object], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - there is nothing that tells
            await asyncio.sleep(0.01)


@dataclass
class Held:
    """A gateway before a CouchDB that answers nothing until `release` is set."""

    url: str
    release: asyncio.Event
    #: What was asked for, in this order: the last segments of the paths.
    paths: list[str] = field(default_factory=list)

    @property
    def reached(self) -> int:
        return len(self.paths)

    async def until_reached(self, count: int) -> None:
        await until(lambda: self.reached >= count)


@contextlib.asynccontextmanager
async def held(credentials: DatabaseCredentials, parts: Parts) -> AsyncIterator[Held]:
    async def wait(request: web.Request) -> web.Response:
        made.paths.append(request.path.rpartition("/")[2])
        await made.release.wait()
        return web.Response(body=b'{"last_seq":"1","pending":0}\n', content_type="application/json")

    couch = web.Application()
    couch.router.add_route("*", "/{tail:.*}", wait)
    made = Held("", asyncio.Event())
    async with serving(couch, "127.0.0.1", 0) as couch_port:
        built = build(credentials, Upstream(f"http://a:b@127.0.0.1:{couch_port}"), parts)
        async with serving(built, "127.0.0.1", 0) as port:
            made.url = f"http://127.0.0.1:{port}"
            yield made
            made.release.set()


def somebody(people: People, number: int = 0) -> Device:
    return people.add(f"nowhere-{number}-{time.monotonic_ns()}")


def second_device(people: People, device: Device) -> Device:
    made = Device(f"{device.id}-2", "another secret", device.person, device.database)
    people.add_device(made)
    return made


async def status_of(http: aiohttp.ClientSession, url: str, device: Device) -> tuple[int, str, str | None]:
    async with http.get(url, headers=device.headers) as response:
        body = await response.json()
        return response.status, body.get("code", ""), response.headers.get("Retry-After")


async def test_feeds_have_a_limit_of_their_own_and_leave_room(
    credentials: DatabaseCredentials, people: People
) -> None:
    device, other = somebody(people), somebody(people, 1)
    parts = parts_with(device_requests=4, device_feeds=2, feeds=3)
    async with (
        held(credentials, parts) as gateway,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        feed = f"{gateway.url}/passbook/_changes?feed=longpoll&since=0"
        waiting = [asyncio.create_task(status_of(http, feed, device)) for _ in range(2)]
        await gateway.until_reached(2)
        assert await status_of(http, feed, device) == (429, "too_many_requests", "5")
        waiting.append(asyncio.create_task(status_of(http, feed, other)))
        await gateway.until_reached(3)
        # All together: no more feeds for anybody, but everything else goes on.
        assert await status_of(http, feed, other) == (503, "busy", "5")
        assert (parts.limits.feeds, parts.limits.requests) == (3, 0)
        assert (await status_of(http, f"{gateway.url}/", device))[0] == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: not parts.limits.feeds)
        gateway.release.set()


async def test_too_many_requests_of_all_together(credentials: DatabaseCredentials, people: People) -> None:
    devices = [somebody(people, number) for number in range(4)]
    parts = parts_with(requests=3)
    async with (
        held(credentials, parts) as gateway,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        url = f"{gateway.url}/passbook/loan:1"
        waiting = [asyncio.create_task(status_of(http, url, device)) for device in devices[:3]]
        await gateway.until_reached(3)
        assert await status_of(http, url, devices[3]) == (503, "busy", "5")
        # Who sends no good credential is told the same: the database is not even asked.
        async with http.get(url) as response:
            assert response.status == 503
        gateway.release.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200] * 3
        assert (await status_of(http, url, devices[3]))[0] == 200
        assert parts.limits.requests == 0


async def test_too_many_connections_and_no_feeds_before_that(
    credentials: DatabaseCredentials, people: People
) -> None:
    """Of those that ask for nothing the oldest makes room; when there is none left, the next one is refused."""
    device, other = somebody(people), somebody(people, 1)
    parts = parts_with(connections=10)
    async with held(credentials, parts) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(9)]
        async with aiohttp.ClientSession() as http:
            feed = f"{gateway.url}/passbook/_changes?feed=longpoll"
            assert await status_of(http, feed, device) == (503, "busy", "5")
            assert (await status_of(http, f"{gateway.url}/", device))[0] == 200  # on the same connection, the tenth
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            url = f"{gateway.url}/passbook/loan:1"
            asking = [asyncio.create_task(status_of(http, url, device)) for _ in range(5)]
            await gateway.until_reached(5)
            assert parts.limits.connections() == 10
            # Those before went in the order in which they came.
            for reader, _ in silent[:4]:
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 10) == b""
            asking += [asyncio.create_task(status_of(http, url, other)) for _ in range(5)]
            await gateway.until_reached(10)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            refused = await asyncio.wait_for(reader.read(), 10)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: 5\r\n" in refused
            assert b'"code":"busy"' in refused
            assert dict(parts.limits.dropped()) == {"crowded": 9, "refused": 1}
            gateway.release.set()
            assert {status for status, _, _ in await asyncio.gather(*asking)} == {200}
        for _, one in (*silent, (reader, writer)):
            one.close()
            with contextlib.suppress(ConnectionError):
                await one.wait_closed()
        await until(lambda: not parts.limits.connections())


@pytest.mark.parametrize("who", ["nobody", "a device"])
async def test_T36_who_asks_and_never_reads_keeps_no_place(
    credentials: DatabaseCredentials, people: People, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """A request of theirs is always under way: their answers wait for room that they never make."""
    monkeypatch.setattr(listening, "_STALLED_SECONDS", 0.5)
    device, parts = somebody(people), parts_with(connections=2)
    known = f"Authorization: {device.headers['Authorization']}\r\n" if who == "a device" else ""
    asked = f"GET / HTTP/1.1\r\nHost: x\r\n{known}\r\n".encode()
    async with held(credentials, parts) as gateway, contextlib.AsyncExitStack() as open_ones:
        port = int(gateway.url.rpartition(":")[2])
        for _ in range(2):
            one = open_ones.enter_context(contextlib.closing(socket.socket()))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
            sending = asyncio.get_running_loop().sock_sendall(one, asked * 2_900)
            with contextlib.suppress(ConnectionError, TimeoutError):  # nobody takes it all
                await asyncio.wait_for(sending, 5)
        await until(lambda: not parts.limits.connections(), within=30)
        assert parts.limits.dropped()["stalled"] == (2 if known else 0)
        async with aiohttp.ClientSession() as http:
            assert (await status_of(http, f"{gateway.url}/", somebody(people, 1)))[0] == 200


async def test_requests_per_minute(credentials: DatabaseCredentials, people: People) -> None:
    clock = Clock()
    device, other = somebody(people), somebody(people, 1)
    second = second_device(people, device)
    third = Device(f"{device.id}-3", "x", device.person, device.database)
    fourth = Device(f"{device.id}-4", "x", device.person, device.database)
    people.add_device(third)
    people.add_device(fourth)
    parts = parts_with(clock, device_requests_per_minute=20)
    async with held(credentials, parts) as gateway, aiohttp.ClientSession() as http:
        url = f"{gateway.url}/"

        async def ask(who: Device, count: int) -> Counter[int]:
            return Counter([(await status_of(http, url, who))[0] for _ in range(count)])

        assert await ask(device, 20) == {200: 20}
        assert await status_of(http, url, device) == (429, "too_many_requests", "3")
        # Paths off the list count too; being told to wait does not.
        assert (await status_of(http, f"{url}_all_dbs", device))[0] == 429
        assert await ask(second, 21) == {200: 20, 429: 1}
        assert await ask(third, 21) == {200: 20, 429: 1}
        assert await ask(fourth, 1) == {429: 1}  # its person's devices have had three times one's share
        assert await ask(other, 1) == {200: 1}
        clock.now += 3
        assert await ask(device, 2) == {200: 1, 429: 1}
        clock.now += 600
        assert await ask(device, 21) == {200: 20, 429: 1}


async def test_bytes_per_minute(
    couch: Couch, people: People, service_url: str, couch_url: str, credentials: DatabaseCredentials
) -> None:
    clock = Clock()
    parts = parts_with(clock, device_bytes_per_minute=1_000_000)
    async with (
        running_gateway(service_url, couch_url, credentials, parts=parts) as url,
        aiohttp.ClientSession(headers={"Accept-Encoding": "identity"}) as http,
    ):
        device = await settled(couch, people)
        await couch.write(device.database, {"_id": "loan:1", "text": "x" * 750_000})
        for status in (200, 200, 429):
            async with http.get(f"{url}/passbook/loan:1", headers=device.headers) as response:
                assert response.status == status
                await response.read()
        assert (await status_of(http, f"{url}/", await settled(couch, people)))[0] == 200
        clock.now += 31  # it owes half a minute's worth
        assert (await status_of(http, f"{url}/", device))[0] == 200


@pytest.mark.parametrize("path", ["loan:1", "_changes?feed=continuous&timeout=1&include_docs=true"])
async def test_T31_what_was_made_for_a_device_counts_as_it_was_before_compression(
    couch: Couch, people: People, service_url: str, couch_url: str, credentials: DatabaseCredentials, path: str
) -> None:
    """A megabyte that compresses to a kilobyte costs CouchDB and this process a megabyte."""
    parts = parts_with(Clock(), device_bytes_per_minute=1_000_000)
    async with (
        running_gateway(service_url, couch_url, credentials, parts=parts) as url,
        aiohttp.ClientSession(headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as http,
    ):
        device = await settled(couch, people)
        await couch.write(device.database, {"_id": "loan:1", "text": "x" * 750_000})
        for status in (200, 200, 429):
            async with http.get(f"{url}/passbook/{path}", headers=device.headers) as response:
                assert response.status == status
                assert len(await response.read()) < 20_000


def test_buckets_that_are_full_again_are_forgotten() -> None:
    clock = Clock()
    buckets = Buckets(60, clock)
    for number in range(10_000):
        buckets.take(f"device-{number}", 1)
    assert len(buckets) == 10_000
    buckets.take("device-0", 1000)
    clock.now += 599
    buckets.take("device-1", 1)
    # It owes ten minutes' worth at most, and those have nearly passed; then a minute's worth fills it again.
    assert buckets.wait("device-0", 1) == pytest.approx(2)
    clock.now += 60
    buckets.take("device-1", 1)
    assert buckets.wait("device-0", 1) == 0
    clock.now += 2
    buckets.take("device-1", 1)
    assert len(buckets) == 1
    assert buckets.wait("device-0", 60) == 0
    assert buckets.wait("device-0", 61) == pytest.approx(1)


def test_who_comes_again_at_once_is_told_slowly() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    assert [limits.pause(["Basic a"]) for _ in range(31)] == [0.0] * 30 + [1.0]
    assert limits.pause(["Basic b"]) == 0.0
    clock.now += 120
    assert limits.pause(["Basic a"]) == 0.0


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /passbook HTTP/1.1\r\nHost:", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"],
    ids=["nothing", "half a head", "one request and no more"],
)
async def test_a_connection_that_says_nothing_is_closed(
    credentials: DatabaseCredentials, couch_url: str, sent: bytes
) -> None:
    parts = parts_with(idle_seconds=1)
    async with serving(build(credentials, Upstream(couch_url), parts), "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.count(b"HTTP/1.1 401") == sent.endswith(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def test_a_head_that_trickles_in_is_closed_as_well(credentials: DatabaseCredentials, couch_url: str) -> None:
    parts = parts_with(idle_seconds=1)
    async with serving(build(credentials, Upstream(couch_url), parts), "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ended = asyncio.create_task(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while not ended.done():
                    writer.write(b"X: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.1)
        with contextlib.suppress(ConnectionError):
            assert await ended == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_body_that_does_not_come_gets_408(
    device: Device, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "READ_WITHIN", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.rpartition(":")[2]))
    writer.write(
        f"POST /passbook/_bulk_get HTTP/1.1\r\nHost: x\r\nAuthorization: {device.headers['Authorization']}\r\n"
        "Content-Length: 100\r\nConnection: close\r\n\r\n{".encode()
    )
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()


def test_all_strangers_together_ask_no_more_than_a_part() -> None:
    limits = Limits(Bounds(device_requests=2, requests=16))
    with limits.asking(["Basic known"]):
        pass
    with contextlib.ExitStack() as asking:
        for number in range(2):
            asking.enter_context(limits.asking([f"Basic stranger-{number}"]))
        with pytest.raises(Problem) as refused, limits.asking(["Basic stranger-2"]):
            pass
        assert (refused.value.status, refused.value.rule) == (503, "busy_strangers")
        with limits.asking(["Basic known"]):
            pass
    with limits.asking(["Basic stranger-2"]):
        pass
