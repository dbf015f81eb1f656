"""Rows of a ledger in memory, and small helpers for the rules that must hold in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, select

from sample_institution.tables import metadata

Row = dict[str, Any]


def amount(value: Decimal | None) -> Decimal:
    """NULL counts as 0."""
    return Decimal(0) if value is None else value


class Ledger:
    """All rows of a ledger in memory."""

    def __init__(self, engine: Engine) -> None:
        with engine.connect() as connection:
            self.rows: dict[str, list[Row]] = {
                name: [dict(row) for row in connection.execute(select(one)).mappings()]
                for name, one in metadata.tables.items()
            }

    def by(self, table: str, column: str) -> dict[Any, list[Row]]:
        """Rows grouped by a column."""
        groups: dict[Any, list[Row]] = defaultdict(list)
        for row in self.rows[table]:
            groups[row[column]].append(row)
        return groups

    def today(self) -> date:
        """The business date."""
        days: list[date] = [row["date"] for row in self.rows["m_business_date"] if row["type"] == "BUSINESS_DATE"]
        return days[0]


def booking_order(row: Row) -> tuple[date, datetime, int]:
    created = row["created_on_utc"]
    return row["transaction_date"], created.replace(tzinfo=created.tzinfo or UTC), row["id"]


def digits_ok(row: Row, digits: int, columns: Iterable[str]) -> Iterator[str]:
    for column in columns:
        value = row.get(column)
        if isinstance(value, Decimal) and value.quantize(Decimal(1).scaleb(-digits)) != value:
            yield f"{column}={value} has more than {digits} digits"
