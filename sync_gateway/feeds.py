"""Live feeds: the gateway asks CouchDB what there is, and then waits itself.

CouchDB is asked for a feed that ends at once when there is nothing more, so an idle device costs it neither a
connection nor a process. What is new comes line by line and is passed on as it comes. While there is nothing, the
gateway keeps the device's connection alive and waits for the person's bell to ring. To the device all this looks as
if CouchDB did it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
import structlog
from aiohttp import web

from sync_gateway import compress, delivery
from sync_gateway.answers import COMMON_HEADERS, Problem, unavailable
from sync_gateway.credentials import Principal
from sync_gateway.delivery import ROUTE, STALLED_FOR
from sync_gateway.hub import Bell, Hub
from sync_gateway.proxy import Upstream
from sync_gateway.routes import Match

#: Seconds after which CouchDB is asked without a ring: the net for a write that nobody told of.
RECHECK = 600.0
#: What CouchDB takes for a feed that asks for neither a heartbeat nor an end.
_ENDS_AFTER_MS = 60_000
#: Handed to CouchDB with every question; the rest of the query is about waiting, which is ours.
_ASKED = ("attachments", "conflicts", "filter", "include_docs", "seq_interval", "style", "doc_ids")
Alive = Callable[[], None]
_LONGEST_LINE = 64 * 1024 * 1024

log = structlog.get_logger()


class _Last(msgspec.Struct):
    """The last line of an answer."""

    last_seq: Any
    pending: Any = 0


_LAST = msgspec.json.Decoder(_Last)


class _Cutoff(Exception):
    """CouchDB broke off in the middle."""


class Feeds:
    """Answers `feed=longpoll` and `feed=continuous`."""

    def __init__(self, upstream: Upstream, hub: Hub) -> None:
        self._upstream = upstream
        self._hub = hub

    async def serve(
        self, request: web.Request, match: Match, principal: Principal, body: Any, alive: Alive
    ) -> web.StreamResponse:
        """Answer a live feed; `alive` is called now and then while the device listens."""
        device = _Device(request, continuous=match.query["feed"] == "continuous")
        try:
            with self._hub.held(principal.person_id, principal.written) as bell:
                feed = _Feed(self._upstream, self._hub, bell, request.method, match, principal, body)
                await feed.run(device, alive)
        except BaseException as error:
            ours = isinstance(error, Problem | _Cutoff | aiohttp.ClientError | TimeoutError | ConnectionError)
            if ours:
                log.info("feed_broken_off", route=request.get(ROUTE), error=type(error).__name__)
            if device.response.prepared:
                # Half an answer is out: only a broken connection says that this is not all.
                if request.transport is not None:
                    request.transport.abort()
                if ours:
                    return device.response
            elif ours and not isinstance(error, Problem):
                raise unavailable() from error
            raise
        return device.response


class _Device:
    """The answer, as CouchDB writes it."""

    def __init__(self, request: web.Request, *, continuous: bool) -> None:
        self.request = request
        self._continuous = continuous
        self.response = web.StreamResponse(headers={**COMMON_HEADERS, "Content-Type": "application/json"})
        self._shrink: compress.LiveCompressor | None = None
        if compress.accepts_gzip(request.headers.get("Accept-Encoding", "")):
            self.response.headers["Content-Encoding"] = "gzip"
            self.response.headers["Vary"] = "Accept-Encoding"
            self._shrink = compress.LiveCompressor()
        self._begun = False
        self.rows = 0
        #: When the device last got something.
        self.heard_at = time.monotonic()

    async def begin(self) -> None:
        """Send what comes before everything else, so that the device sees that it is being served."""
        if not self._begun:
            self._begun = True
            await self._write(b"\n" if self._continuous else b'{"results":[\n')

    async def give(self, rows: list[bytes]) -> None:
        if self._continuous:
            data = b"\n".join(rows) + b"\n"
        else:
            data = (b",\n" if self.rows else b"") + b",\n".join(rows)
            if not self._begun:
                data = b'{"results":[\n' + data
        self._begun = True
        self.rows += len(rows)
        await self._write(data)

    async def beat(self) -> None:
        await self._write(b"\n")

    async def end(self, since: str, pending: Any) -> None:
        # As the server writes it: CouchDB a text, the embedded server a number.
        last = msgspec.json.encode({"last_seq": int(since) if since.isdigit() else since, "pending": pending})
        if not self._continuous:
            await self.begin()
            last = b"\n],\n" + last[1:]
        await self._write(last + b"\n")
        async with asyncio.timeout(STALLED_FOR):
            if self._shrink is not None:
                await self.response.write(self._shrink.finish())
            await self.response.write_eof()

    async def _write(self, data: bytes) -> None:
        out = self._shrink.compress(data) if self._shrink else data
        compress.save(self.request, len(data) - len(out))
        async with asyncio.timeout(STALLED_FOR):
            if not self.response.prepared:
                await self.response.prepare(self.request)
            await self.response.write(out)
        self.heard_at = time.monotonic()


class _Feed:
    """One live feed: where it has come to, and what it still waits for."""

    def __init__(
        self, upstream: Upstream, hub: Hub, bell: Bell, method: str, match: Match, principal: Principal, body: Any
    ) -> None:
        query = match.query
        self._upstream, self._hub, self._bell = upstream, hub, bell
        self._method, self._principal, self._body = method, principal, body
        self._match = replace(match, query={name: query[name] for name in _ASKED if name in query})
        self._continuous = query["feed"] == "continuous"
        self._since = query.get("since", "0")
        #: While there is so much that it takes one of those of large answers.
        self._place: delivery.Place | None = None
        self._pending: Any = 0
        # CouchDB's documentation takes a limit of 0 for 1.
        self._left = max(1, int(query["limit"])) if "limit" in query else None
        self._heartbeat = int(query["heartbeat"]) / 1000 if "heartbeat" in query else None
        # As for CouchDB, a feed with a heartbeat has no end.
        self._ends_after = None if self._heartbeat else int(query.get("timeout", _ENDS_AFTER_MS)) / 1000

    async def run(self, device: _Device, alive: Alive) -> None:
        """Serve the device to the end of the feed."""
        idle_since = time.monotonic()
        while True:
            seen = self._bell.rung
            before = device.rows
            await self._pass_on(device)
            if self._left == 0 or (device.rows and not self._continuous):
                break
            if device.rows > before:
                idle_since = time.monotonic()
            await device.begin()
            if not await self._wait(device, alive, seen, idle_since):
                break
        if self._continuous and self._hub.closed:
            # The end is not the feed's but this process's: the device is to come again.
            raise _Cutoff
        await device.end(self._since, self._pending)

    async def _pass_on(self, device: _Device) -> None:
        """Everything there is now."""
        async with contextlib.aclosing(self._lines(device.request)) as answer:
            async for lines in answer:
                last = _LAST.decode(lines.pop()) if lines[-1].startswith(b'{"last_seq"') else None
                if any(not line.startswith(b'{"seq"') for line in lines):
                    raise _Cutoff  # an error, in the middle of the rows
                if lines:
                    async with contextlib.nullcontext() if self._place is None else self._place.taking():
                        await device.give(lines)
                    if self._left is not None:
                        self._left -= len(lines)
                if last is not None:
                    self._since, self._pending = str(last.last_seq), last.pending
                    return
        # Before its last line: the device asks again from where it was.
        raise _Cutoff

    async def _lines(self, request: web.Request) -> AsyncGenerator[list[bytes], None]:
        """What CouchDB answers, as many whole lines at a time as there are."""
        query = {**self._match.query, "feed": "continuous", "timeout": "1", "since": self._since}
        if self._left is not None:
            query["limit"] = str(self._left)
        match = replace(self._match, query=query)
        async with contextlib.AsyncExitStack() as held:
            person, slots = self._principal.person_id, self._upstream.slots
            answer = await held.enter_async_context(self._asked(match))
            beginning: deque[bytes] = deque()
            if await delivery.begin(answer, beginning):
                await held.aclose()  # CouchDB's connection is free, however slowly the device reads
            else:
                try:
                    await held.enter_async_context(slots.turn_now(person))
                except delivery.OthersFirst:
                    await held.aclose()
                    beginning.clear()
                    await held.enter_async_context(slots.turn(person))
                    answer = await held.enter_async_context(self._asked(match))
                self._place = await held.enter_async_context(slots.one(person, request))
                held.callback(self._without_place)
            kept = bytearray()
            async for chunk in delivery.chunks(beginning, answer):
                kept += chunk
                if len(kept) > _LONGEST_LINE:
                    raise _Cutoff
                if b"\n" in chunk:
                    whole, _, rest = kept.rpartition(b"\n")
                    kept = bytearray(rest)
                    lines = [bytes(line) for line in whole.split(b"\n") if line.strip()]
                    if lines:
                        yield lines

    def _asked(self, match: Match) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._upstream.asked(self._method, match, self._principal, self._body)

    def _without_place(self) -> None:
        self._place = None

    async def _wait(self, device: _Device, alive: Alive, seen: int, idle_since: float) -> bool:
        """Wait until there may be something new; False when the feed is to end instead."""
        # Not all at once: whoever began together would ask CouchDB together.
        recheck_at = time.monotonic() + RECHECK * random.uniform(0.8, 1.2)
        while not self._hub.closed:
            now = time.monotonic()
            next_at = recheck_at
            if self._ends_after is not None:
                if now >= idle_since + self._ends_after:
                    return False
                next_at = min(next_at, idle_since + self._ends_after)
            if self._heartbeat is not None:
                if now >= device.heard_at + self._heartbeat:
                    await device.beat()
                    alive()
                    continue
                next_at = min(next_at, device.heard_at + self._heartbeat)
            if now >= recheck_at or await self._bell.next(seen, next_at - now):
                return True
        return False
