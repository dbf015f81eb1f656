"""The outside of a command: addresses given by settings, or embedded servers started for it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from passbook.witness import note


@dataclass(frozen=True)
class Outside:
    """Where the servers are; an address that was not asked for is empty."""

    settings: Settings
    service_url: str = ""
    couchdb_url: str = ""
    ledger_url: str = ""


@contextmanager
def opened(
    settings: Settings, *, servicedb: bool = False, couchdb: bool = False, ledger: bool = False
) -> Iterator[Outside]:
    """Addresses of what a command needs, for as long as it runs.

    An address set by the operator is used as it is and nothing embedded is touched. An unset one means the
    embedded server under `PASSBOOK_DATA_DIR`, which is started if it is not running and stopped by whoever uses
    it last.
    """
    with ExitStack() as stack:
        addresses = (settings.service_db_url, settings.couchdb_url, settings.ledger_url)
        embedded = any(
            needed and not address for needed, address in zip((servicedb, couchdb, ledger), addresses, strict=True)
        )
        if embedded and not settings.data_dir.exists():
            # Else a command in the wrong folder would look as if everybody were gone.
            print(f"passbook: nothing here yet; new data in {settings.data_dir.absolute()}", file=sys.stderr)
        service_url, couchdb_url, ledger_url = settings.service_db_url, settings.couchdb_url, settings.ledger_url
        if (servicedb and not service_url) or (ledger and not ledger_url):
            from passbook.embedded import postgres  # the drivers of embedded servers are not needed in production

            address = stack.enter_context(postgres.running(settings))
            service_url = service_url or address.url("passbook")
            ledger_url = ledger_url or address.url("ledger")
        if couchdb and not couchdb_url:
            from passbook.embedded import couchdb as embedded_couchdb

            couchdb_url = stack.enter_context(embedded_couchdb.running(settings)).url
        yield Outside(
            settings,
            service_url=service_url if servicedb else "",
            couchdb_url=couchdb_url if couchdb else "",
            ledger_url=ledger_url if ledger else "",
        )


@contextmanager
def service_database(
    outside: Outside, *, connections: int = 5, compared: bool = True, processes: Collection[str] = ()
) -> Iterator[ServiceDatabase]:
    """The service database of `outside`, prepared for this release, and its user for what these processes do.

    The embedded one is prepared on the way; one of the operator's own only by `passbook init`, and `Refused`
    says so. Raises `OlderDatabase` or `NotWitnessed` for one that was restored and nobody has seen to, unless
    `compared` is false: then the caller compares it, or only reads.
    """
    database = ServiceDatabase(
        outside.service_url, connect_seconds=outside.settings.connect_seconds, connections=connections
    )
    try:
        if outside.settings.service_db_url:
            database.require_migrated()
            if processes:
                database.require_rights(processes)
        else:
            database.migrate()
        if compared:
            database.run(note.read).check()
        yield database
    finally:
        database.dispose()
