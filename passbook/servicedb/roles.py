"""Roles of the PostgreSQL server: made for each process, given what `rights` declares, looked at when it starts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from sqlalchemy import Connection, text

from passbook.credentials import new_secret
from passbook.errors import Refused
from passbook.servicedb.rights import ALL, ONLY_GROW, PROCESSES, RIGHTS, May
from passbook.servicedb.tables import metadata

#: Table, column (empty for DELETE), privilege.
Privilege = tuple[str, str, str]
_POLICY = "passbook_rows"


def role_of(prefix: str, process: str) -> str:
    """The name of a process's role."""
    return f"{prefix}_{process}"


def ensure(connection: Connection, prefix: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Make the role of each process unless it is there, and give it its rights; the passwords that were made here.

    A password that is given (not empty) becomes the role's; a role without one that is there keeps what it has.
    To be called as the owner of the tables, who must be allowed to make roles. Raises `Refused` for a role of that
    name that may do what no process may.
    """
    made: dict[str, str] = {}
    for process in PROCESSES:
        role = role_of(prefix, process)
        found = connection.execute(
            text("SELECT rolsuper OR rolcreaterole OR rolbypassrls AS mighty FROM pg_roles WHERE rolname = :role"),
            {"role": role},
        ).one_or_none()
        if found is not None and found.mighty:
            raise Refused(
                f"There is a PostgreSQL role {role!r} that may do anything.",
                remedy="Drop it, or set PASSBOOK_SERVICE_DB_ROLES to another beginning of the names.",
            )
        password = passwords.get(process, "")
        if found is None and not password:
            password = made[process] = new_secret()
        if found is None:
            _run(connection, f"CREATE ROLE {_quoted(connection, role)} LOGIN")
        if password:
            # As a verifier: the server's log may repeat statements.
            verifier = _verifier(connection, role, password)
            _run(connection, f"ALTER ROLE {_quoted(connection, role)} PASSWORD '{verifier}'")
        give(connection, role, process)
    return made


def give(connection: Connection, role: str, *processes: str) -> None:
    """Give a role what these processes need together, and take everything else away."""
    quoted = _quoted(connection, role)
    _start_from_nothing(connection, quoted)
    for process in processes:
        for table, may in RIGHTS[process].items():
            _grant(connection, quoted, table, may)
    for table in {table for rights in RIGHTS.values() for table, may in rights.items() if may.rows}:
        bounds = {RIGHTS[process][table].rows for process in processes if table in RIGHTS[process]}
        _bound(connection, role, table, bounds.pop() if len(bounds) == 1 else "")


def refresh(connection: Connection, prefix: str) -> list[str]:
    """Give the roles that have rights here what this release wants them to have; which they are."""
    found: list[str] = []
    for process in PROCESSES:
        role = role_of(prefix, process)
        here = connection.execute(
            text("SELECT EXISTS (SELECT FROM information_schema.column_privileges WHERE grantee = :role)"),
            {"role": role},
        ).scalar()
        if here:
            give(connection, role, process)
            found.append(role)
    return found


def give_everything(connection: Connection, role: str) -> None:
    """Give one role what all processes and commands together take. The audit log it may read and add to.

    Raises `Refused` for a role that does not exist.
    """
    if connection.execute(text("SELECT to_regrole(quote_ident(:role))"), {"role": role}).scalar() is None:
        raise Refused(f"There is no PostgreSQL role {role!r}.", remedy="Make it first: CREATE ROLE …")
    quoted = _quoted(connection, role)
    _start_from_nothing(connection, quoted)
    _grant(connection, quoted, "alembic_version", May(read=ALL))
    for table in metadata.tables:
        grows = table in ONLY_GROW
        _grant(connection, quoted, table, May(read=ALL, add=ALL, change="" if grows else ALL, remove=not grows))


@dataclass(frozen=True)
class Standing:
    """What the user of a connection lacks of its processes' rights, and may do beyond them."""

    user: str
    missing: list[Privilege]
    beyond: list[Privilege]


def standing(connection: Connection, processes: Iterable[str]) -> Standing:
    """How the current user stands as the user of these processes."""
    wanted = {one for process in processes for one in privileges(RIGHTS[process])}
    found = held(connection)
    user = str(connection.execute(text("SELECT current_user")).scalar())
    return Standing(user, sorted(wanted - found), sorted(found - wanted))


def held(connection: Connection) -> set[Privilege]:
    """Every privilege of the current user on the tables here."""
    statement = (resources.files("passbook.servicedb") / "sql" / "privileges.sql").read_text("utf-8")
    return {(row.table, row.column, row.privilege) for row in connection.execute(text(statement))}


def privileges(rights: Mapping[str, May]) -> Iterator[Privilege]:
    """Every privilege that is declared, column by column."""
    for table, may in rights.items():
        for privilege, columns in may.columns():
            for column in columns_of(table) if columns == ALL else columns.split():
                yield table, column, privilege
        if may.remove:
            yield table, "", "DELETE"


def columns_of(table: str) -> list[str]:
    """The columns of a table."""
    return ["version_num"] if table == "alembic_version" else [column.name for column in metadata.tables[table].c]


def in_words(some: Iterable[Privilege]) -> str:
    """For messages: `SELECT on person (state, username); DELETE on device`."""
    columns: dict[tuple[str, str], list[str]] = defaultdict(list)
    for table, column, privilege in sorted(some):
        columns[privilege, table] += [column] if column else []
    return "; ".join(
        f"{privilege} on {table}" + (f" ({', '.join(names)})" if names else "")
        for (privilege, table), names in columns.items()
    )


def _start_from_nothing(connection: Connection, quoted: str) -> None:
    schema = connection.execute(text("SELECT quote_ident(current_schema())")).scalar()
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        _run(connection, f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {quoted}")
    _run(connection, f"REVOKE ALL ON SCHEMA {schema} FROM {quoted}")
    _run(connection, f"GRANT USAGE ON SCHEMA {schema} TO {quoted}")


def _grant(connection: Connection, quoted: str, table: str, may: May) -> None:
    for privilege, columns in may.columns():
        if columns:
            named = "" if columns == ALL else f" ({', '.join(columns.split())})"
            _run(connection, f"GRANT {privilege}{named} ON {table} TO {quoted}")
    if may.remove:
        _run(connection, f"GRANT DELETE ON {table} TO {quoted}")


def _bound(connection: Connection, role: str, table: str, rows: str) -> None:
    """Bound the rows of a table that a role sees and writes. For everybody else all rows are there as before."""
    quoted, policy = _quoted(connection, role), _quoted(connection, f"{_POLICY}_{role}")
    _run(connection, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    _run(connection, f"DROP POLICY IF EXISTS {_POLICY} ON {table}")
    _run(connection, f"CREATE POLICY {_POLICY} ON {table} USING (true)")
    _run(connection, f"DROP POLICY IF EXISTS {policy} ON {table}")
    if rows:
        _run(connection, f"CREATE POLICY {policy} ON {table} AS RESTRICTIVE TO {quoted} USING ({rows})")


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _verifier(connection: Connection, role: str, password: str) -> str:
    driver: Any = connection.connection.driver_connection
    return str(driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode())


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)
