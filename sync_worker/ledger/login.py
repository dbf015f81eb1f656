"""The login on the ledger: what it must be able to read, and whether it may do more than that."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection, select, sql, text
from sqlalchemy.exc import DBAPIError

from sync_worker.ledger.connection import LedgerConnection
from sync_worker.ledger.reader import needs
from sync_worker.ledger.statements import load_sql

#: What nobody needs and everybody would mind.
_CONFIDENTIAL = (("m_appuser", "password"), ("m_appselfservice_user", "password"), ("m_note", "note"))
_GRANT = re.compile(r"GRANT (?P<privileges>.+?) ON (?P<what>\S+) TO ", re.IGNORECASE)
_COLUMN_LIST = re.compile(r"\([^)]*\)")
#: Words of a MySQL or MariaDB grant that let nobody change anything.
_HARMLESS = {"SELECT", "USAGE", "PROXY", "PROCESS", "SHOW DATABASES", "SHOW VIEW", "REPLICATION CLIENT"}
_HARMLESS |= {"BINLOG MONITOR", "SLAVE MONITOR"}


def too_much(ledger: LedgerConnection) -> list[str]:
    """What the login may do that Passbook does not need, in words; empty for one that is as it should be.

    It may read passwords or notes, or may write anything, whatever our own session forbids itself.
    """
    found = [f"read {table}.{column}" for table, column in _CONFIDENTIAL if _can_read(ledger, table, column)]
    with ledger.snapshot() as (connection, _):
        return found + (_writes_of_postgresql(connection) if ledger.is_postgresql else _writes(connection))


def grants(login: str, *, schema: str = "") -> Iterator[str]:
    """The statements that let a login read what Passbook reads; at the end those that may fail, a column each.

    `schema` goes before the tables' names where the server wants one.
    """
    read = needs()
    before = f"{schema}." if schema else ""
    for table, columns in sorted(read.required.items()):
        yield f"GRANT SELECT ({', '.join(sorted(columns))}) ON {before}{table} TO {login};"
    for table, columns in sorted(read.optional.items()):
        for column in sorted(columns):
            yield f"GRANT SELECT ({column}) ON {before}{table} TO {login};  -- if there is such a column"


def _can_read(ledger: LedgerConnection, table: str, column: str) -> bool:
    """Tried, since a right may come from anywhere: the login, a role, everybody."""
    try:
        with ledger.engine.connect() as connection:
            connection.execute(select(sql.column(column)).select_from(sql.table(table)).limit(0))
    except DBAPIError:
        return False  # refused, or there is no such thing
    return True


def _writes_of_postgresql(connection: Connection) -> list[str]:
    tables = list(connection.execute(text(load_sql("writable"))).scalars())
    return [f"write {_some(tables)}"] if tables else []


def _writes(connection: Connection) -> list[str]:
    found: list[str] = []
    for (line,) in connection.execute(text("SHOW GRANTS")):
        grant = _GRANT.match(line)
        if grant is None:
            continue  # a role: what it gives has lines of its own
        words = {one.strip().upper() for one in _COLUMN_LIST.sub("", grant["privileges"]).split(",")}
        if words - _HARMLESS:
            found.append(grant["what"].replace("`", ""))
    return [f"write {_some(found)}"] if found else []


def _some(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
