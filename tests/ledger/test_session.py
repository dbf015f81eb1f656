"""The session on the ledger: read only, bounded, one point in time, and errors that say what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from passbook.database import database_url, speaking_to
from passbook.errors import LedgerUnsuitable, PassbookError, Refused, Unavailable
from sync_worker.ledger.reader import STATEMENTS, LedgerReader
from tests.ledger.conftest import Ledger
from tests.ledger.reading import NO_PICTURES, bodies, context_of, ledger, projected, reader
from tests.support.databases import Postgres

WRITES = [
    "INSERT INTO m_code (id, code_name) VALUES (987654, 'x')",
    "UPDATE m_client SET display_name = 'x'",
    "DELETE FROM m_loan_transaction",
    "CREATE TABLE passbook_was_here (id integer)",
    "DROP TABLE m_note",
]


@pytest.mark.parametrize("statement", WRITES)
def test_nothing_can_be_written(either: Ledger, statement: str) -> None:
    with ledger(either.url) as connection:
        with connection.engine.connect() as session, pytest.raises(DBAPIError, match=r"(?i)read[- ]only"):
            session.exec_driver_sql(statement)
        with pytest.raises((DBAPIError, PassbookError)), connection.snapshot() as (session, _):
            session.exec_driver_sql(statement)


def test_the_session_stays_read_only_from_transaction_to_transaction(either: Ledger) -> None:
    with ledger(either.url) as connection, connection.engine.connect() as session:
        for _ in range(3):
            with pytest.raises(DBAPIError, match=r"(?i)read[- ]only"):
                session.exec_driver_sql(WRITES[0])
            session.rollback()


def test_a_long_query_is_ended(either: Ledger) -> None:
    nap = "SELECT pg_sleep(20)" if either.engine.dialect.name == "postgresql" else "SELECT SLEEP(20)"
    with ledger(either.url, statement_seconds=0.3) as connection:
        before = time.monotonic()
        with pytest.raises(Unavailable, match="took too long"), connection.snapshot() as (session, _):
            session.exec_driver_sql(nap)
        assert time.monotonic() - before < 5
        with connection.snapshot() as (session, _):
            assert session.exec_driver_sql("SELECT 1").scalar() == 1, "the pool recovers"


def test_the_time_is_the_ledger_s_in_utc(either: Ledger) -> None:
    with ledger(either.url) as connection, connection.snapshot() as (session, taken):
        assert taken.tzinfo is UTC
        assert abs((datetime.now(UTC) - taken).total_seconds()) < 60
        zone = "SELECT current_setting('TimeZone')" if connection.is_postgresql else "SELECT @@time_zone"
        assert session.exec_driver_sql(zone).scalar() in ("UTC", "+00:00")


@contextmanager
def listening(engine: sa.Engine, react: Any) -> Iterator[list[str]]:
    """Every statement sent over `engine`; `react` is called after each."""
    said: list[str] = []

    def after(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        said.append(statement)
        react()

    sa.event.listen(engine, "after_cursor_execute", after)
    yield said
    sa.event.remove(engine, "after_cursor_execute", after)


MEANWHILE = (
    "UPDATE m_client SET display_name = 'Meanwhile'",
    "UPDATE m_loan SET account_no = CONCAT('M', id), principal_repaid_derived = principal_repaid_derived + 1",
    "UPDATE m_loan_repayment_schedule SET interest_amount = 0.01",
    "UPDATE m_loan_transaction SET amount = amount + 1",
    "UPDATE m_loan_charge SET amount = amount + 1",
    "UPDATE m_savings_account SET account_balance_derived = account_balance_derived + 1",
    "UPDATE m_savings_account_transaction SET amount = amount + 1",
    "UPDATE m_savings_account_charge SET amount = amount + 1",
    "UPDATE m_client_charge SET amount = amount + 1",
    "UPDATE m_client_transaction SET amount = amount + 1",
)


@pytest.mark.parametrize("moment", ["the snapshot", "the first look at a client"])
def test_a_batch_is_of_one_point_in_time(own: Ledger, moment: str) -> None:
    """Somebody commits a change of everything right after `moment`."""
    signs = ("now()", "CONSISTENT SNAPSHOT") if moment == "the snapshot" else ("m_client c",)
    clients = own.clients[:12]
    with ledger(own.url) as connection:
        one = LedgerReader(connection, NO_PICTURES)
        context = context_of(one)
        before = {key: document.body for key, document in projected(one.read(clients), context).items()}
        done = False

        def meanwhile() -> None:
            nonlocal done
            if not done and any(sign in statement for statement in said for sign in signs):
                done = True
                own.change(*MEANWHILE)

        with listening(connection.engine, meanwhile) as said:
            batch = one.read(clients)
        assert done
        assert {key: document.body for key, document in projected(batch, context).items()} == before
        after = {key: document.body for key, document in projected(one.read(clients), context).items()}
    assert after.keys() == before.keys()
    assert sum(after[key] != before[key] for key in before) > len(before) * 0.9
    assert json.loads(after[f"client:{own.institution.customer}"])["display_name"] == "Meanwhile"


def test_the_number_of_statements_does_not_depend_on_the_number_of_clients(either: Ledger) -> None:
    with ledger(either.url) as connection:
        one = LedgerReader(connection, NO_PICTURES)
        one.prepare()
        counts = {}
        for size in (1, 2, 60):
            with listening(connection.engine, lambda: None) as said:
                assert len(one.read(either.clients[:size]).aggregates) == size
            counts[size] = len(said)
    assert counts[1] == counts[2] == counts[60]
    assert counts[1] <= len(STATEMENTS)
    with ledger(either.url) as connection, listening(connection.engine, lambda: None) as said:
        LedgerReader(connection, NO_PICTURES).prepare()
        assert len(said) <= 4, "fitting the statements asks once for all columns"


def test_clients_that_are_not_there_are_told(either: Ledger) -> None:
    client = either.institution.customer
    with reader(either.url) as one:
        batch = one.read([client, 10**9, client + 10**9])
        assert one.read([]).aggregates == []
    assert [aggregate.client.id for aggregate in batch.aggregates] == [client]
    assert batch.absent == [10**9, client + 10**9]


def test_clients_read_together_or_alone_are_the_same(either: Ledger) -> None:
    clients = either.clients[:15]
    together = bodies(either.url, clients)
    with reader(either.url) as one:
        context = context_of(one)
        alone = [projected(one.read([client]), context) for client in reversed(clients)]
    assert {key: document.body for found in alone for key, document in found.items()} == together


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb", "postgres", "mysql+pymysql"])
def test_a_host_that_does_not_answer_is_unavailable(scheme: str) -> None:
    with (
        ledger(f"{scheme}://core:s3cret@127.0.0.1:1/fineract?", connect_seconds=1) as connection,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/fineract does not answer") as caught,
        connection.snapshot(),
    ):
        pass
    assert "PASSBOOK_LEDGER_URL" in caught.value.remedy
    _tells_no_secret(caught.value)


def _tells_no_secret(error: PassbookError) -> None:
    for text in (str(error), error.message, error.remedy, repr(error)):
        assert "s3cret" not in text
        assert "wr0ng" not in text


def test_an_unknown_database_is_refused(pg: Postgres) -> None:
    with (
        ledger(pg.url("no_such_ledger")) as connection,
        pytest.raises(Refused, match="no_such_ledger refuses these credentials, or has no such database"),
        connection.snapshot(),
    ):
        pass


def test_an_unknown_user_is_refused(pg: Postgres) -> None:
    url = database_url(pg.url("postgres")).set(username="nobody_here", password="s3cret")
    with (
        ledger(url.render_as_string(hide_password=False)) as connection,
        pytest.raises(Refused) as caught,
        connection.snapshot(),
    ):
        pass
    _tells_no_secret(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        'FATAL:  password authentication failed for user "core"',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "core", database "fineract", no encryption',
        "fe_sendauth: no password supplied",
    ],
)
def test_what_postgresql_says_to_a_wrong_password_is_a_refusal(said: str) -> None:
    """The embedded server trusts whoever reaches its socket, so here the words stand for the server."""
    url = database_url("postgresql://core:s3cret@db.example/fineract")
    with pytest.raises(Refused, match="refuses these credentials") as caught, speaking_to("ledger", url, "X"):
        raise sa.exc.OperationalError("connect", {}, psycopg.OperationalError(said))
    _tells_no_secret(caught.value)


def test_a_wrong_password_and_an_unknown_database_on_mariadb(closed_mariadb: Ledger) -> None:
    user = f"core_{uuid4().hex[:12]}"
    closed_mariadb.change(f"CREATE USER '{user}'@'localhost' IDENTIFIED BY 's3cret'")
    root = closed_mariadb.engine.url
    try:
        for url in (
            root.set(username=user, password="wr0ng"),
            root.set(username=user, password="s3cret"),  # may log in, but has no right on the database
            root.set(database="no_such_ledger"),
        ):
            with (
                ledger(url.render_as_string(hide_password=False)) as connection,
                pytest.raises(Refused, match="refuses these credentials, or has no such database") as caught,
                connection.snapshot(),
            ):
                pass
            _tells_no_secret(caught.value)
    finally:
        closed_mariadb.change(f"DROP USER '{user}'@'localhost'")


@pytest.mark.parametrize("address", ["", "fineract", "oracle://core:s3cret@db/x", "http://core:s3cret@db/x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(Refused) as caught:
        database_url(address)
    _tells_no_secret(caught.value)


def test_an_error_inside_a_snapshot_gives_the_connection_back(either: Ledger) -> None:
    with ledger(either.url) as connection:
        for _ in range(5):
            with pytest.raises(LedgerUnsuitable), connection.snapshot():
                raise LedgerUnsuitable
        assert connection.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
