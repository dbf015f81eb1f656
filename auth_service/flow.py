"""What slows down those who come with tokens: buckets of attempts in this process, which cost the database nothing.

Nobody guesses a token of 256 bits. What is slowed is the work that asking makes, so each process counts for itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Literal

from passbook.errors import TooMany

#: Buckets remembered; the one that was used longest ago goes first.
_REMEMBERED = 20_000
#: Seconds after which one who is refused is told so: whoever asks again at once does so once in this time.
_TOLD_AFTER = 1.0
#: Most who wait for that at the same time; others are told at once.
_MOST_WAITING = 500


class Flow:
    """Buckets that hold `burst` attempts and lose `rate` a second each. Safe among threads."""

    def __init__(
        self,
        burst: float,
        rate: float,
        *,
        limit: Literal["address", "session"],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst, self._rate, self._limit = burst, rate, limit
        self._monotonic = monotonic
        self._lock = Lock()
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._waiting = 0

    def charge(self, key: Hashable, cost: float = 1.0) -> None:
        """Count an attempt, or so much of one. Raises `TooMany` when the bucket is full; that is not counted."""
        now = self._monotonic()
        with self._lock:
            level, at = self._levels.pop(key, (0.0, now))
            level = max(0.0, level - self._rate * (now - at))
            full = level + cost > self._burst
            self._levels[key] = (level if full else level + cost, now)
            while len(self._levels) > _REMEMBERED:
                self._levels.popitem(last=False)
        if full:
            wait = max(1, math.ceil((level + cost - self._burst) / self._rate))
            raise TooMany("Too many requests; wait a little.", retry_after=wait, limit=self._limit)

    async def admit(self, key: Hashable, cost: float = 1.0) -> None:
        """As `charge`; a refusal takes a second, so that asking again at once does not keep this process busy."""
        try:
            self.charge(key, cost)
        except TooMany:
            if self._waiting < _MOST_WAITING:
                self._waiting += 1
                try:
                    await asyncio.sleep(_TOLD_AFTER)
                finally:
                    self._waiting -= 1
            raise
