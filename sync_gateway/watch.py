"""Sees to it that what is open here is what may be: breaks off requests when access ends, wakes feeds when there is
something new. Notices come within milliseconds; the tables are asked now and then in case one was lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import structlog

from sync_gateway.answers import Problem
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.hub import Hub
from sync_gateway.notices import Access, Gap, Notice, Written, notices
from sync_gateway.open_requests import OpenRequests

log = structlog.get_logger()

#: Seconds between two looks at the clock for credentials that expire.
_TICK = 0.25
#: Seconds between two looks at the tables for everything that is open.
_POLL = 5.0
#: What was written so long before a gap is taken for new: a transaction may have told of it after it began.
_OVERLAP = 120.0


class Watch:
    """Watches over the open requests of one process."""

    def __init__(
        self, service_url: str, credentials: DatabaseCredentials, requests: OpenRequests, hub: Hub
    ) -> None:
        self._service_url = service_url
        self._credentials = credentials
        self._requests = requests
        self._hub = hub
        self._verified_at = time.monotonic()
        self._heard_at = time.monotonic()
        #: Set when notices come, for whoever waits for a gateway to be ready.
        self.listening = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch until this ends."""
        tasks = [asyncio.create_task(work()) for work in (self._listen, self._poll, self._tick)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self, devices: Sequence[str]) -> bool:
        """Break off the requests of those of `devices` that may no longer; False if it cannot be told."""
        if not devices:
            return True
        try:
            standing = await self._credentials.standing(devices)
        except Problem:
            return False
        for device, one in standing.items():
            if one.refusal is not None:
                count = self._requests.cut([device], one.refusal)
                if count:
                    log.info("cut", device=device, reason=one.refusal, requests=count)
            elif one.expires_at is not None:
                self._requests.prolong(device, one.expires_at)
        return True

    async def _listen(self) -> None:
        async for notice in notices(self._service_url):
            try:
                await self._heard(notice)
            except Exception:
                # One notice that cannot be dealt with must not end the listening: the poll sees to the rest.
                log.exception("notice not dealt with")

    async def _heard(self, notice: Notice) -> None:
        match notice:
            case Written(people):
                self._hub.ring(people)
            case Access("device", device):
                await self.look([device] if device in self._requests.devices() else [])
            case Access("person", person):
                await self.look(self._requests.devices_of(person))
            case Access():
                await self.look(self._requests.devices())
            case Gap():
                missed = time.monotonic() - self._heard_at + _OVERLAP
                await self.look(self._requests.devices())
                with contextlib.suppress(Problem):
                    self._hub.ring(await self._credentials.written_since(missed))
                self.listening.set()
        self._heard_at = time.monotonic()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_POLL)
            if await self.look(self._requests.devices()):
                self._verified_at = time.monotonic()
                with contextlib.suppress(Problem):
                    self._hub.ring(await self._written_lately())
            elif time.monotonic() - self._verified_at > self._credentials.grace:
                # Nobody can tell any more who may read: nothing stays open on old knowledge.
                self._requests.cut(self._requests.devices(), "unverifiable")

    async def _written_lately(self) -> list[str]:
        """Who was written to since the last poll: rung again, which costs CouchDB a look, for those held here."""
        held = set(self._hub.people())
        if not held:
            return []
        lately = await self._credentials.written_since(2 * _POLL)
        return [person for person in lately if person in held]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            expired = self._requests.expired(datetime.now(UTC))
            if expired and not await self.look(expired):
                self._requests.cut(expired, "expired")
