"""Live feeds: the gateway asks CouchDB what there is, and then waits itself.

CouchDB is asked for a feed that ends at once when there is nothing more, so an idle device costs it neither a
connection nor a process. What is new comes line by line and is passed on as it comes. While there is nothing, the
gateway keeps the device's connection alive and waits for the hub to ring.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from sync_gateway import compress
from sync_gateway.answers import COMMON_HEADERS
from sync_gateway.credentials import Principal
from sync_gateway.hub import Hub
from sync_gateway.proxy import STALLED_FOR, Upstream
from sync_gateway.routes import Match

#: Seconds after which CouchDB is asked without a ring: the net for a write that nobody told of.
RECHECK = 600.0
#: What CouchDB takes for a feed that asks for neither a heartbeat nor an end.
_ENDS_AFTER_MS = 60_000
#: Handed to CouchDB with every question; the rest of the query is about waiting, which is ours.
_ASKED = ("attachments", "conflicts", "filter", "include_docs", "seq_interval", "style", "doc_ids")
_LONGEST_LINE = 64 * 1024 * 1024


class _Last(msgspec.Struct):
    last_seq: Any
    pending: Any = 0


_LAST = msgspec.json.Decoder(_Last)


@dataclass
class _Place:
    """Where the feed has come to."""

    since: str
    left: int | None  # rows still wanted
    pending: Any = 0

    @property
    def full(self) -> bool:
        return self.left == 0


Written = Callable[[], Awaitable[None]]


class Feeds:
    """Answers `feed=longpoll` and `feed=continuous`."""

    def __init__(self, upstream: Upstream, hub: Hub, *, recheck: float = RECHECK) -> None:
        self._upstream = upstream
        self._hub = hub
        self._recheck = recheck

    async def serve(
        self, request: web.Request, match: Match, principal: Principal, body: Any, alive: Written
    ) -> web.StreamResponse:
        """Answer a live feed; `alive` is called now and then while the device listens."""
        self._hub.hold(principal.person_id)
        try:
            feed = _Feed(self._upstream, self._hub, request, match, principal, body, self._recheck, alive)
            return await feed.run()
        except BaseException:
            # Half an answer is out: only a broken connection says that this is not all.
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._hub.release(principal.person_id)


class _Feed:
    """One live feed."""

    def __init__(
        self,
        upstream: Upstream,
        hub: Hub,
        request: web.Request,
        match: Match,
        principal: Principal,
        body: Any,
        recheck: float,
        alive: Written,
    ) -> None:
        query = match.query
        self._upstream, self._hub, self._request, self._principal = upstream, hub, request, principal
        self._body, self._alive = body, alive
        self._recheck = recheck
        self._continuous = query["feed"] == "continuous"
        limit = query.get("limit")
        # CouchDB takes a limit of 0 for 1.
        self._place = _Place(query.get("since", "0"), None if limit is None else max(1, int(limit)))
        asked = {name: query[name] for name in _ASKED if name in query}
        self._match = replace(match, query=asked)
        heartbeat = query.get("heartbeat")
        self._heartbeat = None if heartbeat is None else int(heartbeat) / 1000
        timeout = int(query.get("timeout", _ENDS_AFTER_MS)) / 1000
        self._ends_after = timeout if self._heartbeat is None else None
        self._response = web.StreamResponse(headers={**COMMON_HEADERS, "Content-Type": "application/json"})
        self._shrink: compress.Compressor | None = None
        if compress.accepts_gzip(request.headers.get("Accept-Encoding", "")):
            self._response.headers["Content-Encoding"] = "gzip"
            self._response.headers["Vary"] = "Accept-Encoding"
            self._shrink = compress.Compressor(live=True)
        self._rows = 0

    async def run(self) -> web.StreamResponse:
        idle_since = time.monotonic()
        while True:
            seen = self._hub.rung(self._principal.person_id)
            before = self._rows
            await self._pass_on()
            if self._place.full or (self._rows and not self._continuous):
                return await self._end()
            if self._rows > before:
                idle_since = time.monotonic()
            if not await self._wait(seen, idle_since):
                return await self._end()

    async def _pass_on(self) -> None:
        """Everything there is now."""
        async for line in self._lines():
            if line.startswith(b'{"last_seq"'):
                last = _LAST.decode(line)
                self._place.since = last.last_seq if isinstance(last.last_seq, str) else str(last.last_seq)
                self._place.pending = last.pending
                return
            if self._continuous:
                await self._write(line + b"\n")
            else:
                await self._write((b",\n" if self._rows else b'{"results":[\n') + line)
            self._rows += 1
            if self._place.left is not None:
                self._place.left -= 1
        # CouchDB broke off before its last line: the device asks again from where it was.
        raise aiohttp.ClientPayloadError("the feed ended early")

    async def _lines(self) -> AsyncIterator[bytes]:
        query = {**self._match.query, "feed": "continuous", "timeout": "1", "since": self._place.since}
        if self._place.left is not None:
            query["limit"] = str(self._place.left)
        match = replace(self._match, query=query)
        async with self._upstream.asked(self._request.method, match, self._principal, self._body) as answer:
            if not self._response.prepared:
                await self._response.prepare(self._request)
            kept = bytearray()
            async for chunk in answer.content.iter_any():
                kept += chunk
                if len(kept) > _LONGEST_LINE:
                    raise aiohttp.ClientPayloadError("a line of the feed is too long")
                if b"\n" not in chunk:
                    continue
                lines = kept.split(b"\n")
                kept = lines.pop()
                for line in lines:
                    if line.strip():
                        yield bytes(line)

    async def _wait(self, seen: int, idle_since: float) -> bool:
        """Wait until there may be something new; False when the feed is to end instead."""
        # Not all at once: whoever began together would ask CouchDB together.
        recheck_at = time.monotonic() + self._recheck * random.uniform(0.8, 1.2)
        end = None if self._ends_after is None else idle_since + self._ends_after
        while True:
            now = time.monotonic()
            if end is not None and now >= end:
                return False
            if now >= recheck_at:
                return True
            pause = min(
                recheck_at - now,
                self._heartbeat if self._heartbeat is not None else recheck_at - now,
                end - now if end is not None else recheck_at - now,
            )
            if await self._hub.next(self._principal.person_id, seen, pause):
                return True
            if self._heartbeat is not None:
                await self._write(b"\n")
                await self._alive()

    async def _end(self) -> web.StreamResponse:
        last = msgspec.json.encode({"last_seq": _seq(self._place.since), "pending": self._place.pending})
        if self._continuous:
            await self._write(last + b"\n")
        else:
            head = b"\n],\n" if self._rows else b'{"results":[\n\n],\n'
            await self._write(head + last[1:] + b"\n")
        if self._shrink is not None:
            await self._response.write(self._shrink.finish())
        await self._response.write_eof()
        return self._response

    async def _write(self, data: bytes) -> None:
        out = self._shrink.compress(data) if self._shrink else data
        if out:
            async with asyncio.timeout(STALLED_FOR):
                await self._response.write(out)


def _seq(since: str) -> int | str:
    """As the server writes it: CouchDB a text, the embedded server a number."""
    return int(since) if since.isdigit() else since
