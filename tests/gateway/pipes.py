"""What stands between the parts in tests, and can fail on command: before CouchDB, before PostgreSQL, and a device
that speaks HTTP by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.engine import make_url

from passbook import couch_access
from sync_gateway.app import Parts, build, serving
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.proxy import Upstream
from sync_gateway.watch import Watch
from tests.gateway.conftest import Device
from tests.support.roles import as_process

WITHIN = 10.0
#: Breaks the connections on which gateways listen for notices.
DEAFEN = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')"
)


async def until(condition: Callable[[], Any], what: str = "", within: float = WITHIN) -> Any:
    """The first true result of `condition`."""
    end = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {within} s: {what or condition}"
        await asyncio.sleep(0.005)
    return result


@dataclass
class Running:
    """A gateway in this process, with what is inside."""

    url: str
    parts: Parts
    watch: Watch
    credentials: DatabaseCredentials
    upstream: Upstream

    @property
    def empty(self) -> bool:
        """Whether nothing is open: no request, no feed."""
        return len(self.parts.requests) == 0 and len(self.parts.hub) == 0

    @property
    def left(self) -> dict[str, int]:
        """What there is of everything that a request takes, and that must be nothing when there is none."""
        requests, limits, session = self.parts.requests, self.parts.limits, self.upstream._session
        assert session is not None
        assert isinstance(session.connector, aiohttp.TCPConnector)
        pool: Any = self.credentials._engine.pool
        found = {
            "requests": len(requests),
            "feeds": requests.feeds.total(),
            "people": len(requests._of_person),
            "bells": len(self.parts.hub),
            "admitted": limits.requests + limits.feeds + len(limits._devices) + len(limits._persons),
            "connections": limits.connections(),
            "to CouchDB": len(session.connector._acquired),
            "to the service database": pool.checkedout(),
            "questions": len(self.credentials._asking),
        }
        return {what: count for what, count in found.items() if count}

    def of(self, device: Device) -> Device:
        """The device, at this gateway."""
        return Device(device.id, device.secret, device.person, device.database, f"{self.url}/passbook")


@contextlib.asynccontextmanager
async def running(
    service_url: str, couch_url: str, *, grace: float = 300.0, notices_from: str = "", parts: Parts | None = None
) -> AsyncIterator[Running]:
    """A gateway as `passbook gateway` puts it together."""
    service_url, notices_from = (
        as_process(service_url, "gateway"),
        notices_from and as_process(notices_from, "gateway"),
    )
    credentials = DatabaseCredentials.at(service_url, grace=grace)
    access, _ = await couch_access.prepare(couch_url, connect_seconds=5)
    parts = parts or Parts.new()
    watch = Watch(notices_from or service_url, credentials, parts.requests, parts.hub)
    upstream = Upstream(couch_url, access)
    application = build(credentials, upstream, parts)
    try:
        async with watch.watching(), serving(application, "127.0.0.1", 0) as port:
            await asyncio.wait_for(watch.listening.wait(), WITHIN)
            yield Running(f"http://127.0.0.1:{port}", parts, watch, credentials, upstream)
    finally:
        await credentials.close()


class Door:
    """An HTTP proxy before CouchDB: counts, holds answers back, breaks them off."""

    def __init__(self) -> None:
        #: Path and query of every question that is about changes.
        self.questions: list[str] = []
        #: Answers that are on their way now.
        self.passing = 0
        self._open = asyncio.Event()
        self._open.set()
        #: Answers that CouchDB has given in full and that wait here.
        self.waiting = 0
        #: After so many bytes of an answer about changes the connection is torn, once.
        self.tear_after: int | None = None
        self.url = ""

    def count(self, database: str) -> int:
        return sum(f"/{database}/" in question for question in self.questions)

    def shut(self) -> None:
        """Answers about changes wait from now on: CouchDB has given them, the gateway has not got them."""
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, couch_url: str) -> AsyncIterator[Door]:
        door = cls()
        parts = urlsplit(couch_url)
        target = f"http://{parts.hostname}:{parts.port}"
        application = web.Application(client_max_size=2**30)
        async with aiohttp.ClientSession(auto_decompress=False) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                door.passing += 1
                try:
                    return await door._passed(request, session, target)
                finally:
                    door.passing -= 1

            application.router.add_route("*", "/{tail:.*}", handle)
            async with serving(application, "127.0.0.1", 0) as port:
                door.url = f"http://{parts.username}:{parts.password}@127.0.0.1:{port}"
                yield door
                door.open()

    async def _passed(
        self, request: web.Request, session: aiohttp.ClientSession, target: str
    ) -> web.StreamResponse:
        about_changes = "/_changes" in request.path
        if about_changes:
            self.questions.append(request.raw_path)
        headers = {
            name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers
        }
        async with session.request(
            request.method, target + request.raw_path, data=await request.read(), headers=headers
        ) as answer:
            body = await answer.read()
        if about_changes:
            self.waiting += 1
            await self._open.wait()
            self.waiting -= 1
        response = web.StreamResponse(
            status=answer.status, headers={"Content-Type": answer.headers.get("Content-Type", "")}
        )
        await response.prepare(request)
        if about_changes and self.tear_after is not None and len(body) > self.tear_after:
            await response.write(body[: self.tear_after])
            await asyncio.sleep(0.05)  # or the end comes before what was sent
            self.tear_after = None
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(body)
        await response.write_eof()
        return response


class Pipe:
    """A TCP proxy before PostgreSQL."""

    def __init__(self, service_url: str) -> None:
        url = make_url(service_url)
        host = str(url.query.get("host", url.host))
        self._target = host if host.startswith("/") else ""
        self._address = (url.host or "127.0.0.1", url.port or 5432)
        self._socket = f"{host}/.s.PGSQL.{url.query.get('port', url.port or 5432)}"
        self._url = url
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: New connections are torn at once.
        self.refuses = False
        self.connections = 0
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, service_url: str) -> AsyncIterator[Pipe]:
        pipe = cls(service_url)
        server = await asyncio.start_server(pipe._taken, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pipe.url = pipe._url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        try:
            yield pipe
        finally:
            server.close()
            pipe.tear()
            for task in pipe._tasks:
                task.cancel()
            await asyncio.gather(*pipe._tasks, return_exceptions=True)

    def tear(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """From now on nothing goes through the connections that exist, and neither side is told; new ones work."""
        for task in self._tasks:
            task.cancel()

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        self.connections += 1
        if self._target:
            back_reader, back_writer = await asyncio.open_unix_connection(self._socket)
        else:
            back_reader, back_writer = await asyncio.open_connection(*self._address)
        self._writers |= {writer, back_writer}
        for source, sink in ((reader, back_writer), (back_reader, writer)):
            self._tasks.add(asyncio.create_task(self._flow(source, sink)))

    async def _flow(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        # Cancelled, it leaves both ends open.
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


@dataclass
class Raw:
    """A device that speaks HTTP by hand, one request a connection, and remembers when it got what."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    #: The body so far, chunks put together.
    body: bytes = b""
    #: When the last byte came.
    at: float = 0.0
    #: How it ended: `end` in order, `torn` otherwise.
    ended: str = ""
    #: Set whenever something came, and at the end.
    heard: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _task: asyncio.Task[None] | None = field(default=None, repr=False)

    @classmethod
    async def connect(cls, url: str, *, limit: int = 2**16) -> Raw:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=limit))

    @classmethod
    async def asks(
        cls, device: Device, path: str, *, method: str = "GET", body: bytes | None = None, reads: bool = True
    ) -> Raw:
        """Ask for a path below the database, and read on and on unless told not to."""
        raw = await cls.connect(device.url)
        raw.send(device, path, method=method, body=body)
        if reads:
            raw.read()
        return raw

    def send(self, device: Device, path: str, *, method: str = "GET", body: bytes | None = None) -> None:
        head = f"{method} /passbook/{path} HTTP/1.1\r\nHost: x\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in device.headers.items())
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(head.encode() + b"\r\n" + (body or b""))

    def read(self) -> None:
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            self.at = time.monotonic()
            self.status = int(head.split(b" ", 2)[1])
            if b"transfer-encoding: chunked" in head.lower():
                while True:
                    size = int(await self.reader.readline() or b"x", 16)
                    data = (await self.reader.readexactly(size + 2))[:-2]
                    self.at = time.monotonic()
                    self.body += data
                    self.heard.set()
                    if not size:
                        break
            else:
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                self.body = await self.reader.readexactly(length)
            self.ended = "end"
        except (OSError, ValueError, EOFError):
            self.ended = "torn"
        self.heard.set()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The whole rows of a continuous feed."""
        whole = self.body.rpartition(b"\n")[0].split(b"\n")
        return [json.loads(line) for line in whole if line.strip()]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of a feed of either kind; of a long poll that has ended."""
        if self.body.lstrip().startswith(b'{"results"'):
            return json.loads(self.body)["results"] if self.ended == "end" else []
        return [line for line in self.lines if "id" in line]

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.rows]

    async def over(self, within: float = WITHIN) -> str:
        """How it ended, once it has."""
        await until(lambda: self.ended, "the end of the answer", within)
        return self.ended

    async def close(self) -> None:
        self.writer.transport.abort()  # first: whoever waits may be cancelled
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def feed(device: Device, query: str = "feed=continuous&heartbeat=1000", **options: Any) -> AsyncIterator[Raw]:
    """A live feed that is being served: what comes before everything else has come."""
    raw = await Raw.asks(device, f"_changes?{query}", **options)
    try:
        async with asyncio.timeout(WITHIN):
            await raw.heard.wait()
        yield raw
    finally:
        await raw.close()


async def repeat(every: float, act: Callable[[int], Awaitable[None]]) -> None:
    """Do something again and again, until cancelled."""
    number = 0
    while True:
        await act(number)
        number += 1
        await asyncio.sleep(every)
