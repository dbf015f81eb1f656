"""Getting many rows into a ledger fast: COPY on PostgreSQL, multi-row INSERT on MariaDB."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from psycopg import sql
from sqlalchemy import Connection, func, select, text

from sample_institution.rows import column_names
from sample_institution.tables import metadata, table

Values = tuple[Any, ...]

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}


def is_mariadb(connection: Connection) -> bool:
    """Whether the ledger is MariaDB or MySQL; otherwise it is PostgreSQL."""
    return connection.dialect.name in ("mysql", "mariadb")


class Chunk:
    """Rows waiting to be written, by table."""

    def __init__(self) -> None:
        self._rows: dict[type[Any], list[Values]] = defaultdict(list)
        self._readers: dict[type[Any], Callable[[Any], Values]] = {}

    def add(self, rows: Iterable[Any]) -> None:
        """Take the rows as they are now."""
        for row in rows:
            kind = type(row)
            reader = self._readers.get(kind)
            if reader is None:
                reader = self._readers[kind] = attrgetter(*(field.name for field in fields(kind)))
            self._rows[kind].append(reader(row))

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._rows.values())

    def write(self, connection: Connection) -> None:
        """Write everything, parents before children."""
        by_table = {kind.table: kind for kind in self._rows}
        put = _insert if is_mariadb(connection) else _copy
        for one in metadata.sorted_tables:
            if kind := by_table.get(one.name):
                put(connection, one.name, column_names(kind), self._rows[kind])


def _copy(connection: Connection, name: str, columns: Sequence[str], rows: Sequence[Values]) -> None:
    raw: Any = connection.connection.driver_connection
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with raw.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write("".join(_line(row) for row in rows).encode())


def _line(row: Values) -> str:
    """One row in COPY's text format."""
    return "\t".join([_field(value) for value in row]) + "\n"


def _field(value: Any) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, str) and _SPECIAL.search(value):
        return _SPECIAL.sub(lambda found: _ESCAPES[found.group()], value)
    return str(value)


def _insert(connection: Connection, name: str, columns: Sequence[str], rows: Sequence[Values]) -> None:
    quoted = ", ".join(f"`{column}`" for column in columns)
    marks = ", ".join(["%s"] * len(columns))
    # PyMySQL joins the rows of an executemany into INSERTs of about a megabyte.
    connection.exec_driver_sql(f"INSERT INTO `{name}` ({quoted}) VALUES ({marks})", list(rows))  # noqa: S608


def highest_ids(connection: Connection) -> dict[str, int]:
    """The highest id of every table that has one."""
    highest = {}
    for one in metadata.sorted_tables:
        if "id" in one.c:
            highest[one.name] = connection.execute(select(func.coalesce(func.max(one.c.id), 0))).scalar_one()
    return highest


def advance_sequences(connection: Connection) -> None:
    """Let generated ids continue after the explicit ones; MariaDB does so by itself."""
    if is_mariadb(connection):
        return
    for name, highest in highest_ids(connection).items():
        if highest:
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :highest)"),
                {"name": name, "highest": highest},
            )


def set_default_savings(connection: Connection, accounts: dict[int, int]) -> None:
    """Give clients their default savings account, once both exist."""
    if accounts:
        clients = table("m_client")
        connection.execute(
            text(f"UPDATE {clients.name} SET default_savings_account = :account WHERE id = :client"),  # noqa: S608
            [{"client": client, "account": account} for client, account in accounts.items()],
        )
