"""Password hashes off the event loop: so many at once, so many in line, and room kept for those who are known.

A hash takes about 20 ms of one processor and 19 MiB. Without a bound a flood of sign-ins would take all memory and
make everybody wait without end; with one, whoever comes too many is told at once to come again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from auth_service import passwords
from passbook.errors import TooMany

T = TypeVar("T")

#: Seconds after which the line has moved on: it is as long as is worked off in about two.
_COME_AGAIN = 2


class Busy(TooMany):
    """Too many people are signing in at this moment; try again in a few seconds."""

    def __init__(self, *, began: bool = False) -> None:
        super().__init__(retry_after=_COME_AGAIN, limit="capacity", began=began)


@dataclass(eq=False)
class _Job(Generic[T]):
    work: Callable[[], T]
    answer: asyncio.Future[T]


class Hashing:
    """Hashes and compares passwords in threads, at most `at_once` at a time (0: one per processor).

    Up to `waiting` people stand in line, and as many again who are known (`priority`): they go ahead of all others,
    so what strangers do costs them the end of one hash. Belongs to one event loop.
    """

    def __init__(self, *, at_once: int = 0, waiting: int = 50) -> None:
        self.at_once = at_once or os.cpu_count() or 1
        self.waiting = waiting
        self._running = 0
        self._turned_away = False
        # Ordered, and one in the middle can leave at no cost.
        self._known: dict[_Job[Any], None] = {}
        self._strangers: dict[_Job[Any], None] = {}
        self._threads = ThreadPoolExecutor(self.at_once, thread_name_prefix="hashing")

    async def verify(self, hashed: str, password: str, *, priority: bool) -> bool:
        """Whether `password` is the one of `hashed` (`passwords.verify`). Raises `Busy` when the line is full."""
        return await self._done(priority, lambda: passwords.verify(hashed, password))

    async def hash(self, password: str, *, username: str, priority: bool = True) -> str:
        """The hash of a new password. Raises `WeakPassword`, and `Busy` when the line is full."""
        return await self._done(priority, lambda: passwords.hash_password(password, username=username))

    async def given_or_new(self, password: str | None, *, username: str) -> tuple[str, str | None]:
        """The hash of a password that was given, or of one made here, which is the second value."""
        return await self._done(True, lambda: passwords.given_or_new(password, username=username))

    async def renew(self, password: str) -> str:
        """The hash, with today's parameters, of a password that is in use. Raises `Busy` when the line is full."""
        return await self._done(True, lambda: passwords.renew(password))

    @property
    def line(self) -> int:
        """How many wait, known or not."""
        return len(self._known) + len(self._strangers)

    @property
    def running(self) -> int:
        """How many hashes are being computed."""
        return self._running

    def close(self) -> None:
        """End the threads, each after what it is doing."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _done(self, priority: bool, work: Callable[[], T]) -> T:
        lane = self._known if priority else self._strangers
        if len(lane) >= self.waiting and self._running >= self.at_once:
            began, self._turned_away = not self._turned_away, True
            raise Busy(began=began)
        job: _Job[T] = _Job(work, asyncio.get_running_loop().create_future())
        lane[job] = None
        self._fill()
        try:
            return await job.answer
        finally:
            # Whoever hangs up leaves the line; a hash that has begun keeps its thread to the end.
            lane.pop(job, None)

    def _fill(self) -> None:
        while self._running < self.at_once and (lane := self._known or self._strangers):
            job = next(iter(lane))
            del lane[job]
            # Told once: that it is over is when nobody waits any more.
            self._turned_away = self._turned_away and self.line > 0
            self._running += 1
            self._threads.submit(job.work).add_done_callback(self._ended(job))

    def _ended(self, job: _Job[T]) -> Callable[[Future[T]], None]:
        loop = job.answer.get_loop()

        def ended(result: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
                loop.call_soon_threadsafe(self._answer, job, result)

        return ended

    def _answer(self, job: _Job[T], result: Future[T]) -> None:
        self._running -= 1
        self._fill()
        if job.answer.done():  # hung up
            return
        if result.cancelled():
            job.answer.cancel()
        elif (error := result.exception()) is not None:
            job.answer.set_exception(error)
        else:
            job.answer.set_result(result.result())
