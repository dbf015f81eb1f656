"""So many at once for each key; who comes then waits in a queue: first come first served, so many, and so long.

Keys are independent of each other: however many wait for one, nobody else waits for them. What all who wait may
hold together is bounded too, and when that is used up, the longest queue makes room for a shorter one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sync_gateway.answers import Problem, busy, too_many


@dataclass
class Room:
    """How many may wait, together, and how long each."""

    #: For one key, and of those the ones that hold much memory meanwhile.
    each: int
    each_large: int
    #: For all keys, and of those the large ones.
    all: Callable[[], int]
    all_large: int
    seconds: float


@dataclass(eq=False)
class _Queue:
    """Of one key. Those who wait stand in the order in which they came, each with whether it is large."""

    held: int = 0
    waiting: dict[asyncio.Future[None], bool] = field(default_factory=dict)
    large: int = 0


class Queues:
    """The queues of all keys. Belongs to one event loop."""

    def __init__(self, at_once: int, room: Room) -> None:
        self._at_once = at_once
        self._room = room
        self._queues: dict[Hashable, _Queue] = {}
        #: How many wait now, how many of them are large, and how many have had to wait so far.
        self.waiting = 0
        self.large = 0
        self.waited = 0

    def __len__(self) -> int:
        return len(self._queues)

    def full(self, key: Hashable) -> bool:
        """Whether the next one would wait."""
        queue = self._queues.get(key)
        return queue is not None and queue.held >= self._at_once

    @asynccontextmanager
    async def turn(self, key: Hashable, *, large: bool = False) -> AsyncIterator[None]:
        """One of the places of this key, once it is free.

        Raises `Problem`: 429 if too many wait for it already, or it took too long; 503 if too many wait altogether.
        """
        queue = self._queues.setdefault(key, _Queue())
        try:
            if queue.held >= self._at_once:
                await self._wait(queue, large)
            else:
                queue.held += 1
        except BaseException:
            self._forget(key, queue)
            raise
        try:
            yield
        finally:
            self._leave(key, queue)

    def refuse(self, key: Hashable, problem: Problem) -> None:
        """Everybody who waits for this key gets this answer."""
        queue = self._queues.get(key)
        if queue is not None:
            for waiter in list(queue.waiting):
                self._send_away(queue, waiter, problem)

    async def _wait(self, queue: _Queue, large: bool) -> None:
        """Wait for a place, which then is taken."""
        room = self._room
        if len(queue.waiting) >= room.each or (large and queue.large >= room.each_large):
            raise too_many("queue")
        if large and self.large >= room.all_large:
            raise busy("queue")
        if self.waiting >= room.all():
            self._make_room(queue)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count(queue, waiter, large)
        self.waited += 1
        try:
            async with asyncio.timeout(room.seconds):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(queue)  # the place came in the same moment
            if isinstance(error, TimeoutError):
                raise too_many("waited") from None
            raise
        finally:
            self._uncount(queue, waiter)

    def _count(self, queue: _Queue, waiter: asyncio.Future[None], large: bool) -> None:
        queue.waiting[waiter] = large
        queue.large += large
        self.large += large
        self.waiting += 1

    def _uncount(self, queue: _Queue, waiter: asyncio.Future[None]) -> None:
        if waiter in queue.waiting:
            large = queue.waiting.pop(waiter)
            queue.large -= large
            self.large -= large
            self.waiting -= 1

    def _make_room(self, queue: _Queue) -> None:
        """Send away who came last to the longest queue, if that is longer than this one would be."""
        longest = max(self._queues.values(), key=lambda one: len(one.waiting))
        if len(longest.waiting) <= len(queue.waiting) + 1:
            raise busy("queue")
        self._send_away(longest, next(reversed(longest.waiting)), busy("queue"))

    def _send_away(self, queue: _Queue, waiter: asyncio.Future[None], problem: Problem) -> None:
        self._uncount(queue, waiter)
        if not waiter.done():
            waiter.set_exception(problem)

    def _leave(self, key: Hashable, queue: _Queue) -> None:
        self._pass_on(queue)
        self._forget(key, queue)

    def _pass_on(self, queue: _Queue) -> None:
        """Give a place to who has waited longest, or set it free."""
        while queue.waiting:
            waiter = next(iter(queue.waiting))
            self._uncount(queue, waiter)
            if not waiter.done():
                waiter.set_result(None)
                return
        queue.held -= 1

    def _forget(self, key: Hashable, queue: _Queue) -> None:
        if not queue.held and not queue.waiting and self._queues.get(key) is queue:
            del self._queues[key]
