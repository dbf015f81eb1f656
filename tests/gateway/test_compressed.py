"""Compressed bodies: unpacked for devices alone, and never more than a body may have."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa
from aiohttp import compression_utils

from passbook.servicedb import tables
from sync_gateway import bodies, compress
from tests.gateway.conftest import Device, People, settled
from tests.gateway.gateways import device_of, gateway_process
from tests.gateway.pipes import Raw, Running, feed, running, until
from tests.support.couch import Couch

CUT_WITHIN = 1.0
BOMBS = 30
UNPACKED = 300_000_000


@functools.cache
def bomb() -> bytes:
    """300 kB that unpack to 300 MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    zeros = bytes(1_000_000)
    return b"".join(packer.compress(zeros) for _ in range(UNPACKED // len(zeros))) + packer.flush()


def request(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


@pytest.fixture
async def gateway(service_url: str, couch_url: str) -> AsyncIterator[Running]:
    async with running(service_url, couch_url) as one:
        yield one


@pytest.fixture
async def device(couch: Couch, people: People, gateway: Running) -> Device:
    couch.wrote = people.wrote
    return gateway.of(await settled(couch, people))


@pytest.mark.parametrize("who", ["nobody", "a device"])
async def test_T31_bombs_beside_a_revocation(
    service_url: str, couch_url: str, couch: Couch, people: People, tmp_path: Path, who: str
) -> None:
    """The revoked device's feed ends as soon as without them."""
    with gateway_process(service_url, couch_url, tmp_path) as gateway:
        device, sender = [await device_of(gateway, couch, people) for _ in range(2)]
        authorization = f"Authorization: {sender.headers['Authorization']}" if who == "a device" else "X: y"
        sent = request("/passbook/_bulk_get", bomb(), "Content-Encoding: gzip", authorization)
        async with feed(device) as raw:
            bombs = [await Raw.connect(gateway.url) for _ in range(BOMBS)]
            for one in bombs:
                one.writer.write(sent)
                one.read()
            await asyncio.to_thread(people.change, tables.device, device.id, revoked_at=sa.func.clock_timestamp())
            revoked_at = time.monotonic()
            await raw.over(within=60)
            assert (raw.ended, time.monotonic() - revoked_at < CUT_WITHIN) == ("torn", True)
            await until(lambda: all(one.ended for one in bombs), within=20)
            assert {one.status for one in bombs} == {413 if who == "a device" else 401}
            for one in bombs:
                await one.close()


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of all that is unpacked, by aiohttp or by us."""
    lengths: list[int] = []
    theirs, ours = compression_utils.ZLibDecompressor.decompress_sync, compress.Unpacker.unpack

    def their_count(self: compression_utils.ZLibDecompressor, data: bytes, *more: int) -> bytes:
        got = theirs(self, data, *more)
        lengths.append(len(got))
        return got

    def our_count(self: compress.Unpacker, chunk: bytes, most: int) -> bytes:
        got = ours(self, chunk, most)
        lengths.append(len(got))
        return got

    monkeypatch.setattr(compression_utils.ZLibDecompressor, "decompress_sync", their_count)
    monkeypatch.setattr(compress.Unpacker, "unpack", our_count)
    return lengths


@pytest.mark.parametrize("coding", ["deflate", "x-gzip", "br", "zstd", "gzip, gzip", "br, gzip", "nothing"])
async def test_T31_nothing_is_unpacked_from_a_coding_that_is_not_taken(
    gateway: Running, device: Device, unpacked: list[int], coding: str
) -> None:
    known = f"Authorization: {device.headers['Authorization']}"
    for method, path, *headers in (
        ("POST", "/passbook/_bulk_get"),
        ("POST", "/passbook/_bulk_get", known),
        ("POST", "/passbook/_bulk_get", "Authorization: Basic bm9ib2R5Om5vdGhpbmc="),
        ("PUT", "/passbook/_local/abcdefghijklmnop", known),
        ("POST", "/wiped"),
        ("POST", "/nothing"),
        ("GET", "/passbook"),
    ):
        raw = await Raw.connect(gateway.url)
        raw.writer.write(request(path, bomb(), f"Content-Encoding: {coding}", *headers, method=method))
        raw.read()
        assert (await raw.over(), raw.status) == ("end", 415), (method, path)
        said = json.loads(raw.body)
        assert (said["code"], said["error"]) == ("unsupported_encoding", "bad_content_type")
        await raw.close()
    assert not unpacked


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "identity, gzip"])
async def test_T31_gzip_is_unpacked_for_a_device_alone_and_no_further_than_its_limit(
    gateway: Running, device: Device, unpacked: list[int], coding: str
) -> None:
    stranger = "Authorization: Basic bm9ib2R5Om5vdGhpbmc="
    known = f"Authorization: {device.headers['Authorization']}"
    for method, path, status, *headers in (
        ("POST", "/passbook/_bulk_get", 401),
        ("POST", "/passbook/_bulk_get", 401, stranger),
        ("POST", "/wiped", 401, stranger),
        ("POST", "/wiped", 401, known),  # it has no order to wipe
        ("POST", "/nothing", 404, known),
        ("GET", "/passbook", 200, known),
    ):
        raw = await Raw.connect(gateway.url)
        raw.writer.write(
            request(path, bomb(), f"Content-Encoding: {coding}", "Connection: close", *headers, method=method)
        )
        raw.read()
        await raw.over()
        assert raw.status == status, (method, path)
        await raw.close()
    assert not unpacked
    for path, limit in (("_bulk_get", bodies.ASKING), ("_bulk_docs", bodies.MEGABYTE)):
        raw = await Raw.connect(gateway.url)
        raw.writer.write(request(f"/passbook/{path}", bomb(), f"Content-Encoding: {coding}", known))
        raw.read()
        await raw.over()
        assert raw.status == 413
        assert sum(unpacked) <= limit + 1
        unpacked.clear()
        await raw.close()


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_a_client_that_compresses_is_served(device: Device, declared: bool) -> None:
    """Some clients of CouchDB compress unasked."""
    asked = {f"loan:{number}": ["1-a"] for number in range(500)}
    packed = gzip.compress(json.dumps(asked).encode())
    headers = {**device.headers, "Content-Type": "application/json", "Content-Encoding": "gzip"}

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), 100):
            yield packed[start : start + 100]

    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{device.url}/_revs_diff", data=packed if declared else pieces(), headers=headers) as response,
    ):
        assert (response.status, len(await response.json())) == (200, 500)


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda whole: whole[:-9],
        lambda whole: whole + whole,
        lambda whole: whole + b"x",
        lambda whole: b"{}" + whole,
    ],
    ids=["cut off", "two", "more behind", "no gzip"],
)
async def test_T31_what_is_not_one_whole_gzip_stream_is_refused(
    device: Device, spoilt: Callable[[bytes], bytes]
) -> None:
    body = spoilt(gzip.compress(b'{"a": ["1-a"]}'))
    headers = {**device.headers, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{device.url}/_revs_diff", data=body, headers=headers) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (400, "bad_request")


async def test_T31_who_waits_for_leave_to_send_gets_none(gateway: Running) -> None:
    raw = await Raw.connect(gateway.url)
    head = request("/passbook/_bulk_get", b"", "Content-Encoding: br", "Expect: 100-continue")
    raw.writer.write(head.replace(b"Content-Length: 0", b"Content-Length: 300000"))
    raw.read()
    assert (await raw.over(), raw.status) == ("end", 415)
    await raw.close()


async def test_T31_a_body_that_is_as_it_is_is_taken(device: Device) -> None:
    async with aiohttp.ClientSession() as http:
        for coding in ("identity", "Identity", ""):
            headers = {**device.headers, "Content-Type": "application/json", "Content-Encoding": coding}
            async with http.post(f"{device.url}/_revs_diff", data=b'{"a": ["1-a"]}', headers=headers) as response:
                assert (response.status, await response.json()) == (200, {"a": {"missing": ["1-a"]}})


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_T31_of_a_body_that_is_refused_little_is_taken(gateway: Running, declared: bool) -> None:
    """So that the answer arrives, some of it; not as much as somebody likes to send."""
    raw = await Raw.connect(gateway.url)
    raw.read()
    length = b"Content-Length: 100000000" if declared else b"Transfer-Encoding: chunked"
    raw.writer.write(b"POST /passbook/_bulk_get HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n")
    piece = bytes(100_000) if declared else b"186a0\r\n" + bytes(100_000) + b"\r\n"
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 100_000_000:
            raw.writer.write(piece)
            await raw.writer.drain()
            sent += len(piece)
    assert (raw.ended, raw.status) == ("end", 401)
    assert sent < 20_000_000  # what the system has taken of it, far more than the gateway has read
    await raw.close()
    await until(lambda: not gateway.left)
