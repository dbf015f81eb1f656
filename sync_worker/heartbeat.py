"""The worker's sign of life: a file that it touches while its loop goes round, for a health check to look at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from passbook.errors import Refused

log = structlog.get_logger()

_EVERY = 5.0  # seconds


@contextlib.asynccontextmanager
async def beating(path: Path | None) -> AsyncIterator[None]:
    """Touch the file every five seconds until the block ends, and remove it. Raises `Refused` if that cannot be."""
    if path is None:
        yield
        return
    try:
        await asyncio.to_thread(path.touch)
    except OSError as error:
        raise Refused(
            f"PASSBOOK_WORKER_HEARTBEAT names no file that can be written ({error.strerror}): {path}"
        ) from None
    task = asyncio.create_task(_beat(path))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def _beat(path: Path) -> None:
    while True:
        await asyncio.sleep(_EVERY)
        try:
            await asyncio.to_thread(path.touch)
        except OSError as error:
            log.error("heartbeat_not_written", problem=error.strerror)
