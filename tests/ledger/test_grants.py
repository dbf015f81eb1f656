"""T24: a user of the ledger's database that may read the white list and nothing else is enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from passbook.database import database_url
from passbook.errors import LedgerUnsuitable
from sync_worker.ledger.login import grants, too_much
from sync_worker.ledger.reader import STATEMENTS
from tests.conftest import Template
from tests.ledger.conftest import Ledger
from tests.ledger.reading import bodies, ledger, reader
from tests.support.databases import Postgres


def needed() -> dict[str, list[str]]:
    """The white list, the keys by which its tables are joined, and what is read of the settings."""
    settings = {"c_configuration": {"name", "value", "enabled"}, "m_business_date": {"date", "type"}}
    columns = defaultdict(set, settings)
    for statement in STATEMENTS:
        for table, column in statement.keys | {(one.table, one.column) for one in statement.fields}:
            columns[table].add(column)
    return {table: sorted(columns[table]) for table in sorted(columns)}


SECRETS = [
    "SELECT * FROM m_note",
    "SELECT password FROM m_appuser",
    "SELECT external_id FROM m_client",
    "SELECT loan_officer_id FROM m_loan",
    "SELECT * FROM m_client",
    "SELECT string_value FROM c_configuration",
    "SELECT display_name FROM m_staff",
]


@pytest.fixture
def limited_postgresql(pg: Postgres, filled: Template) -> Iterator[Ledger]:
    role = f"passbook_{uuid4().hex}"
    with pg.database(filled.name) as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
            for table, columns in needed().items():
                connection.exec_driver_sql(f"GRANT SELECT ({', '.join(columns)}) ON {table} TO {role}")
        limited = database_url(url).set(username=role).render_as_string(hide_password=False)
        yield Ledger(limited, filled.institution, engine)
        engine.dispose()
    with pg.database() as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP ROLE {role}")
        engine.dispose()


@pytest.fixture
def limited_mariadb(closed_mariadb: Ledger) -> Iterator[Ledger]:
    user = f"'passbook_{uuid4().hex[:12]}'@'localhost'"
    closed_mariadb.change(
        f"CREATE USER {user}",
        *(f"GRANT SELECT ({', '.join(columns)}) ON {table} TO {user}" for table, columns in needed().items()),
    )
    name = user.split("'")[1]
    limited = database_url(closed_mariadb.url).set(username=name).render_as_string(hide_password=False)
    yield Ledger(limited, closed_mariadb.institution, closed_mariadb.engine)
    closed_mariadb.change(f"DROP USER {user}")


@pytest.fixture(params=["postgresql", "mariadb"])
def limited(request: pytest.FixtureRequest) -> Ledger:
    """A ledger, by the address of a user who may read only what is needed."""
    ledger: Ledger = request.getfixturevalue(f"limited_{request.param}")
    return ledger


def test_T24_the_white_list_is_all_that_the_ledger_s_user_must_read(limited: Ledger) -> None:
    whole = limited.engine.url.render_as_string(hide_password=False)
    assert bodies(limited.url, limited.clients) == bodies(whole, limited.clients)
    engine = sa.create_engine(limited.url, poolclass=sa.NullPool)
    for statement in SECRETS:
        with engine.connect() as connection, pytest.raises(DBAPIError, match=r"(?i)denied"):
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_T24_a_column_that_may_not_be_read_is_named(limited_postgresql: Ledger) -> None:
    role = database_url(limited_postgresql.url).username
    for table, column in (("m_loan", "principal_amount"), ("m_client", "image_id"), ("c_configuration", "value")):
        limited_postgresql.change(f"REVOKE SELECT ({column}) ON {table} FROM {role}")
        with (
            reader(limited_postgresql.url) as one,
            pytest.raises(LedgerUnsuitable, match=f"table {table} has no column {column}, or its user may not"),
        ):
            one.lookups()
        limited_postgresql.change(f"GRANT SELECT ({column}) ON {table} TO {role}")


def test_T24_an_optional_column_that_may_not_be_read_is_left_out(limited_postgresql: Ledger) -> None:
    """An institution can keep the e-mail address to itself by not granting it."""
    role = database_url(limited_postgresql.url).username
    clients = limited_postgresql.clients[:20]
    assert b'"email"' in b"".join(bodies(limited_postgresql.url, clients).values())
    limited_postgresql.change(f"REVOKE SELECT (email_address) ON m_client FROM {role}")
    assert b'"email"' not in b"".join(bodies(limited_postgresql.url, clients).values())


def beyond(url: str) -> list[str]:
    with ledger(url) as connection:
        return too_much(connection)


def user_of(ledger: Ledger) -> str:
    """The limited user, as the server writes it."""
    name = str(database_url(ledger.url).username)
    return name if ledger.engine.dialect.name == "postgresql" else f"'{name}'@'localhost'"


def test_T24_a_login_with_the_white_list_may_do_nothing_else(limited: Ledger) -> None:
    assert beyond(limited.url) == []


MORE = {
    "SELECT (password) ON m_appuser": "read m_appuser.password",
    "SELECT ON m_note": "read m_note.note",
    "UPDATE (display_name) ON m_client": "write {}m_client",
    "INSERT ON m_note": "write {}m_note",
    "DELETE ON m_loan": "write {}m_loan",
}


@pytest.mark.parametrize("right", sorted(MORE))
def test_T24_a_login_that_may_do_more_is_told_of(limited: Ledger, right: str) -> None:
    if limited.engine.dialect.name != "postgresql":
        name, target = right.split(" ON ")
        limited.change(f"GRANT {name} ON {limited.engine.url.database}.{target} TO {user_of(limited)}")
    else:
        limited.change(f"GRANT {right} TO {user_of(limited)}")
    schema = "" if limited.engine.dialect.name == "postgresql" else f"{limited.engine.url.database}."
    assert beyond(limited.url) == [MORE[right].format(schema)]


def test_T24_a_right_that_comes_by_a_role_counts(limited: Ledger) -> None:
    role = f"role_{uuid4().hex[:12]}"
    limited.change(f"CREATE ROLE {role}")
    postgresql = limited.engine.dialect.name == "postgresql"
    try:
        where = "" if postgresql else f"{limited.engine.url.database}."
        limited.change(f"GRANT SELECT, INSERT ON {where}m_note TO {role}", f"GRANT {role} TO {user_of(limited)}")
        if not postgresql:
            limited.change(f"SET DEFAULT ROLE {role} FOR {user_of(limited)}")
        assert beyond(limited.url) == ["read m_note.note", f"write {where}m_note"]
    finally:
        limited.change(*([f"DROP OWNED BY {role}"] if postgresql else []), f"DROP ROLE {role}")


def test_T24_an_owner_of_the_ledger_is_told_of(either: Ledger) -> None:
    found = beyond(either.engine.url.render_as_string(hide_password=False))
    assert found[:2] == ["read m_appuser.password", "read m_note.note"]
    assert found[-1].startswith("write ")


def test_T24_the_statements_that_are_printed_suffice(own: Ledger) -> None:
    postgresql = own.engine.dialect.name == "postgresql"
    name = f"reader_{uuid4().hex[:12]}"
    user = name if postgresql else f"'{name}'@'localhost'"
    schema = "" if postgresql else str(own.engine.url.database)
    own.change(f"CREATE ROLE {name} LOGIN" if postgresql else f"CREATE USER {user}")
    try:
        own.change(*(statement.split(";")[0] for statement in grants(user, schema=schema)))
        whole = own.engine.url.render_as_string(hide_password=False)
        limited = database_url(whole).set(username=name).render_as_string(hide_password=False)
        assert bodies(limited, own.clients) == bodies(whole, own.clients)
        if postgresql:  # a fresh MariaDB opens databases of this name to everybody
            assert beyond(limited) == []
    finally:
        own.change(
            *([f"DROP OWNED BY {name}"] if postgresql else []), f"DROP {'ROLE' if postgresql else 'USER'} {user}"
        )
