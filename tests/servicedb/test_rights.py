"""T38: each process has a role of its own in the service database, which may do what is declared, no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from passbook.servicedb.rights import ALL, PROCESSES, RIGHTS
from passbook.servicedb.roles import Privilege, columns_of, held, privileges
from passbook.servicedb.tables import metadata
from tests.support.roles import as_process

FILE = "passbook/servicedb/rights.py"
DENIED = "42501"  # PostgreSQL's code for a right that is missing

#: What nobody may do who is not the owner, on any table.
NEVER = (
    "TRUNCATE {table}",
    "ALTER TABLE {table} ADD COLUMN mine integer",
    "ALTER TABLE {table} DISABLE TRIGGER USER",
    "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
    "DROP TABLE {table}",
    "CREATE TRIGGER mine BEFORE UPDATE ON {table} EXECUTE FUNCTION passbook_tell_access()",
)
#: And on the server.
NOR = (
    "CREATE TABLE mine (id integer)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "SET ROLE postgres",
    "ALTER ROLE passbook_worker SUPERUSER",
    "ALTER ROLE postgres PASSWORD 'mine'",
    "GRANT passbook_administration TO passbook_gateway",
    "COPY person TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
    "CREATE OR REPLACE FUNCTION passbook_tell_access() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
    "SET session_replication_role = replica",
    "ALTER DATABASE {database} SET search_path = mine",
)


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def refused(connection: sa.Connection, statement: str) -> bool:
    """Whether PostgreSQL refuses a statement for a right that is missing; nothing of it stays."""
    with connection.begin() as transaction:
        try:
            connection.exec_driver_sql(statement)
        except DBAPIError as error:
            return str(error.orig.sqlstate) == DENIED  # type: ignore[union-attr]
        finally:
            transaction.rollback()
    return False


def statements(table: str, column: str) -> Iterator[tuple[Privilege, str]]:
    yield (table, column, "SELECT"), f'SELECT "{column}" FROM {table} LIMIT 0'
    yield (table, column, "INSERT"), f'INSERT INTO {table} ("{column}") VALUES (DEFAULT)'
    yield (table, column, "UPDATE"), f'UPDATE {table} SET "{column}" = DEFAULT WHERE false'


def everything(service_url: str) -> list[tuple[Privilege, str]]:
    """Every statement on every column that there is, by the server's own word."""
    with connected(service_url) as connection:
        columns = connection.execute(
            sa.text(
                "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
                " ORDER BY table_name, ordinal_position"
            )
        ).all()
    tables = sorted({table for table, _ in columns})
    assert set(tables) == {*metadata.tables, "alembic_version"}
    deletes = [((table, "", "DELETE"), f"DELETE FROM {table} WHERE false") for table in tables]
    return [one for table, column in columns for one in statements(table, column)] + deletes


@pytest.mark.parametrize("process", PROCESSES)
def test_T38_a_process_may_do_what_is_declared_and_nothing_else(service_url: str, process: str) -> None:
    declared = set(privileges(RIGHTS[process]))
    tried = everything(service_url)
    assert len(tried) > 400
    with connected(as_process(service_url, process)) as connection:
        for privilege, statement in tried:
            wanted = privilege in declared
            assert refused(connection, statement) is not wanted, (
                f"{process} {'may not' if wanted else 'may'}: {statement}; {FILE} says otherwise"
            )
        assert held(connection) == declared
    assert declared <= {privilege for privilege, _ in tried}, f"{FILE} names what there is not"


@pytest.mark.parametrize("process", PROCESSES)
def test_T38_no_process_may_change_tables_roles_or_rules(service_url: str, process: str) -> None:
    with connected(as_process(service_url, process)) as connection:
        for table in (*metadata.tables, "alembic_version"):
            for statement in NEVER:
                assert refused(connection, statement.format(table=table)), statement.format(table=table)
        for statement in NOR:
            assert refused(connection, statement.format(database=connection.engine.url.database)), statement


def test_T38_every_table_and_column_is_decided_upon() -> None:
    """Whoever adds one says which process may do what with it."""
    for table in metadata.tables:
        rights = [one[table] for one in RIGHTS.values() if table in one]
        assert rights, f"no process may do anything with the table {table}: say in {FILE} which may"
        read = " ".join(may.read for may in rights).split()
        for column in columns_of(table):
            assert ALL in read or column in read, f"no process reads {table}.{column}: say in {FILE} which may"
    for process, declared in RIGHTS.items():
        for table, may in declared.items():
            assert table == "alembic_version" or table in metadata.tables, f"{FILE}: there is no table {table}"
            for _, columns in may.columns():
                unknown = set(columns.split()) - {ALL, *columns_of(table)}
                assert not unknown, f"{FILE}: {process}: {table} has no column {unknown}"


