"""What all rows share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


class Ids(Protocol):
    """Where new primary keys come from."""

    def new(self, table: str) -> int:
        """The next free id of `table`."""
        ...


@dataclass(slots=True, kw_only=True)
class Row:
    """A row of `table`."""

    table: ClassVar[str]
    id: int


@dataclass(slots=True, kw_only=True)
class Audited(Row):
    """A row that carries Fineract's audit stamps, in UTC."""

    created_by: int
    created_on_utc: datetime
    last_modified_by: int
    last_modified_on_utc: datetime


def column_names(kind: Any) -> tuple[str, ...]:
    """The columns a row class sets, in field order."""
    return tuple(field.name for field in fields(kind))
