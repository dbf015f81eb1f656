"""Who waits for the next change of whose database, and what wakes them.

A waiter says which number of changes it has seen *before* it asks CouchDB, and then waits for a higher one. A
change between the question and the wait has raised the number by then, so it is never missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class _Bell:
    """One person's: how often it has rung, and who listens."""

    rung: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)


class Hub:
    """The bells of everybody who has a feed open here. Belongs to one event loop."""

    def __init__(self) -> None:
        self._bells: dict[str, _Bell] = {}
        self._holders: dict[str, int] = {}
        #: How many waiters were woken, for the metrics.
        self.wakes = 0

    def hold(self, person: str) -> None:
        """A feed of this person is open: its bell is kept until `release`."""
        self._bells.setdefault(person, _Bell())
        self._holders[person] = self._holders.get(person, 0) + 1

    def release(self, person: str) -> None:
        """A feed of this person has ended."""
        self._holders[person] -= 1
        if not self._holders[person]:
            del self._holders[person]
            del self._bells[person]

    def rung(self, person: str) -> int:
        """How often the person's bell has rung. Only for one that is held."""
        return self._bells[person].rung

    def ring(self, people: Iterable[str]) -> None:
        """Something was written to these people's databases."""
        for person in people:
            bell = self._bells.get(person)
            if bell is None:
                continue
            bell.rung += 1
            for waiter in bell.waiting:
                if not waiter.done():
                    waiter.set_result(None)
                    self.wakes += 1
            bell.waiting.clear()

    def people(self) -> list[str]:
        """Everybody with a feed open here."""
        return list(self._bells)

    async def next(self, person: str, seen: int, seconds: float) -> bool:
        """Wait until the bell has rung more often than `seen`; False if it has not after `seconds`."""
        bell = self._bells[person]
        if bell.rung > seen:
            return True
        if seconds <= 0:
            return False
        waiter = asyncio.get_running_loop().create_future()
        bell.waiting.add(waiter)
        # A timer of the loop, not `asyncio.timeout`: ten thousand wait here, and each costs as little as can be.
        timer = asyncio.get_running_loop().call_later(seconds, _late, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            bell.waiting.discard(waiter)
        return bell.rung > seen


def _late(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
