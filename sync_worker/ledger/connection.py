"""Sessions on the ledger: read only by the session's own setting, with a bound on every statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, text

from passbook.database import database_url, speaking_to
from passbook.read_only import read_only_engine


class LedgerConnection:
    """The ledger's engine. `snapshot()` is the only way to read: one read-only transaction, one point in time."""

    def __init__(self, address: str, *, statement_seconds: float, connect_seconds: float) -> None:
        self.url = database_url(address)
        self.engine: Engine = read_only_engine(
            self.url, statement_seconds=statement_seconds, connect_seconds=connect_seconds
        )

    @property
    def is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def snapshot(self) -> Iterator[tuple[Connection, datetime]]:
        """A connection inside one consistent snapshot, and the snapshot's time by the ledger's clock (UTC).

        The time is never later than the snapshot: what was committed by then is in it.
        Raises `Unavailable` or `Refused` when the ledger cannot be reached.
        """
        with speaking_to("ledger", self.url, "PASSBOOK_LEDGER_URL"), self.engine.connect() as connection:
            if self.is_postgresql:
                # The first statement takes the snapshot; now() is the transaction's start, just before it.
                taken = connection.execute(text("SELECT now()")).scalar_one()
            else:
                taken = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one().replace(tzinfo=UTC)
                connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield connection, taken.astimezone(UTC)
            connection.rollback()

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()
