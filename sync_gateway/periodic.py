"""What a gateway gathers in memory and writes down now and then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

_LAST_WITHIN = 1.0  # seconds, when the process stops


@contextlib.asynccontextmanager
async def written(write: Callable[..., Awaitable[None]], every: float) -> AsyncIterator[None]:
    """Call `write` every so many seconds until this ends, and once more then, with how long that may take."""

    async def work() -> None:
        while True:
            await asyncio.sleep(every)
            await write()

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await write(_LAST_WITHIN)
