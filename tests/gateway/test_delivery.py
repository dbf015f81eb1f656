"""Devices that read slowly: a small answer holds no connection to CouchDB, and none holds much memory."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import resource
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import structlog
from aiohttp import web

from sync_gateway import delivery, proxy
from sync_gateway.app import build, serving
from sync_gateway.credentials import Principal
from sync_gateway.proxy import Upstream

SMALL = json.dumps({"text": "0123456789abcdef" * 12_000}).encode()  # 192 KB
CHUNK = b"0123456789abcdef" * 4096


class Anybody:
    """Lets everybody in, each as somebody else, or all as the same person."""

    def __init__(self, person: str = "") -> None:
        self._person = person
        self._number = 0

    async def principal(self, *_: Any, **__: Any) -> Principal:
        self._number += 1
        person = self._person or f"person-{self._number}"
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        return Principal(f"device of {person}", person, "database", True, expires)

    async def seen(self, *_: Any, **__: Any) -> None:
        pass

    async def standing(self, devices: Sequence[str]) -> dict[str, Any]:
        return {}


@contextlib.asynccontextmanager
async def before(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    connections: int,
    person: str = "",
    credentials: Anybody | None = None,
) -> AsyncIterator[str]:
    """A gateway with so many connections, before a CouchDB that is just this handler."""
    couch = web.Application()
    couch.router.add_route("*", "/{tail:.*}", handler)
    async with serving(couch, "127.0.0.1", 0) as upstream:
        towards = Upstream(f"http://a:b@127.0.0.1:{upstream}", connections=connections)
        application = build(credentials or Anybody(person), towards)
        async with serving(application, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}"


class Accounts(Anybody):
    """Lets everybody in, as whom the test says now."""

    now = ""

    async def principal(self, *arguments: Any, **more: Any) -> Principal:
        self._person = self.now
        return await super().principal(*arguments, **more)


class Sleeper:
    """A device that asks and does not read."""

    def __init__(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        self.writer, self.reader = writer, reader

    @classmethod
    async def asking(cls, url: str, path: str) -> Sleeper:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1024)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        await reader.read(1)
        return cls(writer, reader)

    async def leave(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def small(_: web.Request) -> web.StreamResponse:
    return web.Response(body=SMALL, content_type="application/json")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(CHUNK)


async def rows(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b'{"seq":1,"id":"a","changes":[],"doc":"%s"}\n' % CHUNK[:60_000])


async def by_path(request: web.Request) -> web.StreamResponse:
    return await (endless if request.path.endswith("_all_docs") else small)(request)


async def test_a_description_that_comes_in_pieces() -> None:
    async def in_pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in (b'{"doc_count"', b':7,"update', b'_seq":"7-a"}'):
            await response.write(piece)
            await asyncio.sleep(0.02)
        return response

    async with (
        before(in_pieces, connections=2) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/passbook") as response,
    ):
        assert response.status == 200
        assert await response.json() == {
            "db_name": "passbook",
            "person": "person-1",
            "doc_count": 7,
            "update_seq": "7-a",
            "checked_at": None,
        }


async def test_one_person_has_few_large_answers_at_a_time_and_the_next_waits_without_a_connection() -> None:
    asked: list[str] = []

    async def noting(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return await by_path(request)

    async with before(noting, connections=32, person="one") as url, aiohttp.ClientSession() as http:
        sleepers = [await Sleeper.asking(url, "/passbook/_all_docs") for _ in range(2)]
        waiting = [asyncio.create_task(_status(http, f"{url}/passbook/_all_docs")) for _ in range(10)]
        await _until(lambda: len(asked) == 12)
        # More of those than CouchDB's other connections; and what is small is answered meanwhile.
        waiting += [asyncio.create_task(_status(http, f"{url}/passbook/_all_docs")) for _ in range(5)]
        for _ in range(3):
            assert await _status(http, f"{url}/passbook/loan:1") == 200
        await _until(lambda: asked.count("/database/_all_docs") == 17)
        for sleeper in sleepers:
            await sleeper.leave()
        assert await asyncio.gather(*waiting) == [200] * 15


async def test_T30_whoever_waits_gets_the_oldest_of_who_has_most() -> None:
    """Accounts of somebody who reads nothing take all places for large answers; nobody else goes without."""
    people = Accounts()
    async with before(by_path, connections=32, credentials=people) as url:
        sleepers = []
        for number in range(12):
            people.now = f"hostile-{number}"
            sleepers += [await Sleeper.asking(url, "/passbook/_all_docs") for _ in range(2)]
        # All 24 are taken.
        for number in range(12):
            people.now = f"honest-{number}"
            async with aiohttp.ClientSession() as http, http.get(f"{url}/passbook/_all_docs") as response:
                assert response.status == 200
                assert len(await response.content.readexactly(1_000_000)) == 1_000_000
        # Each of them lost one at most, and whoever has one and would have two gets none of anybody's.
        for sleeper in sleepers:
            await sleeper.leave()


@pytest.mark.parametrize("path", ["/passbook/_all_docs", "/passbook/_changes?feed=continuous&heartbeat=1000"])
async def test_T30_a_large_answer_that_is_taken_too_slowly_is_let_go(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little now and then, so that nothing ever stalls: that held a place for as long as anybody liked."""
    monkeypatch.setattr(delivery, "SLOW_FOR", 0.5)
    monkeypatch.setattr(delivery, "LOWEST_RATE", 10_000_000)

    with structlog.testing.capture_logs() as logged:
        async with before(rows if "_changes" in path else endless, connections=4) as url:
            sleeper = await Sleeper.asking(url, path)

            def torn() -> bool:
                return any(entry["event"] in ("answer_broken_off", "feed_broken_off") for entry in logged)

            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionError):
                    while not torn():
                        await sleeper.reader.read(20_000)
                        await asyncio.sleep(0.05)
            await sleeper.leave()
    (entry,) = [entry for entry in logged if entry["event"].endswith("broken_off")]
    assert entry["error"] == "TimeoutError"


