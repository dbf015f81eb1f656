"""From the white list of `projections.rows` to SQL: which columns a statement selects and how they are read.

A statement stands in `sql/<name>.sql` with `{columns}` for its select list, which is filled with the columns that
its row type names and this ledger has. What it reads is bound at start, once, against the ledger's real columns.
"""

from __future__ import annotations

import operator
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import BindParameter, Connection, TextClause, bindparam, text

from passbook.errors import LedgerUnsuitable
from projections import rows

R = TypeVar("R", bound=rows.Row)

#: table -> column -> data type, as the ledger's information_schema tells.
Schema = Mapping[str, Mapping[str, str]]

_SOURCE = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)\s+(\w+)", re.IGNORECASE)
_KEY = re.compile(r"\b([a-z]+)\.(\w+)")
_LISTS = ("clients", "loan_statuses", "savings_statuses", "hidden_loan_transactions", "hidden_savings_transactions")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be believed: whose it is, where it stands, what is wrong."""

    owner: int
    where: str
    problem: str


@dataclass(frozen=True)
class _Field:
    name: str
    table: str
    column: str
    path: str
    optional: bool
    kind: type
    nullable: bool


def load_sql(name: str) -> str:
    """Text of `sql/<name>.sql`."""
    return (resources.files("sync_worker.ledger") / "sql" / f"{name}.sql").read_text("utf-8")


def clause(sql: str) -> TextClause:
    """`sql` with its list parameters bound as lists."""
    statement = text(sql)
    lists: list[BindParameter[Any]] = [bindparam(name, expanding=True) for name in _LISTS if f":{name}" in sql]
    return statement.bindparams(*lists) if lists else statement


class Statement(Generic[R]):
    """One statement and the row type it fills."""

    def __init__(self, name: str, row: type[R]) -> None:
        self.name = name
        self.row = row
        self._sql = load_sql(name)
        tables = _tables(self._sql)
        self.tables = frozenset(tables.values())
        self.fields = tuple(_fields(row, tables))
        #: (table, column) of what the statement joins and filters by; no part of the rows.
        self.keys = columns_named(self._sql)

    def bind(self, schema: Schema, *, trusted_dates: bool = False) -> BoundStatement[R]:
        """The statement for this ledger; `trusted_dates` if its driver never answers a date as text.

        Raises `LedgerUnsuitable`, naming table and column, when it lacks what Passbook must have.
        """
        selected = []
        converters: list[tuple[int, Callable[[Any], Any]]] = []
        for index, field in enumerate(self.fields):
            columns = schema.get(field.table)
            if columns is None:
                raise LedgerUnsuitable(
                    f"The ledger has no table {field.table}.",
                    remedy="PASSBOOK_LEDGER_URL must name a Fineract tenant database (not fineract_tenants).",
                )
            if field.column in columns:
                selected.append(field.path)
                convert = _converter(field.kind, columns[field.column], trusted_dates)
                if convert:
                    converters.append((index, convert))
            elif field.optional:
                selected.append("NULL")
            else:
                raise lacking(field.table, field.column)
        for table, column in sorted(self.keys):
            if column not in schema.get(table, {}):
                raise lacking(table, column)
        sql = self._sql.replace("{columns}", ",\n       ".join(selected))
        return BoundStatement(self, clause(sql), tuple(converters))


class BoundStatement(Generic[R]):
    """A statement fitted to one ledger."""

    def __init__(
        self, statement: Statement[R], sql: TextClause, converters: tuple[tuple[int, Callable[[Any], Any]], ...]
    ) -> None:
        self._statement = statement
        self._sql = sql
        self._converters = converters
        self._required = [index for index, field in enumerate(statement.fields) if not field.nullable]
        self._pick = operator.itemgetter(*self._required)

    def fetch(self, connection: Connection, parameters: Mapping[str, Any]) -> tuple[list[R], list[BadRow]]:
        """All rows, and apart from them those that cannot be believed."""
        wanted = {key: value for key, value in parameters.items() if f":{key}" in self._sql.text}
        make, pick = self._statement.row, self._pick
        good: list[R] = []
        bad: list[BadRow] = []
        # The driver's own rows: wrapping them is a fifth of the whole reading.
        cursor: Any = connection.execute(self._sql, wanted).cursor
        driver: Any = connection.dialect.loaded_dbapi
        try:
            records = cursor.fetchall()
        except driver.DataError as error:
            raise ValueError("the driver cannot represent a value") from error
        for record in records:
            values: Any = record
            if self._converters:
                values, problem = self._converted(record)
                if problem:
                    bad.append(problem)
                    continue
            if None in pick(values):
                bad.append(self._missing(values))
            else:
                good.append(make(*values))
        return good, bad

    def _converted(self, record: Any) -> tuple[list[Any], BadRow | None]:
        values = list(record)
        for index, convert in self._converters:
            value = values[index]
            if value is not None:
                try:
                    values[index] = convert(value)
                except (ValueError, ArithmeticError, TypeError):
                    return values, self._bad(values, index, "does not hold what its type says")
        return values, None

    def _missing(self, values: Any) -> BadRow:
        index = next(index for index in self._required if values[index] is None)
        return self._bad(values, index, "is NULL, which Fineract never writes")

    def _bad(self, values: Any, index: int, problem: str) -> BadRow:
        fields = self._statement.fields
        field = fields[index]
        key = next((i for i, other in enumerate(fields) if other.name == "id"), 0)
        row = f"{fields[key].table} {values[key]}" if key else f"{field.table} of {fields[0].column} {values[0]}"
        return BadRow(int(values[0]), row, f"{field.table}.{field.column} {problem}")


def columns_named(sql: str) -> frozenset[tuple[str, str]]:
    """(table, column) of all that a statement names, as `alias.column`."""
    tables = _tables(sql)
    code = "\n".join(line for line in sql.splitlines() if not line.startswith("--"))
    return frozenset((tables[alias], column) for alias, column in _KEY.findall(code))


def _tables(sql: str) -> dict[str, str]:
    return {alias: table for table, alias in _SOURCE.findall(sql)}


def lacking(table: str, column: str) -> LedgerUnsuitable:
    """The error for a column that is not there, as far as the ledger's user can see."""
    return LedgerUnsuitable(
        f"The ledger's table {table} has no column {column}, or its user may not read it.",
        remedy="Passbook reads Fineract 1.8 and later; is this tenant database fully upgraded? "
        "`passbook ledger grants LOGIN` prints what its user must be able to read.",
    )


