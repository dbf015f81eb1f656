"""Who books and when: the source of ids and audit stamps for everything that is booked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypedDict

from sample_institution.rows import Ids

_OPENING_HOUR = 6  # UTC
_BETWEEN_BOOKINGS = timedelta(seconds=41)


class Stamps(TypedDict):
    """The four audit columns of a new row."""

    created_by: int
    created_on_utc: datetime
    last_modified_by: int
    last_modified_on_utc: datetime


class Desk(Protocol):
    """Supplies audit stamps and new ids."""

    @property
    def ids(self) -> Ids:
        """Where new primary keys come from."""
        ...

    @property
    def user(self) -> int:
        """The m_appuser who books."""
        ...

    def instant(self, on: date) -> datetime:
        """The UTC instant of the next booking on that business date; later calls give later instants."""
        ...


def stamps(desk: Desk, on: date) -> Stamps:
    """The audit columns of a row created on `on`."""
    now = desk.instant(on)
    return {
        "created_by": desk.user,
        "created_on_utc": now,
        "last_modified_by": desk.user,
        "last_modified_on_utc": now,
    }


class Counter:
    """Ids counted on from the highest one each table holds already."""

    def __init__(self, highest: Mapping[str, int]) -> None:
        self.highest = defaultdict(int, highest)

    def new(self, table: str) -> int:
        """The next free id of `table`."""
        self.highest[table] += 1
        return self.highest[table]


@dataclass(slots=True)
class HistoryDesk:
    """Books the past: each booking of a day comes some seconds after the one before."""

    ids: Ids
    user: int
    booked: int = field(default=0)

    def instant(self, on: date) -> datetime:
        """A working hour of `on`."""
        self.booked += 1
        return datetime(on.year, on.month, on.day, _OPENING_HOUR, tzinfo=UTC) + self.booked * _BETWEEN_BOOKINGS
