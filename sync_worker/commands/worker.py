"""`passbook worker run` and `passbook worker once`."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
import typer
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from passbook.context import opened, service_database
from passbook.errors import PassbookError, Unavailable
from passbook.output import Json, print_facts, print_json
from passbook.progress import reporting
from passbook.settings import Settings
from sync_worker.commands.session import worker
from sync_worker.cycle import Summary, Worker
from sync_worker.ledger.reader import Failure

log = structlog.get_logger()

app = typer.Typer(help="Keep every copy equal to the ledger.", no_args_is_help=True)


@app.command()
def once(as_json: Json = False) -> None:
    """One full pass over everybody; then a summary. Clients that fail are named and left as they were."""

    async def work() -> tuple[Summary, Worker]:
        async with worker(outside, database) as one:
            with reporting("clients") as reporter:
                return await one.run_pass(reporter), one

    with (
        opened(Settings.load(), servicedb=True, couchdb=True, ledger=True) as outside,
        service_database(outside) as database,
    ):
        summary, done = asyncio.run(work())
    _name_failures(done)
    if as_json:
        print_json(summary.as_json())
    else:
        print_facts(summary.as_json())


@app.command()
def run(as_json: Json = False) -> None:
    """Pass after pass, until stopped with Ctrl-C or SIGTERM; a pass under way is finished first."""
    settings = Settings.load()

    async def work() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        async with worker(outside, database) as one:
            print("worker: ready", file=sys.stderr, flush=True)

            passing = asyncio.Lock()
            named: set[Failure] = set()

            async def one_pass() -> None:
                async with passing:
                    await _one_pass(one, named, as_json)

            scheduler = AsyncIOScheduler()
            # One pass at a time: one that takes longer than the interval delays the next.
            scheduler.add_job(
                one_pass, IntervalTrigger(seconds=settings.worker_interval_seconds), max_instances=1, coalesce=True
            )
            await one_pass()
            scheduler.start()
            await stopping.wait()
            scheduler.pause()
            async with passing:
                scheduler.shutdown(wait=False)

    with (
        opened(settings, servicedb=True, couchdb=True, ledger=True) as outside,
        service_database(outside) as database,
    ):
        asyncio.run(work())


async def _one_pass(one: Worker, named: set[Failure], as_json: bool) -> None:
    try:
        with reporting("clients") as reporter:
            summary = await one.run_pass(reporter)
    except Unavailable as error:
        # Something outside is away: the next pass tries again, and nothing is lost meanwhile.
        log.warning("pass not finished", problem=error.message)
        return
    except PassbookError as error:
        log.error("pass not finished", problem=error.message, remedy=error.remedy)
        return
    except Exception:
        # A defect must not end the worker: the next pass may well succeed, and the log tells.
        log.exception("pass not finished")
        return
    _name_failures(one, named)
    named.clear()
    named.update(one.failed)
    if as_json:
        print_json(summary.as_json())
    elif summary.documents_written or summary.documents_deleted:
        print(
            f"{summary.documents_written} written, {summary.documents_deleted} deleted, "
            f"{summary.documents_unchanged} unchanged in {summary.seconds:.1f} s",
            flush=True,
        )


def _name_failures(one: Worker, named: set[Failure] | None = None) -> None:
    """Say which clients were left out, those in `named` aside: a worker that runs says it once."""
    for failure in one.failed:
        if named is not None and failure in named:
            continue
        print(f"client {failure.client_id} left out ({failure.code}): {failure.detail}", file=sys.stderr)
