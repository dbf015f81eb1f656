"""Attempts of one account that are under way, and those that wait for one of them to end.

An attempt counts as failed until its password has been looked at, so a few at once are all that an account has
free. Somebody who signs in on many devices at once would be told to wait, with the right password: instead the
others stand here for a moment, until one under way turns out well and makes room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from passbook.errors import TooMany

_LONGEST_LINE = 50
_ALONE_SECONDS = 2  # that a second one is told to wait


@dataclass
class _Account:
    under_way: int = 0
    line: deque[asyncio.Future[None]] = field(default_factory=deque)


class Flights:
    """The attempts of this process, by account. Belongs to one event loop."""

    def __init__(self) -> None:
        self._accounts: dict[bytes, _Account] = {}
        self._alone: set[str] = set()

    @asynccontextmanager
    async def under_way(self, account: bytes) -> AsyncIterator[None]:
        """While this lasts an attempt of the account is under way."""
        one = self._accounts.setdefault(account, _Account())
        one.under_way += 1
        try:
            yield
        finally:
            one.under_way -= 1
            # With nobody under way nobody would wake those who wait.
            self._wake(one, len(one.line) if one.under_way == 0 else 1)
            if one.under_way == 0 and not one.line:
                self._accounts.pop(account, None)

    async def one_ends(self, account: bytes, seconds: float) -> bool:
        """Wait for an attempt of the account to end. False, at once, if there is none or too many wait already;
        False after `seconds` without one."""
        one = self._accounts.get(account)
        if one is None or one.under_way == 0 or len(one.line) >= _LONGEST_LINE or seconds <= 0:
            return False
        mine = asyncio.get_running_loop().create_future()
        one.line.append(mine)
        try:
            async with asyncio.timeout(seconds):
                await mine
        except TimeoutError:
            return False
        finally:
            if mine in one.line:
                one.line.remove(mine)
        return True

    @staticmethod
    def _wake(one: _Account, how_many: int) -> None:
        while how_many and one.line:
            waiting = one.line.popleft()
            if not waiting.done():
                waiting.set_result(None)
                how_many -= 1

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Whatever takes the processor long, one at a time for each key. Raises `TooMany` for a second one."""
        if key in self._alone:
            raise TooMany(retry_after=_ALONE_SECONDS, limit="account")
        self._alone.add(key)
        try:
            yield
        finally:
            self._alone.discard(key)
