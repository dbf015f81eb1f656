"""Whole client aggregates, in batches: a constant number of queries for any number of clients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, bindparam, text
from sqlalchemy.exc import DataError

from passbook.errors import LedgerUnsuitable
from projections import rows, vocabulary
from projections.money import DEFAULT_ROUNDING, ROUNDING_MODES
from sync_worker.ledger.connection import LedgerConnection
from sync_worker.ledger.pictures import Pictures
from sync_worker.ledger.statements import (
    BadRow,
    BoundStatement,
    Schema,
    Statement,
    columns_named,
    lacking,
    load_sql,
)

_T = TypeVar("_T")

CLIENTS = Statement("clients", rows.ClientRow)
CLIENT_CHARGES = Statement("client_charges", rows.ClientChargeRow)
CLIENT_TRANSACTIONS = Statement("client_transactions", rows.ClientTransactionRow)
LOANS = Statement("loans", rows.LoanRow)
DISBURSEMENTS = Statement("disbursements", rows.DisbursementRow)
INSTALMENTS = Statement("instalments", rows.InstalmentRow)
LOAN_CHARGES = Statement("loan_charges", rows.LoanChargeRow)
INSTALMENT_CHARGES = Statement("instalment_charges", rows.InstalmentChargeRow)
LOAN_TRANSACTIONS = Statement("loan_transactions", rows.LoanTransactionRow)
SAVINGS = Statement("savings", rows.SavingsRow)
PLANNED_DEPOSITS = Statement("planned_deposits", rows.PlannedDepositRow)
SAVINGS_CHARGES = Statement("savings_charges", rows.SavingsChargeRow)
SAVINGS_TRANSACTIONS = Statement("savings_transactions", rows.SavingsTransactionRow)
CURRENCIES = Statement("currencies", rows.CurrencyRow)
ORGANISATION_CURRENCIES = Statement("organisation_currencies", rows.CurrencyRow)

STATEMENTS: tuple[Statement[Any], ...] = (
    CLIENTS,
    CLIENT_CHARGES,
    CLIENT_TRANSACTIONS,
    LOANS,
    DISBURSEMENTS,
    INSTALMENTS,
    LOAN_CHARGES,
    INSTALMENT_CHARGES,
    LOAN_TRANSACTIONS,
    SAVINGS,
    PLANNED_DEPOSITS,
    SAVINGS_CHARGES,
    SAVINGS_TRANSACTIONS,
    CURRENCIES,
    ORGANISATION_CURRENCIES,
)

#: Statements that read a single value, by name: no row type says what they select.
QUERIES: tuple[str, ...] = ("rounding_mode", "business_date_rule")
#: The same, where the ledger says so.
SOME_QUERIES: tuple[str, ...] = ("business_date",)


@dataclass(frozen=True)
class Needs:
    """Columns that are read, by table: those that a ledger must have, and those that are read where it has them."""

    required: dict[str, set[str]]
    optional: dict[str, set[str]]


def needs() -> Needs:
    """What the login on the ledger must be able to read: all that any statement names."""
    required: dict[str, set[str]] = defaultdict(set)
    optional: dict[str, set[str]] = defaultdict(set)
    for name in QUERIES:
        for table, column in columns_named(load_sql(name)):
            required[table].add(column)
    for name in SOME_QUERIES:
        for table, column in columns_named(load_sql(name)):
            optional[table].add(column)
    for statement in STATEMENTS:
        for table, column in statement.keys:
            required[table].add(column)
        for one in statement.fields:
            (optional if one.optional else required)[one.table].add(one.column)
    return Needs(
        dict(required), {table: columns - required.get(table, set()) for table, columns in optional.items()}
    )


_VISIBILITY = {
    "loan_statuses": sorted(vocabulary.VISIBLE_LOAN_STATUSES),
    "savings_statuses": sorted(vocabulary.VISIBLE_SAVINGS_STATUSES),
    "hidden_loan_transactions": sorted(vocabulary.HIDDEN_LOAN_TRANSACTIONS),
    "hidden_savings_transactions": sorted(vocabulary.HIDDEN_SAVINGS_TRANSACTIONS),
}


@dataclass(frozen=True)
class Failure:
    """A client that could not be read or projected, and why. `code` is stable, `detail` is for people."""

    client_id: int
    code: str
    detail: str


@dataclass
class Batch:
    """What one snapshot of the ledger said about a batch of clients."""

    as_of: datetime
    aggregates: list[rows.ClientAggregate] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    #: Ids asked for that the ledger does not hold.
    absent: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Lookups:
    """What hardly ever changes: read once per pass."""

    as_of: datetime
    currencies: dict[str, rows.CurrencyRow]
    rounding: str
    #: The day the books are on, where the institution moves it itself.
    business_date: date | None = None


class LedgerReader:
    """Reads client aggregates from one Fineract tenant database."""

    def __init__(self, connection: LedgerConnection, pictures: Pictures) -> None:
        self._connection = connection
        self._pictures = pictures
        self._bound: dict[str, BoundStatement[Any]] = {}

    @property
    def engine(self) -> Engine:
        """The engine behind it, for those who count what it is asked."""
        return self._connection.engine

    def prepare(self) -> None:
        """Fit the statements to this ledger's columns. Raises `LedgerUnsuitable` when it lacks one."""
        with self._connection.snapshot() as (connection, _):
            schema = self._schema(connection)
        trusted = self._connection.is_postgresql
        self._bound = {one.name: one.bind(schema, trusted_dates=trusted) for one in STATEMENTS}

    def _require(self) -> None:
        if not self._bound:
            self.prepare()

    def lookups(self) -> Lookups:
        """Currencies, the rounding mode, the business date."""
        self._require()
        with self._connection.snapshot() as (connection, as_of):
            world, _ = self._fetch(connection, CURRENCIES, {})
            own, _ = self._fetch(connection, ORGANISATION_CURRENCIES, {})
            mode = connection.execute(text(load_sql("rounding_mode"))).scalar()
            day: date | None = None
            if connection.execute(text(load_sql("business_date_rule"))).scalar():
                day = connection.execute(text(load_sql("business_date"))).scalar()
        symbols = {row.code: row.symbol for row in world}
        for row in own:
            row.symbol = row.symbol or symbols.get(row.code)
        currencies = {row.code: row for row in world} | {row.code: row for row in own}
        rounding = ROUNDING_MODES.get(mode, DEFAULT_ROUNDING) if mode is not None else DEFAULT_ROUNDING
        return Lookups(as_of, currencies, rounding, day)

    def read(self, client_ids: Sequence[int]) -> Batch:
        """The aggregates of `client_ids` inside one snapshot.

        A row with a value that the driver cannot even represent (a date of the year 294276, say) spoils the whole
        answer; the batch is then halved until the client at fault stands alone and is reported.
        """
        self._require()
        try:
            with self._connection.snapshot() as (connection, as_of):
                return self._read(connection, as_of, client_ids)
        except (DataError, ValueError, OverflowError):
            if len(client_ids) == 1:
                return Batch(
                    as_of=self.now(),
                    failures=[Failure(client_ids[0], "ledger_value", "a value of a row cannot be represented")],
                )
        middle = len(client_ids) // 2
        first, second = self.read(client_ids[:middle]), self.read(client_ids[middle:])
        return Batch(
            as_of=min(first.as_of, second.as_of),
            aggregates=first.aggregates + second.aggregates,
            failures=first.failures + second.failures,
            absent=first.absent + second.absent,
        )

    def now(self) -> datetime:
        """The time by the ledger's clock, UTC."""
        with self._connection.snapshot() as (_, as_of):
            return as_of

    def _schema(self, connection: Connection) -> Schema:
        required = needs().required
        tables = sorted(required)
        scalar = "SELECT current_schema()" if self._connection.is_postgresql else "SELECT DATABASE()"
        name = connection.execute(text(scalar)).scalar()
        query = text(load_sql("columns")).bindparams(bindparam("tables", expanding=True))
        schema: dict[str, dict[str, str]] = defaultdict(dict)
        for table, column, data_type in connection.execute(query, {"schema": name, "tables": tables}):
            schema[table.lower()][column.lower()] = data_type
        for table in tables:
            if table not in schema:
                raise LedgerUnsuitable(
                    f"The ledger has no table {table}.",
                    remedy="PASSBOOK_LEDGER_URL must name a Fineract tenant database that its user may read.",
                )
        for table in tables:
            for column in sorted(required[table]):
                if column not in schema[table]:
                    raise lacking(table, column)
        return schema

    def _fetch(
        self, connection: Connection, statement: Statement[Any], parameters: dict[str, Any]
    ) -> tuple[list[Any], list[BadRow]]:
        return self._bound[statement.name].fetch(connection, parameters)

    def _read(self, connection: Connection, as_of: datetime, client_ids: Sequence[int]) -> Batch:
        parameters = {"clients": list(client_ids), **_VISIBILITY}
        got = {
            statement.name: self._fetch(connection, statement, parameters)
            for statement in STATEMENTS
            if statement not in (CURRENCIES, ORGANISATION_CURRENCIES)
        }
        found = {name: good for name, (good, _) in got.items()}
        owner_of_loan = {row.id: row.client_id for row in found["loans"]}
        owner_of_savings = {row.id: row.client_id for row in found["savings"]}
        failures: dict[int, Failure] = {}
        for statement in STATEMENTS:
            for bad in got.get(statement.name, ((), ()))[1]:
                owner = _client_of(statement, bad.owner, owner_of_loan, owner_of_savings)
                if owner is not None:
                    failures.setdefault(owner, Failure(owner, "ledger_value", f"{bad.where}: {bad.problem}"))
        aggregates = [client for client in self._assemble(found) if client.client.id not in failures]
        known = {aggregate.client.id for aggregate in aggregates} | failures.keys()
        return Batch(
            as_of=as_of,
            aggregates=aggregates,
            failures=list(failures.values()),
            absent=[client_id for client_id in client_ids if client_id not in known],
        )

    def _assemble(self, found: dict[str, list[Any]]) -> Iterable[rows.ClientAggregate]:
        by_loan = {
            name: _grouped(found[name], "loan_id")
            for name in ("disbursements", "instalments", "loan_charges", "instalment_charges", "loan_transactions")
        }
        by_savings = {
            name: _grouped(found[name], "savings_id")
            for name in ("planned_deposits", "savings_charges", "savings_transactions")
        }
        by_client = {
            name: _grouped(found[name], "client_id")
            for name in ("client_charges", "client_transactions", "loans", "savings")
        }
        for client in found["clients"]:
            yield rows.ClientAggregate(
                client=client,
                picture=self._pictures.find(client.image_location, client.image_storage),
                charges=by_client["client_charges"].get(client.id, []),
                transactions=by_client["client_transactions"].get(client.id, []),
                loans=[
                    rows.LoanAggregate(
                        loan=loan,
                        disbursements=by_loan["disbursements"].get(loan.id, []),
                        instalments=by_loan["instalments"].get(loan.id, []),
                        charges=_once(by_loan["loan_charges"].get(loan.id, [])),
                        instalment_charges=by_loan["instalment_charges"].get(loan.id, []),
                        transactions=by_loan["loan_transactions"].get(loan.id, []),
                    )
                    for loan in by_client["loans"].get(client.id, [])
                ],
                savings=[
                    rows.SavingsAggregate(
                        account=account,
                        plan=by_savings["planned_deposits"].get(account.id, []),
                        charges=by_savings["savings_charges"].get(account.id, []),
                        transactions=by_savings["savings_transactions"].get(account.id, []),
                    )
                    for account in _once(by_client["savings"].get(client.id, []))
                ],
            )


def _client_of(statement: Statement[Any], owner: int, loans: dict[int, int], savings: dict[int, int]) -> int | None:
    first = statement.fields[0].name
    if first == "loan_id":
        return loans.get(owner)
    return savings.get(owner) if first == "savings_id" else owner


def _grouped(found: list[_T], key: str) -> dict[int, list[_T]]:
    groups: dict[int, list[_T]] = defaultdict(list)
    for row in found:
        groups[getattr(row, key)].append(row)
    return groups


def _once(found: list[_T]) -> list[_T]:
    """Rows without repeats of a key: an outer join on a one-to-one table that holds two rows doubles them."""
    unique = {getattr(row, "id"): row for row in reversed(found)}  # noqa: B009 - rows have an id, _T cannot say so
    return list(reversed(unique.values())) if len(unique) != len(found) else found
