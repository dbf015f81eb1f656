"""Sees to it that what is open here is what may be: breaks off requests when access ends, wakes feeds when there is
something new. Notices come within milliseconds; the tables are asked now and then in case one was lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime

import structlog

from sync_gateway.answers import Problem
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.hub import Hub
from sync_gateway.notices import Access, Gap, Lost, Notice, Written, notices
from sync_gateway.open_requests import OpenRequests

log = structlog.get_logger()

#: Seconds between two looks at the clock for credentials that expire.
TICK = 0.25
#: Seconds between two looks at the tables for everything that is open.
POLL = 5.0
#: The same while no notices come, or the last look failed.
POLL_DEAF = 1.0
#: Seconds after which work that failed begins anew.
AGAIN_AFTER = 0.25


class Watch:
    """Watches over the open requests of one process."""

    def __init__(
        self, service_url: str, credentials: DatabaseCredentials, requests: OpenRequests, hub: Hub
    ) -> None:
        self._service_url = service_url
        self._credentials = credentials
        self._requests = requests
        self._hub = hub
        #: Devices whose access may have changed, and whether everybody's may have.
        self._suspects: set[str] = set()
        self._everybody = False
        self._suspicion = asyncio.Event()
        #: Whether the last look told nothing.
        self._blind = False
        #: Set while notices come; a gateway is ready when they do.
        self.listening = asyncio.Event()
        #: When notices were lost, on the monotonic clock; None while they come, and before they ever did.
        self.deaf_since: float | None = None

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch until this ends."""
        tasks = [
            asyncio.create_task(self._again_and_again(work))
            for work in (self._listen, self._look_after, self._tick)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self, devices: Sequence[str]) -> bool:
        """Ask how these devices stand: break off what may no longer be, wake what has missed something.

        False if nobody can tell.
        """
        try:
            standing = await self._credentials.standing(devices) if devices else {}
        except Problem:
            self._blind = True
            return False
        self._blind = False
        for device, one in standing.items():
            if one.principal is None:
                self._cut([device], one.refusal)
            elif self._requests.confirm(one.principal):
                self._hub.ring(one.principal.person_id, one.principal.written)
            else:
                self._cut([device], "replaced")
        return True

    async def _listen(self) -> None:
        async for notice in notices(self._service_url, self._credentials.outage):
            self._heard(notice)

    def _heard(self, notice: Notice) -> None:
        match notice:
            case Written(at, people):
                for person in people:
                    self._hub.ring(person, at)
                return
            case Access(kind, name):
                self._credentials.forget(kind, name)
                if kind == "device":
                    self._suspects.add(name)
                elif kind == "person":
                    self._suspects.update(self._requests.devices_of(name))
                else:
                    self._everybody = True
            case Gap():
                self._everybody = True
                self.deaf_since = None
                self.listening.set()
            case Lost():
                self._everybody = True
                if self.listening.is_set():
                    self.deaf_since = time.monotonic()
                self.listening.clear()
        self._requests.told += 1
        self._suspicion.set()

    async def _look_after(self) -> None:
        """Look at whoever may have lost access, at once, and at everybody now and then."""
        looked_at = time.monotonic()
        while True:
            pause = POLL if self.listening.is_set() and not self._everybody else POLL_DEAF
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, looked_at + pause - time.monotonic())):
                    await self._suspicion.wait()
            self._suspicion.clear()
            everybody = self._everybody or time.monotonic() >= looked_at + pause
            suspects, self._suspects, self._everybody = self._suspects, set(), False
            devices = self._requests.devices()
            if everybody:
                looked_at = time.monotonic()
            else:
                devices = [device for device in devices if device in suspects]
            if (everybody or devices) and not await self.look(devices):
                # Whoever it was about will be among everybody.
                self._everybody = True
            else:
                # What was just heard of stands in the audit log: remember it, before another database may come.
                with contextlib.suppress(Problem):
                    await self._credentials.look()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            expired = self._requests.expired(datetime.now(UTC))
            if expired and not await self.look(expired):
                self._cut(expired, "expired")
            if self._blind:
                # Nobody can tell any more who may read: nothing stays open on old knowledge.
                self._cut(self._requests.unconfirmed(self._credentials.grace), "unverifiable")

    def _cut(self, devices: Iterable[str], reason: str) -> None:
        count = self._requests.cut(devices, reason)
        if count:
            log.info("cut", reason=reason, requests=count)

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever goes wrong: without this work whoever has lost access would read on."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("watch_failed")
                self._everybody = True
            await asyncio.sleep(AGAIN_AFTER)
