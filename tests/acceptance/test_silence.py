"""Connections that say nothing, or never end what they say, take nobody's place, on every port people reach."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from passbook.servicedb.engine import ServiceDatabase
from tests.auth.running import Running, settings_for
from tests.support.api import PASSWORD, Crowd

FILES = 1024
SILENT = 1_100
HALF = b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Ty"
#: The process, and what it is asked: method, path, and what it must answer.
SERVERS = {
    "both sides": (["auth"], ("POST", "/oauth/token", 200)),
    "people": (["auth", "--only", "people"], ("POST", "/oauth/token", 200)),
    "administration": (["auth", "--only", "administration"], ("POST", "/admin/oauth/token", 200)),
    "gateway": (["gateway"], ("GET", "/passbook", 401)),
}


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """Files enough for the other ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * SILENT + 500:
        pytest.skip("needs more open files: ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * SILENT + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def running(
    kind: str, service_url: str, couchdb_url: str, directory: Path, **settings: str
) -> AsyncIterator[tuple[Running, str]]:
    """One of `SERVERS`, and its address."""
    environment = {
        **settings_for(service_url, directory),
        "PASSBOOK_COUCHDB_URL": couchdb_url,
        "PASSBOOK_GATEWAY_ADMIN_PORT": "0",
        **settings,
    }
    process = Running(directory, environment, *SERVERS[kind][0], "--port", "0", files=FILES)
    try:
        yield process, (await asyncio.to_thread(lambda: process.url))
        await asyncio.to_thread(process.stop)
    finally:
        process.end()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    return await asyncio.open_connection(host, int(port))


async def keep_silent(url: str, count: int, began: asyncio.Event) -> None:
    """So many connections that send half a head; each that is closed is opened again, at most 200 a second."""
    held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        for _ in range(count):
            held.append(pair := await connect(url))
            pair[1].write(HALF)
        began.set()
        while True:
            for number, (reader, writer) in enumerate(held):
                if reader.at_eof() or writer.is_closing():
                    writer.close()
                    held[number] = pair = await connect(url)
                    pair[1].write(HALF)
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.005)
    finally:
        for _, writer in held:
            writer.transport.abort()


@pytest.mark.parametrize("kind", SERVERS)
async def test_T36_silent_connections_take_nobody_the_sign_in(
    service_url: str, couchdb_url: str, tmp_path: Path, kind: str
) -> None:
    database = ServiceDatabase(service_url)
    crowd = Crowd(database)
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    database.dispose()
    method, path, expected = SERVERS[kind][1]
    form = {"grant_type": "password", "username": "olga" if "admin" in path else "amina", "password": PASSWORD}
    async with running(kind, service_url, couchdb_url, tmp_path) as (server, url):
        await asked_beside_silence(server, url, method, path, expected, form)
    said = server.logged.read_bytes()
    assert b"Too many open files" not in said
    assert len(said) < 5_000, said[:2_000]


async def asked_beside_silence(
    server: Running, url: str, method: str, path: str, expected: int, form: dict[str, str]
) -> None:
    timeout = aiohttp.ClientTimeout(total=10)
    began = asyncio.Event()
    silent = asyncio.create_task(keep_silent(url, SILENT, began))
    try:
        await asyncio.wait_for(began.wait(), 60)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=timeout) as http:
            for _ in range(10):
                async with http.request(method, url + path, data=form if method == "POST" else None) as answer:
                    assert answer.status == expected
                if path != "/passbook":
                    async with http.get(url + "/health/ready") as answer:
                        assert answer.status == 200
        # It is full, and has not run out of files: those are what it counts by.
        assert 500 < psutil.Process(server.process.pid).num_fds() <= FILES
    finally:
        silent.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await silent


async def closed(url: str, *pieces: bytes, then: bytes = b"") -> bytes:
    """What came back by the time the connection was closed; `then` is sent every tenth of a second."""
    reader, writer = await connect(url)
    for piece in pieces:
        writer.write(piece)
    reading = asyncio.create_task(reader.read())
    try:
        async with asyncio.timeout(20):
            while not reading.done():
                with contextlib.suppress(ConnectionError):
                    writer.write(then)
                    await writer.drain()
                await asyncio.wait({reading}, timeout=0.1)
        try:
            return reading.result()
        except ConnectionError:
            return b""
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("kind", SERVERS)
async def test_T36_whoever_never_ends_a_request_is_ended(
    service_url: str, couchdb_url: str, tmp_path: Path, kind: str
) -> None:
    settings = {
        f"PASSBOOK_{side}_{what}_SECONDS": "1" for side in ("AUTH", "GATEWAY") for what in ("IDLE", "REQUEST")
    }
    async with running(kind, service_url, couchdb_url, tmp_path, **settings) as (_, url):
        await every_way_not_to_end(url)


async def every_way_not_to_end(url: str) -> None:
    head = b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    whole = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    chunked = b"GET /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answers = await asyncio.gather(
        closed(url),
        closed(url, HALF),
        closed(url, HALF[:40], then=b"a"),
        closed(url, head, then=b"X: y\r\n"),
        closed(url, head + b"Content-Length: 60000\r\n\r\ngrant_type="),
        closed(url, head + b"Content-Length: 60000\r\n\r\ngrant_type=", then=b"a"),
        closed(url, head + b"Transfer-Encoding: chunked\r\n\r\n", then=b"1\r\na\r\n"),
        closed(url, whole),
        closed(url, whole, HALF),
        closed(url, whole, b"GET / HTTP/1.1\r\n", then=b"X: y\r\n"),
        closed(url, chunked, then=b"1\r\na\r\n"),
        closed(url, chunked, then=b"1869f\r\n" + bytes(99_999) + b"\r\n"),
    )
    assert [answer.count(b"HTTP/1.1 ") for answer in answers[7:10]] == [1] * 3
    assert not any(answers[:4])
