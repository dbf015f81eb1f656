"""Sessions on the ledger: read only by the session's own setting, with a bound on every statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.pool import ConnectionPoolEntry

from passbook.database import database_url, speaking_to


class LedgerConnection:
    """The ledger's engine. `snapshot()` is the only way to read: one read-only transaction, one point in time."""

    def __init__(self, address: str, *, statement_seconds: float, connect_seconds: float) -> None:
        self.url = database_url(address)
        self._statement_seconds = statement_seconds
        postgresql = self.url.get_backend_name() == "postgresql"
        self.engine: Engine = create_engine(
            self.url,
            pool_size=2,
            pool_pre_ping=True,
            connect_args={"connect_timeout": max(1, round(connect_seconds))},
            isolation_level="REPEATABLE READ",
        )
        event.listen(self.engine, "connect", self._prepare_postgresql if postgresql else self._prepare_mysql)

    @property
    def is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def snapshot(self) -> Iterator[tuple[Connection, datetime]]:
        """A connection inside one consistent snapshot, and the snapshot's time by the ledger's clock (UTC).

        Raises `Unavailable` or `Refused` when the ledger cannot be reached.
        """
        with speaking_to("ledger", self.url, "PASSBOOK_LEDGER_URL"), self.engine.connect() as connection:
            if self.is_postgresql:
                # The first statement takes the snapshot; now() is the transaction's start, just before it.
                taken = connection.execute(text("SELECT now()")).scalar_one()
            else:
                connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                taken = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one().replace(tzinfo=UTC)
            yield connection, taken.astimezone(UTC)
            connection.rollback()

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _prepare_postgresql(self, connection: object, _entry: ConnectionPoolEntry) -> None:
        self._run(
            connection,
            f"SET statement_timeout = {round(self._statement_seconds * 1000)}",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET TIME ZONE 'UTC'",
        )

    def _prepare_mysql(self, connection: object, _entry: ConnectionPoolEntry) -> None:
        server = str(getattr(connection, "server_version", "") or connection.get_server_info())  # type: ignore[attr-defined]
        if "mariadb" in server.lower():
            limit = f"SET SESSION max_statement_time = {self._statement_seconds:g}"
        else:
            limit = f"SET SESSION max_execution_time = {round(self._statement_seconds * 1000)}"
        self._run(connection, limit, "SET SESSION TRANSACTION READ ONLY", "SET SESSION time_zone = '+00:00'")

    @staticmethod
    def _run(connection: object, *statements: str) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        connection.commit()  # type: ignore[attr-defined]
