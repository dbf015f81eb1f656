"""T24: a user of the ledger's database that may read the white list and nothing else is enough."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from passbook.database import database_url
from passbook.errors import LedgerUnsuitable
from sync_worker.ledger.login import grants, too_much
from sync_worker.ledger.reader import QUERIES, SOME_QUERIES, STATEMENTS, needs
from sync_worker.ledger.statements import load_sql
from tests.conftest import Template
from tests.ledger.conftest import Ledger
from tests.ledger.reading import bodies, ledger, reader
from tests.support.databases import Postgres
from tests.support.killing import passbook
from tests.support.stage import Stage


def printed(login: str) -> list[str]:
    """What `passbook ledger grants` prints, a statement each."""
    return [statement.split(";")[0] for statement in grants(login)]


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
            for statement in printed(role):
                connection.exec_driver_sql(statement)
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
        *printed(user),
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


def test_T24_every_statement_on_the_ledger_is_known() -> None:
    """The grants are made of them: one that is not among these would be read without a right to it."""
    directory = resources.files("sync_worker.ledger") / "sql"
    there = {one.name.removesuffix(".sql") for one in directory.iterdir()}
    # About the server, which everybody may ask.
    assert there - {"columns", "writable"} == {one.name for one in STATEMENTS} | {*QUERIES, *SOME_QUERIES}
    for name in there - {"columns", "writable"}:
        code = "\n".join(line for line in load_sql(name).splitlines() if not line.startswith("--"))
        words = re.sub(r"'[^']*'|:\w+|\{columns\}", " ", code)
        bare = set(re.findall(r"(?<![\w.])[a-z_]+(?![\w.(])", words))
        aliases = {alias for _, alias in re.findall(r"(?:FROM|JOIN)\s+(\w+)\s+(\w+)", code)}
        tables = {table for table, _ in re.findall(r"(?:FROM|JOIN)\s+(\w+)\s+(\w+)", code)}
        assert not bare - aliases - tables, f"{name}.sql: name each column as alias.column"


def test_T24_without_any_one_column_the_ledger_is_refused_with_its_name(limited: Ledger) -> None:
    user, postgresql = user_of(limited), limited.engine.dialect.name == "postgresql"
    tried = 0
    with reader(limited.url) as one:
        for table, columns in sorted(needs().required.items()):
            # One of each table on MariaDB, where each takes longer.
            for column in sorted(columns)[: None if postgresql else 1]:
                limited.change(f"REVOKE SELECT ({column}) ON {table} FROM {user}")
                with pytest.raises(LedgerUnsuitable) as refused:
                    one.prepare()
                assert f"table {table} has no column {column}, or its user may not" in refused.value.message
                assert refused.value.exit_code == 2
                limited.change(f"GRANT SELECT ({column}) ON {table} TO {user}")
                tried += 1
        one.prepare()
    assert tried > (150 if postgresql else 15)


@pytest.fixture
def limited_stage(limited: Ledger, service_url: str, couchdb_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A worker's surroundings, the ledger by the address of that user."""
    one = Stage(limited.url, service_url, couchdb_url, limited.institution, tmp_path)
    yield one
    one.close()


async def test_T24_with_what_is_printed_worker_verification_and_rebuilding_work(
    limited: Ledger, limited_stage: Stage
) -> None:
    """As an operator runs them; and without one column, exit status 2, its name and its table's."""
    stage = limited_stage
    stage.add("agent", limited.institution.agent_clients[:3])

    async def run(*command: str) -> tuple[int, str, str]:
        return await passbook(*command, environment=stage.environment)

    status, output, errors = await run("worker", "once", "--json")
    assert (status, errors) == (0, "")
    assert json.loads(output)["documents_written"] > 20
    revisions = await stage.revisions("agent")
    assert (await run("verify"))[0] == 0
    async with stage.couch() as couch:
        await couch.delete_database(stage.database_of("agent"))
    assert (await run("verify", "--repair"))[0] == 0
    assert await stage.revisions("agent") == revisions
    limited.change(f"REVOKE SELECT (principal_amount) ON m_loan FROM {user_of(limited)}")
    for command in (("worker", "once"), ("verify",)):
        status, _, errors = await run(*command)
        assert status == 2
        assert "table m_loan has no column principal_amount, or its user may not read it" in errors
        assert "passbook ledger grants" in errors


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
