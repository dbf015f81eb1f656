"""Hashing beside the event loop: so many at once, a bounded line, known people first."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from auth_service import passwords
from auth_service.hashing import Busy, Hashing
from auth_service.passwords import WeakPassword
from passbook.errors import TooMany

GOOD = "pelican harbour 42 thimble"


class Slow:
    """In place of argon2: each comparison waits until it is let go, and what happens is noted."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.order: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, hashed: str, password: str) -> bool:
        with self._lock:
            self.order.append(password)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.gate.acquire(timeout=30)
        with self._lock:
            self.at_once -= 1
        return True

    def let_go(self, number: int = 1000) -> None:
        self.gate.release(number)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    one = Slow()
    monkeypatch.setattr(passwords, "verify", one)
    return one


@pytest.fixture
async def hashing() -> AsyncIterator[Callable[..., Hashing]]:
    made: list[Hashing] = []

    def make(**given: int) -> Hashing:
        made.append(Hashing(**given))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def _until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not met():  # noqa: ASYNC110 - what is waited for happens in threads
            await asyncio.sleep(0.001)


def _start(hashing: Hashing, name: str, *, priority: bool = False) -> asyncio.Task[bool]:
    return asyncio.create_task(hashing.verify("-", name, priority=priority))


async def test_passwords_are_hashed_and_compared(hashing: Callable[..., Hashing]) -> None:
    one = hashing()
    assert one.at_once == os.cpu_count()
    hashed = await one.hash(GOOD, username="asha")
    assert await one.verify(hashed, GOOD, priority=True)
    assert not await one.verify(hashed, "wrong", priority=False)
    with pytest.raises(WeakPassword):
        await one.hash("asha pelican harbour", username="asha")
    assert (one.running, one.line) == (0, 0)


async def test_so_many_at_once_and_no_more(hashing: Callable[..., Hashing], slow: Slow) -> None:
    one = hashing(at_once=3, waiting=100)
    tasks = [_start(one, str(number)) for number in range(40)]
    await _until(lambda: slow.at_once == 3)
    assert (one.running, one.line) == (3, 37)
    slow.let_go()
    assert all(await asyncio.gather(*tasks))
    assert slow.most_at_once == 3


async def test_the_line_is_bounded(hashing: Callable[..., Hashing], slow: Slow) -> None:
    one = hashing(at_once=1, waiting=2)
    tasks = [_start(one, str(number)) for number in range(3)]
    await _until(lambda: one.line == 2)
    began = []
    for _ in range(3):
        with pytest.raises(Busy) as refused:
            await one.verify("-", "late", priority=False)
        assert isinstance(refused.value, TooMany)
        assert (refused.value.code, refused.value.limit) == ("too_many_requests", "capacity")
        assert refused.value.retry_after >= 1
        began.append(refused.value.began)
    assert began == [True, False, False]
    slow.let_go()
    await asyncio.gather(*tasks)
    assert "late" not in slow.order
    assert await one.verify("-", "later", priority=False)


async def test_known_people_overtake_and_have_room_of_their_own(
    hashing: Callable[..., Hashing], slow: Slow
) -> None:
    one = hashing(at_once=1, waiting=5)
    strangers = [_start(one, f"stranger {number}") for number in range(6)]
    await _until(lambda: one.line == 5)
    with pytest.raises(Busy):
        await one.verify("-", "stranger", priority=False)
    known = [_start(one, f"known {number}", priority=True) for number in range(5)]
    await _until(lambda: one.line == 10)
    with pytest.raises(Busy):
        await one.verify("-", "known", priority=True)
    slow.let_go()
    await asyncio.gather(*strangers, *known)
    assert slow.order == [
        "stranger 0",
        *(f"known {number}" for number in range(5)),
        *(f"stranger {number}" for number in range(1, 6)),
    ]


async def test_without_a_line_a_free_thread_is_still_used(hashing: Callable[..., Hashing], slow: Slow) -> None:
    one = hashing(at_once=1, waiting=0)
    slow.let_go()
    assert await one.verify("-", "first", priority=False)
    assert await one.verify("-", "second", priority=True)


async def test_whoever_hangs_up_frees_their_place(hashing: Callable[..., Hashing], slow: Slow) -> None:
    one = hashing(at_once=1, waiting=2)
    tasks = [_start(one, name) for name in ("running", "waiting", "leaving")]
    await _until(lambda: one.line == 2 and slow.at_once == 1)
    tasks[2].cancel()
    tasks[0].cancel()
    await _until(lambda: tasks[0].done() and tasks[2].done())
    # The one that runs holds its thread to the end: argon2 cannot be stopped, and two must not share a processor.
    assert (one.running, one.line, slow.order) == (1, 1, ["running"])
    tasks.append(_start(one, "new"))
    slow.let_go()
    assert await tasks[1]
    assert await tasks[3]
    assert slow.order == ["running", "waiting", "new"]
    assert (one.running, one.line) == (0, 0)


async def test_many_who_come_and_go_leave_nothing_behind(
    hashing: Callable[..., Hashing], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hashing(at_once=2, waiting=500)
    monkeypatch.setattr(passwords, "verify", lambda hashed, password: time.sleep(0.0005) or True)
    tasks = [_start(one, str(number), priority=number % 3 == 0) for number in range(300)]
    for number, task in enumerate(tasks):
        if number % 4 == 0:
            await asyncio.sleep(0)
            task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(answer is True or isinstance(answer, asyncio.CancelledError) for answer in found)
    assert found.count(True) >= 225
    await _until(lambda: one.running == 0)
    assert one.line == 0


async def test_an_error_reaches_its_caller_and_frees_the_thread(
    hashing: Callable[..., Hashing], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(hashed: str, password: str) -> Any:
        raise MemoryError

    one = hashing(at_once=1, waiting=1)
    monkeypatch.setattr(passwords, "verify", broken)
    for _ in range(3):
        with pytest.raises(MemoryError):
            await one.verify("-", "x", priority=True)
    assert one.running == 0


async def test_the_event_loop_goes_on_meanwhile(hashing: Callable[..., Hashing]) -> None:
    """While real passwords are hashed and judged, the loop turns many times a hash."""
    one = hashing(at_once=2, waiting=100)
    tasks = [asyncio.create_task(one.hash(GOOD, username="asha")) for _ in range(20)]
    turns = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turns += 1
    await asyncio.gather(*tasks)
    assert turns > 100
