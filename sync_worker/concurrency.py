"""Doing many things, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar, cast

_T = TypeVar("_T")
_R = TypeVar("_R")


async def each(limit: int, items: Iterable[_T], function: Callable[[_T], Awaitable[_R]]) -> list[_R]:
    """`function` of every item, at most `limit` at a time; results in no particular order.

    The first error ends the rest and is raised as it is.
    """

    async def stream() -> AsyncIterator[_T]:
        for item in items:
            yield item

    return await each_of(limit, stream(), function)


async def each_of(limit: int, items: AsyncIterator[_T], function: Callable[[_T], Awaitable[_R]]) -> list[_R]:
    """As `each`, for items that arrive one by one; none is asked for before there is a hand free for it."""
    results: list[_R] = []
    taking = asyncio.Lock()
    end = object()

    async def work() -> None:
        while True:
            async with taking:
                item = await anext(items, end)
            if item is end:
                return
            results.append(await function(cast("_T", item)))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return results
