"""Doing many things, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


async def each(limit: int, items: Iterable[_T], function: Callable[[_T], Awaitable[_R]]) -> list[_R]:
    """`function` of every item, at most `limit` at a time; results in no particular order.

    The first error ends the rest and is raised as it is.
    """
    waiting = iter(items)
    results: list[_R] = []

    async def work() -> None:
        for item in waiting:
            results.append(await function(item))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return results
