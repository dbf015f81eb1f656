"""What `passbook init` finds out about the ledger: can a worker read it, and may its login do too much."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from passbook.database import shown
from passbook.errors import LedgerUnsuitable, PassbookError
from passbook.findings import Finding
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from sync_worker.ledger import login
from sync_worker.ledger.connection import LedgerConnection
from sync_worker.ledger.pictures import Pictures
from sync_worker.ledger.reader import STATEMENTS, LedgerReader

#: No client has this id: what is asked about it is read with every statement, and there is nothing to answer.
_NOBODY = 0
#: Seconds by which clocks may differ.
_CLOCKS_WITHIN = 60.0
_GRANTS = "`passbook ledger grants LOGIN` prints the statements that let a login read what Passbook reads."


def prepare(settings: Settings, _database: ServiceDatabase, *, administrator: str) -> dict[str, Any]:
    """Look at the ledger. Changes nothing, and raises nothing: a ledger may come later."""
    del administrator
    return {"findings": list(look(settings))}


def look(settings: Settings) -> Iterator[Finding]:
    """How the ledger of these settings stands."""
    if not settings.ledger_url:
        yield Finding("ledger", "PASSBOOK_LEDGER_URL is not set here, so it was not looked at")
        return
    ledger = LedgerConnection(
        settings.ledger_url,
        statement_seconds=settings.ledger_statement_seconds,
        connect_seconds=settings.connect_seconds,
    )
    try:
        yield from _looked(ledger)
    except PassbookError as error:
        yield Finding("ledger", error.message, error.remedy or "See PASSBOOK_LEDGER_URL.")
    finally:
        ledger.dispose()
    yield _zone(settings)


def _looked(ledger: LedgerConnection) -> Iterator[Finding]:
    with ledger.snapshot() as (_, ledger_time):
        ahead = (ledger_time - datetime.now(UTC)).total_seconds()
    kind = "PostgreSQL" if ledger.is_postgresql else "MariaDB or MySQL"
    yield Finding("ledger", f"{kind} at {shown(ledger.url)} answers")
    clock = f"{abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > _CLOCKS_WITHIN:
        yield Finding("ledger's clock", clock, "Keep both by NTP: `as_of` and rolling windows go by it.")
    reader = LedgerReader(ledger, Pictures(None, 0))
    try:
        reader.prepare()
    except LedgerUnsuitable as error:
        yield Finding("ledger's tables and columns", error.message, f"{error.remedy} {_GRANTS}".strip())
    else:
        tables = set().union(*(statement.tables for statement in STATEMENTS))
        yield Finding("ledger's tables and columns", f"a Fineract tenant database, all of its {len(tables)} tables")
        try:
            reader.lookups()
            reader.read([_NOBODY])
            yield Finding("reading the ledger", "each of the worker's statements may be carried out")
        except PassbookError as error:
            yield Finding("reading the ledger", error.message, _GRANTS)
    beyond = login.too_much(ledger)
    user = ledger.url.username or "its user"
    if beyond:
        yield Finding(
            "ledger's login",
            f"{user} may {', '.join(beyond)}",
            f"Use one that may read what Passbook reads and nothing else. {_GRANTS}",
        )
    else:
        yield Finding("ledger's login", f"{user} may write nothing, and read no passwords and no notes")


def _zone(settings: Settings) -> Finding:
    zone = settings.tenant_timezone.key
    if zone == "UTC":
        return Finding(
            "institution's time zone",
            "UTC",
            "If the institution is elsewhere, set PASSBOOK_TENANT_TIMEZONE to what Fineract's own database has for "
            "it (fineract_tenants: tenants.timezone_id): the tenant database does not tell.",
        )
    return Finding("institution's time zone", zone)