async def test_T30_a_large_answer_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LONGEST", 0.5)
    with structlog.testing.capture_logs() as logged:
        async with before(endless, connections=4) as url, aiohttp.ClientSession() as http:
            with contextlib.suppress(aiohttp.ClientError):
                async with asyncio.timeout(20), http.get(f"{url}/passbook/_all_docs") as response:
                    await response.read()
    assert [entry["error"] for entry in logged if entry["event"] == "answer_broken_off"] == ["TimeoutError"]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_small_answer_is_whole_and_has_its_length(encoding: str) -> None:
    async with (
        before(small, connections=1) as url,
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.get(f"{url}/passbook/loan:1", headers={"Accept-Encoding": encoding}) as response,
    ):
        body = await response.read()
        assert response.headers["Content-Length"] == str(len(body))
        if encoding == "gzip":
            assert response.headers["Content-Encoding"] == "gzip"
            body = zlib.decompress(body, 16 + zlib.MAX_WBITS)
        assert body == SMALL


async def test_small_answers_hold_no_connection_however_slowly_they_are_read() -> None:
    async with before(small, connections=1) as url, aiohttp.ClientSession() as http:
        sleepers = [await Sleeper.asking(url, "/passbook/loan:1") for _ in range(20)]
        started = time.monotonic()
        async with http.get(f"{url}/passbook/loan:2") as response:
            assert await response.read() == SMALL
        assert time.monotonic() - started < 2
        for sleeper in sleepers:
            await sleeper.leave()


async def test_large_answers_leave_connections_for_the_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "WAIT_WITHIN", 0.5)
    async with before(by_path, connections=8) as url, aiohttp.ClientSession() as http:
        sleepers = [await Sleeper.asking(url, "/passbook/_all_docs") for _ in range(6)]

        async def one_more() -> float:
            started = time.monotonic()
            async with http.get(f"{url}/passbook/_all_docs") as response:
                assert (response.status, (await response.json())["code"]) == (503, "busy")
                assert int(response.headers["Retry-After"]) > 0
            return time.monotonic() - started

        # A seventh large one waits for its turn, but not for ever; an eighth finds no room to wait.
        waits = [asyncio.create_task(one_more()) for _ in range(2)]
        for _ in range(5):
            async with http.get(f"{url}/passbook/loan:1") as response:
                assert await response.read() == SMALL
        took = sorted(await asyncio.gather(*waits))
        assert took[0] < took[1]
        assert 0.4 < took[1] < 5
        await sleepers.pop().leave()
        again = await Sleeper.asking(url, "/passbook/_all_docs")
        assert (await again.reader.read(11)) == b"TTP/1.1 200"
        for sleeper in [*sleepers, again]:
            await sleeper.leave()


async def test_waiting_for_a_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "WAIT_WITHIN", 0.5)
    release = asyncio.Event()

    async def stuck(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.json_response({})

    async with before(stuck, connections=2) as url, aiohttp.ClientSession() as http:
        waiting = [asyncio.create_task(_status(http, f"{url}/passbook/loan:{n}")) for n in range(2)]
        await asyncio.sleep(0.2)
        assert await asyncio.wait_for(_status(http, f"{url}/passbook/loan:3"), 5) == 503
        release.set()
        assert await asyncio.gather(*waiting) == [200, 200]


async def _until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.05)


async def _status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as response:
        return response.status


async def test_slow_readers_of_large_answers_cost_little_memory() -> None:
    async with before(endless, connections=40) as url:
        await (await Sleeper.asking(url, "/passbook/_all_docs")).leave()
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sleepers = [await Sleeper.asking(url, "/passbook/_all_docs") for _ in range(30)]
        await asyncio.sleep(1.5)  # that they may fill whatever can be filled
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
        # Both the gateway and what stands for CouchDB are in this process.
        assert grown < 30 * 1500, f"{grown} KB"
        for sleeper in sleepers:
            await sleeper.leave()


@pytest.mark.parametrize("path", ["/passbook/loan:1", "/passbook/_all_docs"])
async def test_who_does_not_read_at_all_is_let_go(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "STALLED_FOR", 0.5)
    monkeypatch.setattr(delivery, "SMALL", 20_000_000)
    sent = b"x" * 15_000_000

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("_all_docs"):
            return await endless(request)
        return web.Response(body=sent, content_type="application/json")

    with structlog.testing.capture_logs() as logged:
        async with before(handler, connections=1) as url:
            sleeper = await Sleeper.asking(url, path)
            async with asyncio.timeout(10):
                await _until(lambda: any(entry["event"] == "answer_broken_off" for entry in logged))
                received = 1
                with contextlib.suppress(ConnectionError):
                    while chunk := await sleeper.reader.read(1_000_000):
                        received += len(chunk)
            await sleeper.leave()
    # It got no orderly end, and can tell that this is not all.
    assert received < len(sent)
