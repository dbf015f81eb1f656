"""Token buckets: how much of something each of many keys may have a minute. Those that are full are forgotten."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

#: Minutes' worth that may be owed: what is only known afterwards is paid with the next requests.
_DEBT = 10
_KNOWN = 100_000


class Buckets:
    """A token bucket for each key: so much a minute, and a minute's worth at once."""

    #: Seconds after which a bucket that nobody used is full, whatever it owed.
    _FULL_AFTER = 60.0 * (_DEBT + 1)

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, key: str, amount: float = 0.0) -> float:
        """Seconds until `amount` can be taken: 0 if now."""
        missing = amount - self._level(key)
        return max(0.0, missing * 60 / self._most)

    def take(self, key: str, amount: float) -> None:
        """Take `amount`, on credit if need be: what is only known afterwards is paid with the next request."""
        self._levels[key] = (max(self._level(key) - amount, -_DEBT * self._most), self._clock())
        self._levels.move_to_end(key)
        if len(self._levels) > _KNOWN:
            self._levels.popitem(last=False)
        while self._levels and self._clock() - next(iter(self._levels.values()))[1] > self._FULL_AFTER:
            self._levels.popitem(last=False)

    def _level(self, key: str) -> float:
        level, at = self._levels.get(key, (self._most, 0.0))
        return min(self._most, level + (self._clock() - at) * self._most / 60)
