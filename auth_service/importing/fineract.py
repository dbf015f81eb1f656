"""Reading the ledger's users of self-service: their names, whether they may come in, and their clients.

Fineract had them in its own table of users, `m_appuser`. Later a plugin took self-service over, with a table of its
own, `m_appselfservice_user`; the clients are in the same table either way, by ids of the one or the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, text

from auth_service.importing.wanted import Wanted
from passbook.database import database_url, speaking_to
from passbook.errors import Conflict, LedgerUnsuitable
from passbook.read_only import read_only_engine

Table = Literal["core", "plugin"]

TABLES: dict[Table, str] = {"core": "m_appuser", "plugin": "m_appselfservice_user"}
MAPPING = "m_selfservice_user_client_mapping"

_STATES = ("enabled", "is_deleted", "nonlocked", "nonexpired")
#: All that is read, and so all that the ledger's user must be allowed to read.
READ: dict[str, tuple[str, ...]] = {
    TABLES["core"]: ("id", "username", *_STATES, "is_self_service_user"),
    TABLES["plugin"]: ("id", "username", *_STATES),
    MAPPING: ("appuser_id", "client_id"),
}


@dataclass(frozen=True)
class LedgerUsers:
    """The users of self-service, from which of the tables."""

    table: Table
    users: list[Wanted]


def ledger_users(
    address: str, table: Table | None, *, kind: str | None, statement_seconds: float, connect_seconds: float
) -> LedgerUsers:
    """Users of self-service from the ledger at `address`, from `table` or, if None, the one that has any.

    Without `kind`, somebody new with several clients is an agent. Raises `LedgerUnsuitable` if the tables are not
    there or may not be read, `Conflict` if both have users and nobody said which counts.
    """
    url = database_url(address)
    engine = read_only_engine(url, statement_seconds=statement_seconds, connect_seconds=connect_seconds)
    try:
        with speaking_to("ledger", url, "PASSBOOK_LEDGER_URL"), engine.connect() as connection:
            # One transaction, one point in time: no client of a user who was not there yet.
            schema = _schema(connection)
            used, rows = _users(connection, schema, table)
            _require(schema, MAPPING)
            clients: dict[int, list[int]] = defaultdict(list)
            for row in connection.execute(text(_sql("mappings"))):
                clients[row.user_id].append(row.client_id)
    finally:
        engine.dispose()
    return LedgerUsers(used, [_wanted(row, clients.get(row.id, []), kind) for row in rows])


def _users(
    connection: Connection, schema: dict[str, set[str]], table: Table | None
) -> tuple[Table, Sequence[Row[Any]]]:
    if table is not None:
        _require(schema, TABLES[table])
        return table, _rows(connection, table)
    # A core without the column has given its users of self-service away.
    has_core = "is_self_service_user" in schema.get(TABLES["core"], ())
    candidates: list[Table] = ["core"] if has_core else []
    if TABLES["plugin"] in schema:
        candidates.append("plugin")
    if not candidates:
        _require(schema, TABLES["core"])
    found: dict[Table, Sequence[Row[Any]]] = {}
    for one in candidates:
        _require(schema, TABLES[one])
        found[one] = _rows(connection, one)
    used = [one for one, rows in found.items() if rows]
    if len(used) > 1:
        raise Conflict(
            f"Both {TABLES['core']} and {TABLES['plugin']} have users of self-service.",
            remedy="Say --table core or --table plugin: the ids of the clients' mapping belong to one of them.",
            code="two_tables",
        )
    chosen = used[0] if used else next(iter(found))
    return chosen, found[chosen]


def _rows(connection: Connection, table: Table) -> Sequence[Row[Any]]:
    return connection.execute(text(_sql(f"users_{table}"))).all()


def _schema(connection: Connection) -> dict[str, set[str]]:
    postgresql = connection.dialect.name == "postgresql"
    name = connection.execute(text("SELECT current_schema()" if postgresql else "SELECT DATABASE()")).scalar_one()
    query = text(_sql("columns")).bindparams(bindparam("tables", expanding=True))
    found: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(query, {"schema": name, "tables": list(READ)}):
        found[row.table_name].add(row.column_name)
    return dict(found)


def _require(schema: dict[str, set[str]], table: str) -> None:
    if table not in schema:
        raise LedgerUnsuitable(
            f"The ledger has no table {table}, or its user may not read it.",
            remedy="PASSBOOK_LEDGER_URL must name a tenant database of Fineract that has self-service.",
        )
    for column in READ[table]:
        if column not in schema[table]:
            raise LedgerUnsuitable(
                f"The ledger's table {table} has no column {column}, or its user may not read it.",
                remedy=f"What must be readable: {table} ({', '.join(READ[table])}).",
            )


def _wanted(row: Row[Any], clients: list[int], kind: str | None) -> Wanted:
    return Wanted(
        row.id,
        row.username,
        kind=kind,
        new_kind="customer" if len(clients) <= 1 else "agent",
        clients=clients,
        skipped=_not_coming(row, clients),
    )


def _not_coming(row: Row[Any], clients: list[int]) -> str:
    """Why a user is not imported; empty for one who is. What is not known counts against them."""
    if _true(row.is_deleted) is not False:
        return "Deleted in the ledger."
    if not _true(row.enabled):
        return "Disabled in the ledger."
    if not _true(row.nonlocked):
        return "Locked in the ledger."
    if not _true(row.nonexpired):
        return "Expired in the ledger."
    return "" if clients else "Mapped to no client in the ledger: there is nothing to see."


def _true(value: Any) -> bool | None:
    """A boolean as databases have it: true and false, 1 and 0, or a bit, which comes as a byte."""
    if isinstance(value, bytes):
        return any(value)
    return None if value is None else bool(value)


def _sql(name: str) -> str:
    return (resources.files("auth_service.importing") / "sql" / f"{name}.sql").read_text("utf-8")
