"""Engines on somebody else's database, the ledger: read only by the session's own settings."""

from __future__ import annotations

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from passbook.database import sql_engine


def read_only_engine(url: URL, *, statement_seconds: float, connect_seconds: float) -> Engine:
    """An engine on somebody else's database: nothing can be written, no statement runs longer than it may.

    Both hold by the session's own settings, whatever the user is allowed to. A transaction sees one point in time.
    """
    engine = sql_engine(
        url,
        pool_size=2,
        pool_pre_ping=True,
        connect_args={"connect_timeout": max(1, round(connect_seconds))},
        isolation_level="REPEATABLE READ",
    )

    def prepare(connection: object, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        for statement in _restrictions(url, connection, statement_seconds):
            cursor.execute(statement)
        cursor.close()
        connection.commit()  # type: ignore[attr-defined]

    event.listen(engine, "connect", prepare)
    return engine


def _restrictions(url: URL, connection: object, seconds: float) -> tuple[str, ...]:
    if url.get_backend_name() == "postgresql":
        return (
            f"SET statement_timeout = {round(seconds * 1000)}",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET TIME ZONE 'UTC'",
        )
    server = str(getattr(connection, "server_version", "") or connection.get_server_info())  # type: ignore[attr-defined]
    limit = (
        f"SET SESSION max_statement_time = {seconds:g}"
        if "mariadb" in server.lower()
        else f"SET SESSION max_execution_time = {round(seconds * 1000)}"
    )
    return limit, "SET SESSION TRANSACTION READ ONLY", "SET SESSION time_zone = '+00:00'"
