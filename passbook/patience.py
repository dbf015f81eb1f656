"""How long CouchDB's answers may take to begin before they are asked for again, and the log's word on late ones.

A node that hangs (its machine out of memory, its disk gone) keeps connections open and answers nothing. Behind one
address another node may answer the same question, so nobody waits for ever. Each further attempt waits twice as
long as the one before: a server that is only slow must not be asked more and more for what it is at work on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

#: Seconds that the first attempt waits for an answer to begin, and the longest that any does.
FIRST_SECONDS = 10.0
LONGEST_SECONDS = 80.0
#: Seconds after which the log tells of an answer that has not begun, and between two such lines.
LATE_SECONDS = 5.0
TELL_EVERY = 10.0
#: Seconds that a node of a cluster has to answer whether it is there: one that does not counts as away.
NODE_SECONDS = 3.0

log = structlog.get_logger()


def seconds(attempt: int) -> float:
    """How long an answer may take to begin; `attempt` counts from 1."""
    return min(FIRST_SECONDS * 2.0 ** (attempt - 1), LONGEST_SECONDS)


class Late:
    """Tells of late answers of one server: one line for all that are waited for, and not again for a while."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._waiting = 0
        self._told_at = float("-inf")

    @contextmanager
    def watched(self, method: str, path: str) -> Iterator[None]:
        """While an answer is waited for."""
        self._waiting += 1
        timer = asyncio.get_running_loop().call_later(LATE_SECONDS, self._tell, method, path)
        try:
            yield
        finally:
            timer.cancel()
            self._waiting -= 1

    def _tell(self, method: str, path: str) -> None:
        if time.monotonic() - self._told_at < TELL_EVERY:
            return
        self._told_at = time.monotonic()
        log.warning(
            "couchdb_late",
            address=self._address,
            method=method,
            # No names of databases or documents.
            asked=[part for part in path.split("/") if part.startswith("_")][-1:],
            seconds=LATE_SECONDS,
            waiting=self._waiting,
        )
