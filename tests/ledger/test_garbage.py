"""Values that no sound ledger holds: the client they belong to fails by name, the others go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from sample_institution.institution import fill
from sample_institution.tables import create_schema
from tests.ledger.conftest import Ledger
from tests.ledger.reading import bodies, context_of, projected, reader
from tests.support.databases import MariaDB

#: A ledger with garbage, its documents before that, and who has which garbage.
Spoilt = tuple[Ledger, dict[str, bytes], dict[str, int]]

#: What MySQL lets in with a permissive sql_mode, per client (`{client}`), and what is said of it.
DATES = {
    "zero day of birth": "UPDATE m_client SET date_of_birth = '0000-00-00' WHERE id = {client}",
    "no day": "UPDATE m_client SET activation_date = '2026-02-00' WHERE id = {client}",
    "no month": "UPDATE m_client SET submittedon_date = '2026-00-00' WHERE id = {client}",
    "31 February": "UPDATE m_client SET activation_date = '2026-02-31' WHERE id = {client}",
    "loan": "UPDATE m_loan SET approvedon_date = '0000-00-00' WHERE client_id = {client}",
    "instalment": "UPDATE m_loan_repayment_schedule SET duedate = '0000-00-00' WHERE loan_id IN {loans}",
    "transaction": "UPDATE m_loan_transaction SET transaction_date = '0000-00-00' WHERE loan_id IN {loans}",
    "stamp": "UPDATE m_loan_transaction SET created_on_utc = '0000-00-00 00:00:00' WHERE loan_id IN {loans}",
    "savings": "UPDATE m_savings_account SET activatedon_date = '0000-00-00' WHERE client_id = {client}",
    "year zero": "UPDATE m_client SET date_of_birth = '0000-05-05' WHERE id = {client}",
}
LOANS = "(SELECT id FROM m_loan WHERE client_id = {client} AND loan_status_id = 300)"


def borrowers(ledger: Ledger) -> list[int]:
    with ledger.engine.connect() as connection:
        query = (
            "SELECT DISTINCT c.id FROM m_client c JOIN m_loan l ON l.client_id = c.id"
            " JOIN m_savings_account a ON a.client_id = c.id"
            " WHERE c.status_enum = 300 AND l.loan_status_id = 300 AND a.status_enum = 300 ORDER BY 1"
        )
        return list(connection.exec_driver_sql(query).scalars())


def spoil(ledger: Ledger, statement: str, client: int) -> None:
    loans = LOANS.format(client=client)
    ledger.change("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'", statement.format(client=client, loans=loans))


@pytest.mark.parametrize("garbage", sorted(DATES))
def test_garbage_dates_on_mariadb(garbage: str, spoilt: Spoilt) -> None:
    ledger, before, victims = spoilt
    victim = victims[garbage]
    with reader(ledger.url) as one:
        batch = one.read([victim])
        assert batch.aggregates == []
        (failure,) = batch.failures
    assert (failure.client_id, failure.code) == (victim, "ledger_value")
    assert failure.detail.startswith("m_")
    assert "0000" not in failure.detail
    assert "2026" not in failure.detail
    assert f"client:{victim}" in before


def test_everybody_else_is_read(spoilt: Spoilt) -> None:
    ledger, before, victims = spoilt
    with reader(ledger.url) as one:
        batch = one.read(ledger.clients)
        found = {key: document.body for key, document in projected(batch, context_of(one)).items()}
    assert {failure.client_id for failure in batch.failures} == set(victims.values())
    assert batch.absent == []
    healthy = bodies(ledger.url, [client for client in ledger.clients if client not in victims.values()])
    assert found == healthy
    assert all(before[key] == body for key, body in found.items())


@pytest.fixture(scope="module")
def spoilt(maria: MariaDB) -> Iterator[Spoilt]:
    """A ledger in which each kind of garbage has its own client."""
    with maria.database() as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        create_schema(engine)
        ledger = Ledger(url, fill(engine, clients=40, seed=3), engine)
        before = bodies(url, ledger.clients)
        victims = dict(zip(sorted(DATES), borrowers(ledger), strict=False))
        assert len(victims) == len(DATES)
        for garbage, client in victims.items():
            spoil(ledger, DATES[garbage], client)
        yield ledger, before, victims
        engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE m_loan SET maturedon_date = 'infinity' WHERE client_id = {client}",
        "UPDATE m_loan_repayment_schedule SET duedate = '20000-01-01' WHERE loan_id IN {loans}",
        "UPDATE m_client SET date_of_birth = '0044-03-15 BC' WHERE id = {client}",
        "UPDATE m_loan_transaction SET created_on_utc = '-infinity' WHERE loan_id IN {loans}",
    ],
)
def test_garbage_dates_on_postgresql(on_postgresql: Ledger, statement: str) -> None:
    """psycopg cannot read such dates at all: the batch is halved until the client stands alone."""
    victim = borrowers(on_postgresql)[3]
    on_postgresql.change(statement.format(client=victim, loans=LOANS.format(client=victim)))
    clients = on_postgresql.clients[:20]
    assert victim in clients
    with reader(on_postgresql.url) as one:
        batch = one.read(clients)
    assert [(one.client_id, one.code) for one in batch.failures] == [(victim, "ledger_value")]
    assert {one.client.id for one in batch.aggregates} == set(clients) - {victim}
    assert batch.absent == []


def test_null_where_fineract_never_writes_one(own: Ledger) -> None:
    victim, other = borrowers(own)[:2]
    loans = LOANS.format(client=victim)
    if own.engine.dialect.name == "postgresql":
        own.change("ALTER TABLE m_loan_repayment_schedule ALTER COLUMN duedate DROP NOT NULL")
    else:
        own.change("ALTER TABLE m_loan_repayment_schedule MODIFY duedate DATE NULL")
    own.change(f"UPDATE m_loan_repayment_schedule SET duedate = NULL WHERE loan_id IN {loans}")
    with reader(own.url) as one:
        batch = one.read([victim, other])
    (failure,) = batch.failures
    assert failure.client_id == victim
    assert "m_loan_repayment_schedule" in failure.detail
    assert "duedate is NULL" in failure.detail
    assert [one.client.id for one in batch.aggregates] == [other]
