"""A worker with everything it needs, for as long as a command runs."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from passbook.context import Outside
from passbook.couch import CouchClient
from passbook.errors import LedgerUnsuitable
from passbook.servicedb.engine import ServiceDatabase
from passbook.witness.keeper import Keeper
from sync_worker.cycle import Worker
from sync_worker.ledger import login
from sync_worker.ledger.connection import LedgerConnection
from sync_worker.ledger.pictures import Pictures
from sync_worker.ledger.reader import LedgerReader
from sync_worker.parts import Parts

log = structlog.get_logger()


def _prepare(reader: LedgerReader, *, sample: bool) -> None:
    try:
        reader.prepare()
    except LedgerUnsuitable as error:
        if sample:
            error.remedy = "PASSBOOK_LEDGER_URL is not set. Set it, or make one: `passbook sample-ledger fill`."
        raise


def _warn(ledger: LedgerConnection) -> None:
    """Say what the ledger's login may do that Passbook does not need: whoever takes the worker could do it too."""
    beyond = login.too_much(ledger)
    if beyond:
        log.warning(
            "ledger_login_may_do_too_much",
            login=ledger.url.username,
            may=beyond,
            remedy="Use one that may read what Passbook reads and nothing else: "
            "`passbook ledger grants LOGIN` prints the GRANT statements.",
        )


@asynccontextmanager
async def worker(outside: Outside, database: ServiceDatabase) -> AsyncIterator[Worker]:
    """A `Worker` on the servers of `outside`. Raises `Unavailable` or `Refused` if one of them cannot be used,
    `OlderDatabase` or `WitnessLost` if the service database is not what its witness says."""
    settings = outside.settings
    # A pass makes millions of small objects that die young and hold no cycles: looking for cycles among them as
    # often as Python does by default is a tenth of its work.
    gc.set_threshold(50_000, 20, 100)
    ledger = LedgerConnection(
        outside.ledger_url,
        statement_seconds=settings.ledger_statement_seconds,
        connect_seconds=settings.connect_seconds,
    )
    reader = LedgerReader(ledger, Pictures(settings.image_dir, settings.image_max_bytes))
    try:
        async with CouchClient(
            outside.couchdb_url,
            connections=settings.couchdb_connections,
            connect_seconds=settings.connect_seconds,
        ) as couch:
            await couch.check()
            # First of all, also where the ledger is away: gateways wait for somebody who has compared.
            await Keeper(database, couch).compare()
            _prepare(reader, sample=not settings.ledger_url)
            if settings.ledger_url:
                _warn(ledger)
            yield Worker(Parts(settings, reader, couch, database))
    finally:
        ledger.dispose()
