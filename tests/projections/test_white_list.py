"""What the ledger keeps for itself stays there: the white list of columns, and the canaries in all the others."""

from __future__ import annotations

import ast
import inspect
import typing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

import projections
from passbook.scope import PERMISSIONS, Scope
from passbook.settings import Settings
from projections import rows
from projections.clients import display_name
from projections.documents import TYPES
from projections.project import Projected, project
from sync_worker.ledger.reader import STATEMENTS
from sync_worker.manifests import Contents, build, institution
from sync_worker.scopes import Holder
from tests.conftest import Template
from tests.ledger.reading import bodies, everybody
from tests.projections.confidential import EVERY, NEVER
from tests.projections.conftest import Read

READ = {(field.table, field.column) for statement in STATEMENTS for field in statement.fields}
READ.add(rows.BUSINESS_DATE)

#: Confidential columns that are read and never sent: to put rows in order, and to find the picture.
READ_AND_NOT_SENT = {
    ("m_client_transaction", "created_on_utc"),
    ("m_loan_transaction", "created_on_utc"),
    ("m_savings_account_transaction", "created_on_utc"),
    ("m_image", "location"),
    ("m_image", "storage_type_enum"),
}


def test_every_row_type_is_filled_by_a_statement() -> None:
    """Or the white list looked at here would not be the whole one."""
    kinds = {one for _, one in inspect.getmembers(rows, inspect.isclass) if issubclass(one, rows.Row)}
    assert {statement.row for statement in STATEMENTS} == kinds - {rows.Row}


def test_of_what_is_confidential_only_these_columns_are_read() -> None:
    confidential = {(table, column) for table, column in READ if column in NEVER.get(table, ()) or _whole(table)}
    assert confidential == READ_AND_NOT_SENT


def _whole(table: str) -> bool:
    return EVERY in NEVER.get(table, ()) or table.startswith("acc_")


def test_no_statement_looks_into_a_confidential_table() -> None:
    tables = {table for statement in STATEMENTS for table in statement.tables}
    assert not {table for table in tables if _whole(table) or table in ("m_staff", "m_appuser", "m_note")}


def test_what_is_read_and_not_sent_is_in_no_document(told: Read, shown: list[Projected]) -> None:
    aggregates, context = told
    assert any(one.client.image_location for one in aggregates)
    for aggregate in aggregates:
        stripped = msgspec.convert(msgspec.to_builtins(aggregate), rows.ClientAggregate)
        stripped.client.image_location = "elsewhere"
        stripped.client.image_storage = 2
        # Same order, other stamps.
        for lines in (stripped.transactions, *(one.transactions for one in stripped.loans + stripped.savings)):
            for line in lines:
                if line.created_on:
                    line.created_on = line.created_on.replace(year=line.created_on.year - 10)
        before = {one.id: one.body for one in project(aggregate, None, context)}
        assert {one.id: one.body for one in project(stripped, None, context)} == before


def test_every_source_named_in_the_documentation_is_on_the_white_list() -> None:
    """The documents say where each field comes from; nothing comes from a confidential column."""
    for document in TYPES:
        for _, source in _sources(document, set()):
            table, _, column = source.partition(".")
            assert column not in NEVER.get(table, ()), source
            if "*" not in column and table.startswith("m_"):
                assert (table, column) in READ, source


def _sources(kind: Any, seen: set[Any]) -> list[tuple[str, str]]:
    if kind in seen:
        return []
    seen.add(kind)
    found = []
    for name, hint in _hints(kind).items():
        for meta in getattr(hint, "__metadata__", ()):
            text = (meta.extra or {}).get("source", "")
            for part in text.replace(" else ", " ").replace(",", " ").replace("+", " ").split():
                if part.startswith("m_"):
                    found.append((name, part))
        found += [one for nested in _structs(hint) for one in _sources(nested, seen)]
    return found


def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _structs(hint: Any) -> list[Any]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [one for part in typing.get_args(hint) for one in _structs(part)]


def test_no_canary_reaches_a_document(told: Read, shown: list[Projected], filled: Template) -> None:
    assert len(filled.institution.canaries) > 3
    everything = b"\n".join(one.body for one in shown) + _manifest(told[0]).body
    for canary in filled.institution.canaries:
        assert canary.encode() not in everything


def _manifest(aggregates: list[rows.ClientAggregate]) -> Projected:
    names = {one.client.id: display_name(one.client) for one in aggregates}
    scope = Scope(frozenset(names), frozenset(PERMISSIONS), frozenset(), None)
    holder = Holder("person-agent", "agent", "passbook-agent", 1, ready=True, scope=scope)
    return build(
        holder, Contents(names=names), institution(Settings.load({}), None), datetime(2026, 6, 30, tzinfo=UTC)
    )


def test_the_ledger_is_full_of_canaries(ledger_url: str) -> None:
    """Or their absence from the documents would mean nothing."""
    engine = sa.create_engine(ledger_url)
    found = set()
    with engine.connect() as connection:
        for table, columns in NEVER.items():
            inspector = sa.inspect(connection)
            if not inspector.has_table(table):
                continue
            for column in inspector.get_columns(table):
                named = column["name"] in columns or EVERY in columns
                if named and isinstance(column["type"], sa.String):
                    name = column["name"]
                    query = sa.text(f"SELECT 1 FROM {table} WHERE {name} LIKE 'CANARY-%' LIMIT 1")
                    if connection.execute(query).scalar():
                        found.add((table, name))
    engine.dispose()
    assert {table for table, _ in found} >= {"m_client", "m_loan", "m_loan_transaction", "m_note", "m_staff"}
    assert ("m_savings_account_transaction", "ref_no") in found


def test_T23_a_new_column_changes_no_document(ledger_url: str, filled: Template) -> None:
    clients = everybody(filled.institution)
    before = bodies(ledger_url, clients)
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        for table in ("m_loan", "m_client", "m_savings_account", "m_loan_transaction", "m_charge"):
            for column in ("risk_mark", "note"):
                connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN {column} text DEFAULT 'CANARY-new'"))
    engine.dispose()
    assert bodies(ledger_url, clients) == before


def test_what_is_read_is_used() -> None:
    """A column that no projection looks at has no business on the white list."""
    used = set()
    for source in Path(projections.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
    # The reader itself needs these: whose row it is, where the picture stands, which currency a row is of.
    used |= {"client_id", "loan_id", "savings_id", "image_location", "image_storage", "code"}
    idle = {
        (statement.row.__name__, field.name)
        for statement in STATEMENTS
        for field in statement.fields
        if field.name not in used
    }
    assert not idle
