"""Ledgers that lack something: older releases work as far as they go, others are refused by table and column."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from passbook.errors import LedgerUnsuitable
from projections.project import project
from projections.rows import ClientAggregate, Row
from sample_institution import tables
from sync_worker.ledger.reader import STATEMENTS
from sync_worker.ledger.statements import load_sql
from tests.ledger.conftest import Ledger
from tests.ledger.reading import bodies, everything, reader

Column = tuple[str, str]

REQUIRED: set[Column] = {
    *((one.table, one.column) for statement in STATEMENTS for one in statement.fields if not one.optional),
    *(key for statement in STATEMENTS for key in statement.keys),
}
#: Optional columns, and the fields of rows that they fill.
OPTIONAL: dict[Column, list[tuple[type[Row], str]]] = {}
for _statement in STATEMENTS:
    for _field in _statement.fields:
        if _field.optional and (_field.table, _field.column) not in REQUIRED:
            OPTIONAL.setdefault((_field.table, _field.column), []).append((_statement.row, _field.name))

A_FEW = 16


def emptied(aggregate: ClientAggregate, columns: list[Column]) -> ClientAggregate:
    """The aggregate as if these columns were NULL."""
    fields = {field for column in columns for field in OPTIONAL[column]}

    def walk(part: Any) -> None:
        if isinstance(part, list):
            for one in part:
                walk(one)
        elif isinstance(part, msgspec.Struct):
            for name in part.__struct_fields__:
                if (type(part), name) in fields:
                    setattr(part, name, None)
                else:
                    walk(getattr(part, name))

    changed = copy.deepcopy(aggregate)
    walk(changed)
    return changed


def expected(ledger: Ledger, columns: list[Column], clients: int = 10_000) -> dict[str, bytes]:
    aggregates, context = everything(ledger.url, ledger.institution)
    return {
        one.id: one.body
        for aggregate in aggregates[:clients]
        for one in project(emptied(aggregate, columns), None, context)
    }


def test_there_are_optional_columns_enough() -> None:
    assert len(OPTIONAL) > 30
    assert ("m_loan", "overpaidon_date") in OPTIONAL
    for statement in STATEMENTS:
        text = load_sql(statement.name)
        for table, column in OPTIONAL:
            assert (table, column) not in statement.keys, text


def test_each_optional_column_alone_may_be_missing(on_postgresql: Ledger) -> None:
    aggregates, context = everything(on_postgresql.url, on_postgresql.institution)
    aggregates = sorted(aggregates, key=lambda one: one.client.id)[:A_FEW]
    clients = [one.client.id for one in aggregates]
    whole = {one.id: one.body for aggregate in aggregates for one in project(aggregate, None, context)}
    matters = set()
    for column in OPTIONAL:
        found = bodies(on_postgresql.url, clients, without=[column])
        wanted = {
            one.id: one.body
            for aggregate in aggregates
            for one in project(emptied(aggregate, [column]), None, context)
        }
        assert found == wanted, column
        if found != whole:
            matters.add(column)
    assert (
        matters
        > {("m_loan", "loan_schedule_type"), ("m_loan_repayment_schedule", "is_down_payment")} - OPTIONAL.keys()
    )
    assert len(matters) > 15


def test_a_ledger_of_fineract_1_8_works(on_postgresql: Ledger) -> None:
    """All optional columns gone for real."""
    wanted = expected(on_postgresql, list(OPTIONAL))
    whole = bodies(on_postgresql.url, on_postgresql.clients)
    on_postgresql.change(*(f"ALTER TABLE {table} DROP COLUMN {column} CASCADE" for table, column in OPTIONAL))
    found = bodies(on_postgresql.url, on_postgresql.clients)
    assert found == wanted
    assert found.keys() == whole.keys()
    assert found != whole


STAMPS = [
    ("m_client_transaction", "created_on_utc"),
    ("m_loan_transaction", "created_on_utc"),
    ("m_savings_account_transaction", "created_on_utc"),
]


def test_an_upgraded_ledger_without_booking_stamps(own: Ledger) -> None:
    wanted = expected(own, STAMPS)
    for table, column in STAMPS:
        if own.engine.dialect.name == "postgresql":
            own.change(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")
        else:
            own.change(f"ALTER TABLE {table} MODIFY {column} DATETIME(6) NULL")
        own.change(f"UPDATE {table} SET {column} = NULL")
    assert bodies(own.url, own.clients) == wanted


@pytest.fixture(scope="session")
def schema(pg: Any, filled: Any) -> dict[str, dict[str, str]]:
    """The columns of a sound ledger."""
    with reader(pg.url(filled.name)) as one, one._connection.snapshot() as (connection, _):
        return {table: dict(columns) for table, columns in one._schema(connection).items()}


@pytest.mark.parametrize("column", sorted(REQUIRED), ids=".".join)
def test_a_missing_column_is_named(schema: dict[str, dict[str, str]], column: Column) -> None:
    table, name = column
    doctored = schema | {table: {key: kind for key, kind in schema[table].items() if key != name}}
    with pytest.raises(LedgerUnsuitable, match=rf"\btable {table} has no column {name}\b") as caught:
        [statement.bind(doctored) for statement in STATEMENTS]
    assert "Fineract" in caught.value.remedy


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.name)
def test_a_missing_table_is_named(schema: dict[str, dict[str, str]], statement: Any) -> None:
    for table in statement.tables:
        with pytest.raises(LedgerUnsuitable, match=rf"\b{table}\b"):
            statement.bind({name: columns for name, columns in schema.items() if name != table})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE m_loan DROP COLUMN account_no CASCADE", "The ledger's table m_loan has no column account_no"),
        ("ALTER TABLE m_client RENAME COLUMN gender_cv_id TO sex", "table m_client has no column gender_cv_id"),
        ("ALTER TABLE c_configuration RENAME COLUMN value TO amount", "c_configuration has no column value"),
        ("ALTER TABLE m_image RENAME TO images", "The ledger has no table m_image."),
        ("ALTER TABLE m_mandatory_savings_schedule RENAME TO m_plan", "no table m_mandatory_savings_schedule"),
    ],
)
def test_a_ledger_that_lacks_something_is_refused(on_postgresql: Ledger, change: str, said: str) -> None:
    on_postgresql.change(change)
    with reader(on_postgresql.url) as one:
        for attempt in (one.prepare, one.lookups, lambda: one.read([1])):
            with pytest.raises(LedgerUnsuitable, match=said) as caught:
                attempt()
            assert caught.value.remedy


def test_a_database_that_is_no_ledger_is_refused(empty: str) -> None:
    with reader(empty) as one, pytest.raises(LedgerUnsuitable, match="has no table") as caught:
        one.prepare()
    assert "Fineract tenant database" in caught.value.remedy


def test_the_list_of_tenants_is_no_ledger(empty: str) -> None:
    engine = sa.create_engine(empty)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE tenants (id integer, identifier varchar(100), oltp_id integer)")
        connection.exec_driver_sql("CREATE TABLE tenant_server_connections (id integer, schema_name varchar(100))")
    engine.dispose()
    with reader(empty) as one, pytest.raises(LedgerUnsuitable) as caught:
        one.prepare()
    assert "has no table" in caught.value.message
    assert "tenant database" in caught.value.remedy


def test_a_ledger_in_another_schema_of_the_server_is_not_taken_for_this_one(on_postgresql: Ledger) -> None:
    on_postgresql.change("CREATE SCHEMA archive", "ALTER TABLE m_loan SET SCHEMA archive")
    with reader(on_postgresql.url) as one, pytest.raises(LedgerUnsuitable, match="no table m_loan"):
        one.prepare()


def test_extra_rows_that_stand_twice_double_nothing(own: Ledger) -> None:
    """No key of the core forbids it."""
    before = bodies(own.url, own.clients)
    charges, link = tables.table("m_loan_charge"), tables.table("m_loan_tranche_disbursement_charge")
    with own.engine.begin() as connection:
        for name in ("m_deposit_account_term_and_preclosure", "m_deposit_account_recurring_detail"):
            columns = [column for column in tables.table(name).c if column.name != "id"]
            copies = sa.insert(tables.table(name)).from_select(columns, sa.select(*columns))
            connection.execute(copies)
        for _ in range(2):
            linked = sa.insert(link).from_select([link.c.loan_charge_id], sa.select(charges.c.id))
            connection.execute(linked)
    assert bodies(own.url, own.clients) == before
