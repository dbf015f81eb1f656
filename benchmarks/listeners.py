"""Many devices that listen, in a process of their own: `python -m benchmarks.listeners`.

They speak HTTP by hand, because a library's client would cost more than the server that is measured. The first
line of standard input is JSON: `host`, `port`, and `feeds`, a list of `[path, authorization]`. When every one of
them has got its first byte the process says `{"open": …}`. Each further line is a question: for every feed, when
its last byte came, when it ended, and, in order, when each of its rows came. Times are those of the system's
monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

#: Connections that are being made at the same time.
AT_ONCE = 64


class Listener(asyncio.Protocol):
    """One feed."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = ""
        self.last_byte_at = 0.0
        self.ended_at = 0.0
        self.row_at: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.last_byte_at = time.monotonic()
        if not self.status:
            self.status = data[9:12].decode()
        if b'"seq"' in data:
            self.row_at.append(self.last_byte_at)
        if not self.begun.done():
            self.begun.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        self.ended_at = time.monotonic()
        if not self.begun.done():
            self.begun.set_result(None)

    def as_json(self) -> dict[str, Any]:
        return {"last_byte_at": self.last_byte_at, "ended_at": self.ended_at, "row_at": self.row_at}


async def listen(host: str, port: int, feeds: list[tuple[str, str]], more: str) -> None:
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(AT_ONCE)
    started = time.monotonic()

    async def opened(path: str, authorization: str) -> Listener:
        head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: {authorization}\r\n{more}\r\n"
        async with room:
            _, listener = await loop.create_connection(lambda: Listener(head.encode()), host, port)
            await listener.begun
        return listener

    listeners = await asyncio.gather(*(opened(path, authorization) for path, authorization in feeds))
    refused = [one.status for one in listeners if one.status != "200"]
    print(json.dumps({"open": len(feeds), "refused": refused, "seconds": time.monotonic() - started}), flush=True)
    lines = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps([listener.as_json() for listener in listeners]), flush=True)


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(listen(**json.loads(sys.stdin.readline())))
