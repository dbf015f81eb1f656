"""Progress of long work: a bar with an ETA on a terminal, a line now and then elsewhere, numbers in tests."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds between two lines where there is no terminal.
_LINE_SECONDS = 10.0


class Reporter(Protocol):
    """Told how far the work is."""

    def update(self, done: int, total: int) -> None:
        """`done` of `total` pieces are finished."""


class Silent:
    """Says nothing."""

    def update(self, done: int, total: int) -> None:
        """Say nothing."""


class Counting:
    """Keeps what it was told, for tests."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def update(self, done: int, total: int) -> None:
        """Note it."""
        self.seen.append((done, total))


class _Lines:
    def __init__(self, what: str, stream: TextIO) -> None:
        self._what = what
        self._stream = stream
        self._started = self._said = time.monotonic()

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said < _LINE_SECONDS or not done:
            return
        self._said = now
        left = (now - self._started) / done * (total - done)
        print(f"{self._what}: {done} of {total}, about {left:.0f} s left", file=self._stream, flush=True)


class _Bar:
    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=None)

    def update(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def reporting(what: str, stream: TextIO | None = None) -> Iterator[Reporter]:
    """A reporter for `what`, on standard error unless told otherwise."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _Lines(what, stream)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        yield _Bar(progress, what)
