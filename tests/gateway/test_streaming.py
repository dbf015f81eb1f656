"""Answers pass through as they come: compressed, never collected, and never half and called whole."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from sync_gateway.app import Parts, build, serving
from sync_gateway.compress import LiveCompressor, accepts_gzip
from sync_gateway.credentials import DatabaseCredentials, Principal
from sync_gateway.proxy import Upstream
from sync_gateway.serving import DRAIN_WITHIN, SHUTDOWN_WITHIN
from tests.gateway.conftest import NOW, Device
from tests.gateway.pipes import until
from tests.support.couch import Couch

CHUNK = b'{"a":"' + b"0123456789abcdef" * 4096 + b'"}\n'


class Anybody(DatabaseCredentials):
    """Lets everybody in."""

    def __init__(self) -> None:
        pass

    async def principal(self, authorization: list[str]) -> Principal:
        return Principal("device", "person", "database", True, NOW + dt.timedelta(days=1))


@contextlib.asynccontextmanager
async def before(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], parts: Parts | None = None
) -> AsyncIterator[str]:
    """A gateway before a CouchDB that is just this handler."""
    couch = web.Application()
    couch.router.add_route("*", "/{tail:.*}", handler)
    async with serving(couch, "127.0.0.1", 0) as upstream_port:
        application = build(Anybody(), Upstream(f"http://a:b@127.0.0.1:{upstream_port}"), parts)
        async with serving(application, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}"


async def begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    return response


class Feed:
    """A continuous feed through the gateway, read as bytes; unpacks gzip as it comes."""

    def __init__(self, reader: aiohttp.StreamReader, gzip: bool) -> None:
        self._reader = reader
        self._unpack = zlib.decompressobj(16 + zlib.MAX_WBITS) if gzip else None
        self.text = b""

    async def until(self, wanted: bytes, within: float = 5.0) -> float:
        started = time.monotonic()
        async with asyncio.timeout(within):
            while wanted not in self.text:
                chunk = await self._reader.readany()
                assert chunk, f"ended with {self.text!r}"
                self.text += self._unpack.decompress(chunk) if self._unpack else chunk
        return time.monotonic() - started


@pytest.mark.parametrize("gzip", [True, False])
async def test_rows_and_heartbeats_of_a_live_feed_come_at_once(
    device: Device, couch: Couch, gateway: str, gzip: bool
) -> None:
    headers = {**device.headers, "Accept-Encoding": "gzip" if gzip else "identity"}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.get(f"{gateway}/passbook/_changes?feed=continuous&heartbeat=1000", headers=headers) as response,
    ):
        assert response.headers.get("Content-Encoding") == ("gzip" if gzip else None)
        feed = Feed(response.content, gzip)
        for number in range(5):
            await couch.write(device.database, {"_id": f"loan:{number}"})
            assert await feed.until(f'"loan:{number}"'.encode()) < 1.0
        feed.text = b""
        assert await feed.until(b"\n\n", within=5) > 0.5  # two heartbeats and nothing else
        assert feed.text.strip() == b""


async def test_longpoll(device: Device, couch: Couch, gateway: str) -> None:
    async with aiohttp.ClientSession() as http:
        since = (await couch.ask("GET", f"{device.database}/_changes"))["last_seq"]
        url = f"{gateway}/passbook/_changes"
        query = {"feed": "longpoll", "heartbeat": "1000", "since": str(since)}

        async def poll() -> list[str]:
            async with http.get(url, params=query, headers=device.headers) as response:
                return [row["id"] for row in (await response.json())["results"]]

        polled = asyncio.create_task(poll())
        await asyncio.sleep(0.2)
        assert not polled.done()
        await couch.write(device.database, {"_id": "loan:1"})
        assert await asyncio.wait_for(polled, 5) == ["loan:1"]


async def test_gzip_is_right_and_smaller(device: Device, couch: Couch, gateway: str) -> None:
    documents = [
        {"_id": f"loan:{n:04}", "text": "principal, interest, fees and penalties", "n": n} for n in range(500)
    ]
    await couch.write(device.database, *documents)
    url = f"{gateway}/passbook/_all_docs?include_docs=true"
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        async with http.get(url, headers={**device.headers, "Accept-Encoding": "identity"}) as response:
            plain = await response.read()
            assert "Content-Encoding" not in response.headers
        async with http.get(url, headers={**device.headers, "Accept-Encoding": "gzip, deflate"}) as response:
            packed = await response.read()
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Vary"] == "Accept-Encoding"
        assert json.loads(zlib.decompress(packed, 16 + zlib.MAX_WBITS)) == json.loads(plain)
        assert len(packed) * 5 < len(plain)
        # An attachment may be compressed already, and its length matters.
        image = {"image": {"content_type": "image/jpeg", "data": "aGVs" * 1000}}
        await couch.write(device.database, {"_id": "client:1:image", "_attachments": image})
        async with http.get(
            f"{gateway}/passbook/client:1:image/image", headers={**device.headers, "Accept-Encoding": "gzip"}
        ) as response:
            assert "Content-Encoding" not in response.headers
            assert response.headers["Content-Type"] == "image/jpeg"
            assert await response.read() == b"hel" * 1000


async def test_a_large_answer_is_not_collected() -> None:
    """30 MB to a device that reads nothing: CouchDB is held up, and little waits in the gateway."""
    sent = 0
    finished = False

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent, finished
        response = await begun(request)
        for _ in range(30_000_000 // len(CHUNK)):
            await response.write(CHUNK)
            sent += len(CHUNK)
        finished = True
        return response

    async with before(handler) as url:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1024)
        writer.write(b"GET /passbook/_all_docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read(12)) == b"HTTP/1.1 200"
        before_that = -1
        while before_that != sent:  # until it stands still
            before_that = sent
            await asyncio.sleep(0.3)
        assert not finished
        held = sent
        assert held < 12_000_000  # nearly all of it in the socket buffers of the kernel, four of them
        received = 12
        while chunk := await reader.read(1_000_000):
            received += len(chunk)
        assert finished
        assert received > 29_000_000
        writer.close()
        await writer.wait_closed()


async def test_a_large_database(device: Device, couch: Couch, gateway: str) -> None:
    for part in range(30):
        await couch.write(
            device.database, *({"_id": f"loan:{part}:{n}", "text": f"{n:04}" * 5000} for n in range(40))
        )
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.get(f"{gateway}/passbook/_all_docs?include_docs=true", headers=device.headers) as response,
    ):
        text = zlib.decompress(await response.read(), 16 + zlib.MAX_WBITS)
        assert len(json.loads(text)["rows"]) == 1200
        assert len(text) > 20_000_000


async def test_a_broken_answer_is_seen_to_be_broken() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await begun(request)
        await response.write(b'{"rows":[')
        await asyncio.sleep(0.1)
        assert request.transport is not None
        request.transport.abort()
        return response

    for encoding in ("identity", "gzip"):
        async with before(handler) as url, aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientError):
                async with http.get(f"{url}/passbook/_all_docs", headers={"Accept-Encoding": encoding}) as response:
                    await response.read()


async def nothing_new(request: web.Request) -> web.StreamResponse:
    """CouchDB without changes."""
    return web.Response(body=b'\n{"last_seq":"7-abc","pending":0}\n', content_type="application/json")


@pytest.mark.parametrize("kind", ["longpoll", "continuous"])
async def test_a_device_that_hangs_up_ends_its_feed(kind: str) -> None:
    """Nothing of it is left: neither the request nor the bell. At CouchDB there was nothing to end."""
    parts, asked = Parts.new(), 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await nothing_new(request)

    async with before(handler, parts) as url, aiohttp.ClientSession() as http:
        response = await http.get(f"{url}/passbook/_changes?feed={kind}", headers={"Accept-Encoding": ""})
        assert (await response.content.readany()).endswith(b"\n")
        assert (len(parts.requests), len(parts.hub), parts.requests.feeds[kind]) == (1, 1, 1)
        response.close()
        await until(lambda: not len(parts.requests) and not len(parts.hub))
        assert parts.requests.feeds.total() == 0
    assert asked == 1


async def test_a_device_that_hangs_up_ends_a_large_answer_at_couchdb() -> None:
    ended, parts = asyncio.Event(), Parts.new()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await begun(request)
        try:
            while True:
                await response.write(CHUNK)
        finally:
            ended.set()

    async with before(handler, parts) as url, aiohttp.ClientSession() as http:
        response = await http.get(f"{url}/passbook/_all_docs", headers={"Accept-Encoding": ""})
        await response.content.readexactly(1_000_000)
        assert not ended.is_set()
        response.close()
        await asyncio.wait_for(ended.wait(), 5)
        await until(lambda: not len(parts.requests))


async def test_shutdown_ends_long_polls_with_their_place_and_breaks_off_continuous_feeds() -> None:
    async with aiohttp.ClientSession() as http:
        async with before(nothing_new) as url:
            feeds = {}
            for kind in ("longpoll", "continuous"):
                feeds[kind] = await http.get(
                    f"{url}/passbook/_changes?feed={kind}", headers={"Accept-Encoding": ""}
                )
                await feeds[kind].content.readany()
            started = time.monotonic()
        assert time.monotonic() - started < 1
        assert json.loads(b'{"results":[' + await feeds["longpoll"].content.read())["last_seq"] == "7-abc"
        with pytest.raises(aiohttp.ClientError):
            await feeds["continuous"].content.read()
        feeds["continuous"].close()


async def test_shutdown_lets_an_answer_finish_for_a_while() -> None:
    go, parts = asyncio.Event(), Parts.new()

    async def handler(request: web.Request) -> web.StreamResponse:
        if "never" in request.path:
            await asyncio.sleep(60)
        await go.wait()
        return web.json_response({"_id": "loan:1"})

    async with aiohttp.ClientSession() as http:
        async with before(handler, parts) as url:
            good, late = (asyncio.create_task(http.get(f"{url}/passbook/{name}")) for name in ("loan:1", "never"))
            await until(lambda: len(parts.requests) == 2)
            asyncio.get_running_loop().call_later(0.5, go.set)
            started = time.monotonic()
        assert DRAIN_WITHIN - 0.1 < time.monotonic() - started < SHUTDOWN_WITHIN
        async with await good as response:
            assert (await response.json())["_id"] == "loan:1"
        with pytest.raises(aiohttp.ClientError):
            await late


async def test_what_couchdb_gets_is_made_anew() -> None:
    seen: list[tuple[str, str, dict[str, str], bytes]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.json_response(
            {"ok": True}, headers={"Set-Cookie": "a=b", "X-Couch-Request-ID": "1", "ETag": '"e"'}
        )

    async with before(handler) as url, aiohttp.ClientSession() as http:
        sent = {
            "Authorization": "Basic theirs",
            "Cookie": "AuthSession=x",
            "X-Auth-CouchDB-UserName": "admin",
            "X-Auth-CouchDB-Roles": "_admin",
            "X-Forwarded-For": "1.2.3.4",
            "Accept": "multipart/mixed",
            "Destination": "x",
        }
        body = b'{ "docs": [{"id": "b", "more": 1}], "new_edits": false }'
        async with http.post(f"{url}/passbook/_bulk_get?revs=true&x=y", data=body, headers=sent) as response:
            assert "Set-Cookie" not in response.headers
            assert "X-Couch-Request-ID" not in response.headers
            assert response.headers["ETag"] == '"e"'
        async with http.get(f"{url}/passbook/loan%3a1%3F%23?rev=1-%61", headers=sent):
            pass
    (method, path, headers, got), (_, second, _, _) = seen
    assert (method, path) == ("POST", "/database/_bulk_get?revs=true&latest=true")
    assert json.loads(got) == {"docs": [{"id": "b"}]}
    assert headers["Authorization"] == aiohttp.encode_basic_auth("a", "b")
    assert headers["Accept"] == "application/json"
    assert not {
        "Cookie",
        "X-Auth-CouchDB-UserName",
        "X-Auth-CouchDB-Roles",
        "X-Forwarded-For",
        "Destination",
    } & set(headers)
    assert second == "/database/loan%3A1%3F%23?rev=1-a&latest=true"


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("xgzip", False),
        ("br", False),
    ],
)
def test_accept_encoding(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


def test_a_long_header_is_read_in_no_time() -> None:
    # A reader that tries every way to split the spaces is at it for hours.
    assert not accepts_gzip("gzip" + " " * 1_000_000 + "x")


@given(chunks=st.lists(st.binary(max_size=300) | st.binary(min_size=1).map(lambda one: one * 2_000)))
def test_every_live_chunk_can_be_read_at_once(chunks: list[bytes]) -> None:
    packer, unpacker = LiveCompressor(), zlib.decompressobj(16 + zlib.MAX_WBITS)
    stream = b""
    for chunk in chunks:
        packed = packer.compress(chunk)
        stream += packed
        assert unpacker.decompress(packed) == chunk
    end = packer.finish()
    assert unpacker.decompress(end) == b""
    assert unpacker.eof
    # Another reader, which looks at the sum and the length at the end.
    assert gzip.decompress(stream + end) == b"".join(chunks)


def test_ten_thousand_feeds_that_pause_keep_no_compressor() -> None:
    row = b'{"seq":1,"id":"loan:1"}' * 1000
    process = psutil.Process()
    before = process.memory_info().rss
    packers = [LiveCompressor() for _ in range(10_000)]
    assert all(len(packer.compress(row)) < len(row) / 20 for packer in packers)
    # 2,600 MB with one of zlib's for each.
    assert process.memory_info().rss - before < 50_000_000
