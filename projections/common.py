"""Small things that several projections share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import Protocol, TypeVar

from projections.documents import Payment

_LONG_AGO = datetime.min.replace(tzinfo=UTC)

UNNAMED_CHARGE = "?"


class _Booked(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def on(self) -> date: ...
    @property
    def created_on(self) -> datetime | None: ...


_T = TypeVar("_T", bound=_Booked)


def booking_order(row: _Booked) -> tuple[date, datetime, int]:
    """Fineract's order: value date, booking, key. Rows older than the audit columns have no booking stamp."""
    return row.on, row.created_on or _LONG_AGO, row.id


def pages(rows: Iterable[_T], period: Callable[[date], str], since: date | None) -> dict[str, list[_T]]:
    """`rows` in booking order, cut into calendar pages; those before `since` are left out."""
    found: dict[str, list[_T]] = {}
    for row in sorted(rows, key=booking_order):
        if since is None or row.on >= since:
            found.setdefault(period(row.on), []).append(row)
    return found


def year(day: date) -> str:
    """Page of a loan's or a client's transactions: `2026`."""
    return f"{day.year:04d}"


def month(day: date) -> str:
    """Page of a savings account's transactions: `2026-03`."""
    return f"{day.year:04d}-{day.month:02d}"


def payment(kind: str | None, receipt: str | None) -> Payment | None:
    """How it was paid, or None when nothing of it is known."""
    return Payment(type=kind or None, receipt=receipt or None) if kind or receipt else None