def _fields(row: type[rows.Row], tables: Mapping[str, str]) -> list[_Field]:
    hints = typing.get_type_hints(row, include_extras=True)
    found = []
    for name in (field.name for field in msgspec.structs.fields(row)):
        kind, source = typing.get_args(hints[name])
        options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        alias, _, column = source.path.partition(".")
        found.append(
            _Field(
                name=name,
                table=tables[alias],
                column=column,
                path=source.path,
                optional=source.optional,
                kind=next(option for option in options if option is not types.NoneType),
                nullable=types.NoneType in options,
            )
        )
    return found


def _converter(kind: type, data_type: str, trusted_dates: bool) -> Callable[[Any], Any] | None:
    """How to read a column of `data_type` as `kind`, or None when the driver already answers that.

    PostgreSQL's dates are dates; MySQL's can be text in disguise, and are looked at.
    """
    data_type = data_type.lower()
    plain = {
        bool: ("boolean",),
        int: ("bigint", "integer", "smallint", "int", "mediumint", "tinyint"),
        Decimal: ("numeric", "decimal"),
        str: ("character varying", "varchar", "text", "char", "character", "longtext", "mediumtext"),
        datetime: ("timestamp with time zone",),
        date: ("date",) if trusted_dates else (),
    }
    if data_type in plain.get(kind, ()):
        return None
    return {bool: _bool, int: _int, Decimal: _decimal, str: _text, datetime: _instant, date: _date}[kind]


def _bool(value: Any) -> bool:
    # Ledgers upgraded from before 1.6 hold BIT(1), which MySQL drivers answer as b"\x00" or b"\x01".
    if isinstance(value, bytes):
        return any(value)
    return bool(int(value))


def _int(value: Any) -> int:
    if isinstance(value, bytes):
        return int.from_bytes(value, "big")
    number = int(value)
    if number != value:
        raise ValueError(value)
    return number


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value))


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _instant(value: Any) -> datetime:
    # MariaDB stores UTC without a zone.
    if not isinstance(value, datetime):
        raise TypeError(value)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _date(value: Any) -> date:
    # PyMySQL answers dates it cannot read (0000-00-00) as text.
    if isinstance(value, datetime):
        return value.date()
    if not isinstance(value, date):
        raise TypeError(value)
    return value
