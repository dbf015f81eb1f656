"""What all tables share: the metadata with its naming rule, and the columns that many have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, DateTime, MetaData, text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def instant(name: str, *, required: bool = False) -> Column[Any]:
    """A point in time, with its zone. A required one is the time of the insert unless told."""
    default = text("now()") if required else None
    return Column(name, DateTime(timezone=True), nullable=not required, server_default=default)
