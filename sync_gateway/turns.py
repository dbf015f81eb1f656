"""Work that keeps the event loop busy: little at a time, one person after the other, and with pauses in between.

While it is done nobody else is served: no request is read, and nothing is cut off that was revoked. So it gets a
part of the loop's time only, however much there is to do, and each person who waits has one piece in the queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

#: Of the loop's time, what this work may take while it queues.
SHARE = 0.25

_Result = TypeVar("_Result")


class Turns:
    """The turns of everybody. Belongs to one event loop."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()
        self._of_person: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        #: Processor time that was taken so far, and by the longest piece: nobody was served for so long.
        self.seconds = 0.0
        self.longest = 0.0

    async def work(self, person: str, piece: Callable[[], _Result], paid: Callable[[float], None]) -> _Result:
        """Do a piece of work when it is this person's turn; `paid` is told the seconds that it took."""
        async with self._of_person.setdefault(person, asyncio.Lock()):
            await self._one.acquire()
            seconds = 0.0

            def took(count: float) -> None:
                nonlocal seconds
                seconds = count
                paid(count)

            try:
                return self.now(piece, took)
            finally:
                # Whoever it was done for goes on; the next one waits.
                asyncio.get_running_loop().call_later(seconds * (1 / SHARE - 1), self._one.release)

    def now(self, piece: Callable[[], _Result], paid: Callable[[float], None]) -> _Result:
        """Do a piece of work at once, which is small."""
        started = time.thread_time()
        try:
            return piece()
        finally:
            seconds = time.thread_time() - started
            self.seconds += seconds
            self.longest = max(self.longest, seconds)
            paid(seconds)
