"""Pass after pass until told to stop: full ones at an interval, those for changes of scope at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from passbook.errors import PassbookError, Unavailable
from passbook.progress import reporting
from passbook.servicedb.engine import ServiceDatabase
from sync_worker.cycle import Worker
from sync_worker.listening import listen
from sync_worker.run import Summary

log = structlog.get_logger()

#: Changes that come in a burst are carried out together.
_BURST_SECONDS = 0.1
#: A pass over changes of scope that failed is tried again after so long.
_RETRY_SECONDS = 2.0


class Loop:
    """Runs a worker. `tell` gets the summary of each pass, and whether it was a full one."""

    def __init__(
        self,
        worker: Worker,
        database: ServiceDatabase,
        *,
        interval_seconds: float,
        tell: Callable[[Summary, bool], None],
    ) -> None:
        self._worker = worker
        self._database = database
        self._interval_seconds = interval_seconds
        self._tell = tell
        #: One pass at a time.
        self._passing = asyncio.Lock()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set; a pass under way is finished first."""
        tasks = [
            asyncio.create_task(listen(self._database, self._worker.hurry.set)),
            asyncio.create_task(self._carry_out_changes()),
            asyncio.create_task(self._worker.withdrawals.run()),
            asyncio.create_task(self._worker.upkeep.run()),
            asyncio.create_task(self._worker.doubts.run(self._passing)),
        ]
        scheduler = AsyncIOScheduler()
        # A pass that takes longer than the interval delays the next.
        scheduler.add_job(
            self._full_pass, IntervalTrigger(seconds=self._interval_seconds), max_instances=1, coalesce=True
        )
        try:
            await self._full_pass()
            scheduler.start()
            await stopping.wait()
            scheduler.pause()
            async with self._passing:
                scheduler.shutdown(wait=False)
                await _end(tasks)
        finally:
            await _end(tasks)

    async def _full_pass(self) -> None:
        async with self._passing:
            await self._attempt(self._full, full=True)

    async def _full(self) -> Summary:
        with reporting("clients") as reporter:
            return await self._worker.run_pass(reporter)

    async def _carry_out_changes(self) -> None:
        hurry = self._worker.hurry
        while True:
            await hurry.wait()
            await asyncio.sleep(_BURST_SECONDS)
            well = True
            async with self._passing:
                # A full pass may have seen to it meanwhile.
                if hurry.is_set():
                    well = await self._attempt(self._worker.run_changes, full=False)
            if not well:
                hurry.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _attempt(self, work: Callable[[], Awaitable[Summary | None]], *, full: bool) -> bool:
        """Do a pass and tell of it; whether it was finished."""
        try:
            summary = await work()
        except Unavailable as error:
            # Something outside is away: the next pass tries again, and nothing is lost meanwhile.
            log.warning("pass not finished", problem=error.message)
            return False
        except PassbookError as error:
            log.error("pass not finished", problem=error.message, remedy=error.remedy)
            return False
        except Exception:
            # A defect must not end the worker: the next pass may well succeed, and the log tells.
            log.exception("pass not finished")
            return False
        if summary:
            self._tell(summary, full)
        return True


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
