"""Who waits for the next change of whose database, and what wakes them.

A waiter says which number of changes it has seen *before* it asks CouchDB, and then waits for a higher one. A
change between the question and the wait has raised the number by then, so it is never missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime


class Bell:
    """One person's: how often it has rung, and who listens."""

    def __init__(self, hub: Hub, written: datetime | None) -> None:
        self._hub = hub
        self._waiting: set[asyncio.Future[None]] = set()
        #: How many feeds of this person are open.
        self.holders = 0
        #: How often something was written.
        self.rung = 0
        #: The writing that everybody here knows of: rung for, or told before they asked CouchDB.
        self.written = written

    async def next(self, seen: int, seconds: float) -> bool:
        """Wait until this has rung more often than `seen`; False after `seconds`, or if the hub closes."""
        if self.rung > seen or seconds <= 0 or self._hub.closed:
            return self.rung > seen
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.add(waiter)
        # A timer of the loop, not `asyncio.timeout`: ten thousand wait here, and each costs as little as can be.
        timer = loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiting.discard(waiter)
        return self.rung > seen

    def wake(self) -> int:
        """Wake everybody who waits; how many."""
        woken = sum(_wake(waiter) for waiter in self._waiting)
        self._waiting.clear()
        return woken


class Hub:
    """The bells of everybody who has a feed open here. Belongs to one event loop."""

    def __init__(self) -> None:
        self._bells: dict[str, Bell] = {}
        #: Feeds are to end: this process stops.
        self.closed = False
        #: How many waiters were woken by writings, for the metrics.
        self.wakes = 0

    def __len__(self) -> int:
        return len(self._bells)

    @contextmanager
    def held(self, person: str, written: datetime | None) -> Iterator[Bell]:
        """The person's bell, for as long as a feed of theirs is open.

        `written` is the last writing that was known of before CouchDB is asked. It counts for the first feed only:
        those that are open have yet to be told.
        """
        bell = self._bells.get(person)
        if bell is None:
            bell = self._bells[person] = Bell(self, written)
        bell.holders += 1
        try:
            yield bell
        finally:
            bell.holders -= 1
            if not bell.holders:
                del self._bells[person]

    def ring(self, person: str, written: datetime | None) -> None:
        """A database was last written to by the transaction of this time: wake those not yet told of it."""
        bell = self._bells.get(person)
        if bell is None or bell.written == written:
            return
        bell.written = written
        bell.rung += 1
        self.wakes += bell.wake()

    def close(self) -> None:
        """Nobody waits from now on."""
        self.closed = True
        for bell in self._bells.values():
            bell.wake()


def _wake(waiter: asyncio.Future[None]) -> bool:
    if waiter.done():
        return False
    waiter.set_result(None)
    return True