#: What a taken process would want most, by process.
WANTED = {
    "gateway": [
        "INSERT INTO administrator (id, username, role, password_hash) VALUES ('a', 'a', 'owner', 'x')",
        "SELECT password_hash FROM person",
        "SELECT username FROM person",
        "UPDATE person SET state = 'active'",
        "UPDATE device SET revoked_at = NULL",
        "UPDATE device SET secret_digest = ''",
        "INSERT INTO device (id, person_id, secret_digest, expires_at) VALUES ('a', 'a', '', now())",
        "SELECT sealed_private_key FROM signing_key",
        "SELECT digest FROM refresh_token",
        "SELECT person FROM audit_event",
        "UPDATE tenant SET open = true",
    ],
    "people": [
        "SELECT password_hash FROM administrator",
        "INSERT INTO administrator (id, username, role, password_hash) VALUES ('a', 'a', 'owner', 'x')",
        "INSERT INTO session (id, administrator_id, expires_at) VALUES ('a', 'a', now())",
        "UPDATE session SET administrator_id = 'a'",
        "UPDATE person SET state = 'active'",
        "INSERT INTO person_client (person_id, client_id) VALUES ('a', 1)",
        "UPDATE person SET permissions = '{loans}'",
        "UPDATE device SET revoked_at = NULL, secret_digest = ''",
        "INSERT INTO signing_key (kid, public_jwk, sealed_private_key) VALUES ('a', '{}', '')",
        "UPDATE approval SET decision = 'approved'",
        "SELECT digest FROM projected_document",
        "SELECT actor FROM audit_event",
    ],
    "administration": [
        "UPDATE device SET revoked_at = revoked_at, secret_digest = ''",
        "INSERT INTO device (id, person_id, secret_digest, expires_at) VALUES ('a', 'a', '', now())",
        "INSERT INTO signing_key (kid, public_jwk, sealed_private_key) VALUES ('a', '{}', '')",
        "UPDATE audit_event SET actor = 'somebody else'",
        "DELETE FROM audit_event",
        "UPDATE projected_document SET revision = '9-9'",
    ],
    "worker": [
        "SELECT password_hash FROM person",
        "UPDATE person SET state = 'active'",
        "INSERT INTO person_client (person_id, client_id) VALUES ('a', 1)",
        "SELECT secret_digest FROM device",
        "SELECT id FROM session",
        "SELECT id FROM administrator",
        "SELECT kid FROM signing_key",
    ],
}


@pytest.mark.parametrize("process", PROCESSES)
def test_T38_what_a_taken_process_would_want_most(service_url: str, process: str) -> None:
    with connected(as_process(service_url, process)) as connection:
        for statement in WANTED[process]:
            assert refused(connection, statement), f"{process} may: {statement}"


def test_T38_people_s_side_sees_no_session_and_no_code_of_an_administrator(service_url: str) -> None:
    """With one, and the key that both sides sign tokens with, it could make an administrator's token."""
    with connected(service_url) as owner, owner.begin():
        owner.exec_driver_sql(
            "INSERT INTO administrator (id, username, role, password_hash) VALUES ('boss', 'boss', 'owner', '-')"
        )
        owner.exec_driver_sql(
            "INSERT INTO session (id, administrator_id, expires_at) VALUES ('theirs', 'boss', 'infinity')"
        )
        owner.exec_driver_sql(
            "INSERT INTO activation (principal, administrator_id, digest, expires_at)"
            " VALUES ('boss', 'boss', '', 'infinity')"
        )
    with connected(as_process(service_url, "people")) as people, people.begin():
        for statement in (
            "SELECT id FROM session",
            "UPDATE session SET ended_at = now()",
            "DELETE FROM session",
            "SELECT digest FROM activation",
            "UPDATE activation SET used_at = NULL",
        ):
            assert people.exec_driver_sql(statement).rowcount == 0, statement
    with connected(as_process(service_url, "administration")) as administration:
        assert administration.exec_driver_sql("SELECT id FROM session").scalars().all() == ["theirs"]
