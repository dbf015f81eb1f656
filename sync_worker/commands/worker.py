"""`passbook worker run` and `passbook worker once`."""

from __future__ import annotations

import asyncio
import signal
import sys

import typer

from passbook.context import opened, service_database
from passbook.output import Json, print_facts, print_json
from passbook.progress import reporting
from passbook.settings import Settings
from passbook.witness.keeper import keeping
from sync_worker.commands.ledger import grants
from sync_worker.commands.session import worker
from sync_worker.cycle import Worker
from sync_worker.heartbeat import beating
from sync_worker.ledger.reader import Failure
from sync_worker.loop import Loop
from sync_worker.run import Summary
from sync_worker.withdrawal import Round

#: Seconds that `worker once` waits for compaction; `worker run` goes on with what is left.
_SETTLED_WITHIN = 60.0

app = typer.Typer(help="Keep every copy equal to the ledger.", no_args_is_help=True)


@app.command()
def once(as_json: Json = False) -> None:
    """One full pass over everybody; then a summary. Clients that fail are named and left as they were."""

    async def work() -> tuple[Summary, Worker]:
        async with worker(outside, database) as one:
            with reporting("clients") as reporter:
                summary = await one.run_pass(reporter)
            _name_withdrawals(await one.withdrawals.settle(_SETTLED_WITHIN))
            return summary, one

    with (
        opened(Settings.load(), servicedb=True, couchdb=True, ledger=True) as outside,
        service_database(outside, compared=False) as database,
    ):
        summary, done = asyncio.run(work())
    _name_failures(done)
    if as_json:
        print_json(summary.as_json())
    else:
        print_facts(summary.as_json())


@app.command()
def run(as_json: Json = False) -> None:
    """Pass after pass, changes of scope at once, until Ctrl-C or SIGTERM; a pass under way is finished first."""
    settings = Settings.load()

    async def work() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        async with worker(outside, database) as one:
            print("worker: ready", file=sys.stderr, flush=True)
            named: set[Failure] = set()

            def tell(summary: Summary, full: bool) -> None:
                _name_failures(one, named)
                if full:
                    named.clear()
                named.update(one.failed)
                _print(summary, as_json)

            async with beating(settings.worker_heartbeat), keeping(database, one.couch, stopping):
                await Loop(one, database, interval_seconds=settings.worker_interval_seconds, tell=tell).run(
                    stopping
                )

    with (
        opened(settings, servicedb=True, couchdb=True, ledger=True) as outside,
        service_database(outside, compared=False, processes=("worker",)) as database,
    ):
        asyncio.run(work())


#: By its older name.
app.command("ledger-grants", hidden=True)(grants)


def _print(summary: Summary, as_json: bool) -> None:
    if as_json:
        print_json(summary.as_json())
    elif summary.documents_written or summary.documents_deleted:
        print(
            f"{summary.documents_written} written, {summary.documents_deleted} deleted, "
            f"{summary.documents_unchanged} unchanged in {summary.seconds:.1f} s",
            flush=True,
        )


def _name_withdrawals(left: Round) -> None:
    if left.waiting:
        print(f"old bodies of what was taken away are still there for {left.waiting} people", file=sys.stderr)
    if left.outstanding:
        print(
            f"old bodies of what was taken away are outstanding for {left.outstanding} people: "
            "a node of CouchDB is away",
            file=sys.stderr,
        )


def _name_failures(one: Worker, named: set[Failure] | None = None) -> None:
    """Say which clients were left out, those in `named` aside: a worker that runs says it once."""
    for failure in one.failed:
        if named is not None and failure in named:
            continue
        print(f"client {failure.client_id} left out ({failure.code}): {failure.detail}", file=sys.stderr)
