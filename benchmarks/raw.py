"""The raw ceiling: the same bytes sent by a client that does nothing else, over plain sockets."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import psutil

from benchmarks.stage import cpu_seconds
from passbook.couch import CouchClient


async def replay(
    url: str, requests: Sequence[tuple[str, bytes, int]], connections: int, server: psutil.Process | None
) -> tuple[float, float]:
    """Send (database, body, count) requests into fresh databases, in order per database.

    Seconds it took, and CPU seconds that `server` spent on it.
    """
    names = {name: f"raw-{name}" for name, _, _ in requests}
    async with CouchClient(url, connections=connections) as couch:
        fresh = list(names.values())
        for start in range(0, len(fresh), 200):
            await asyncio.gather(*(couch.create_database(name, ["nobody"]) for name in fresh[start : start + 200]))
        parts = urlsplit(url)
        credentials = base64.b64encode(f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode())
        head = b"Host: x\r\nAuthorization: Basic " + credentials + b"\r\nContent-Type: application/json\r\n"
        prepared: dict[str, list[bytes]] = {}
        for name, body, _ in requests:
            length = str(len(body)).encode()
            request = b"POST /%s/_bulk_docs HTTP/1.1\r\n%sContent-Length: %s\r\n\r\n" % (
                names[name].encode(),
                head,
                length,
            )
            prepared.setdefault(name, []).append(request + body)
        waiting = iter(prepared.values())

        async def send() -> None:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            for group in waiting:
                for request in group:
                    writer.write(request)
                    await writer.drain()
                    await _answer(reader)
            writer.close()

        used = cpu_seconds(server) if server else 0.0
        started = time.monotonic()
        await asyncio.gather(*(send() for _ in range(connections)))
        took = time.monotonic() - started
        used = (cpu_seconds(server) if server else 0.0) - used
        for start in range(0, len(fresh), 200):
            await asyncio.gather(*(couch.delete_database(name) for name in fresh[start : start + 200]))
    return took, used


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    assert status in (201, 202), head
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while True:
            size = int((await reader.readuntil(b"\r\n")).strip(), 16)
            await reader.readexactly(size + 2)
            if size == 0:
                return
    length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
