"""Short spellings for the column kinds of Fineract's tenant schema.

Each helper makes a run of columns of one kind, so that a table reads as a list of names. PostgreSQL types
are the plain ones; the MariaDB counterparts are those of a fresh install (tinyint(1), datetime(6), decimal).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Text,
    false,
    text,
    true,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

metadata = MetaData()

# Audit columns that a fresh PostgreSQL install declares NOT NULL while MariaDB leaves them nullable, since a
# later change there re-typed them without NOT NULL. `create_schema` drops the constraint on MariaDB.
STRICT_ON_POSTGRESQL = "strict on PostgreSQL"

MICROSECONDS = mysql.DATETIME(fsp=6)
SECONDS = mysql.DATETIME()


def _column(
    name: str,
    kind: type[TypeEngine[Any]] | TypeEngine[Any],
    *rest: Any,
    null: bool | str = True,
    default: object = None,
    primary_key: bool = False,
) -> Column[Any]:
    info = {STRICT_ON_POSTGRESQL: True} if null == STRICT_ON_POSTGRESQL else {}
    server_default: Any = None
    if default is True:
        server_default = true()
    elif default is False:
        server_default = false()
    elif default is not None:
        server_default = str(default) if isinstance(default, str) else text(str(default))
    return Column(
        name,
        kind,
        *rest,
        nullable=null is True,
        server_default=server_default,
        primary_key=primary_key,
        info=info,
    )


def key(kind: type[TypeEngine[Any]] = BigInteger) -> Column[Any]:
    """The generated primary key; explicit ids are accepted."""
    return Column("id", kind, Identity(always=False), primary_key=True)


def refs(
    table: str,
    *names: str,
    null: bool | str = True,
    default: object = None,
    kind: type[TypeEngine[Any]] = BigInteger,
    primary_key: bool = False,
    late: bool = False,
) -> list[Column[Any]]:
    """Foreign keys to `table.id`; `late` ones close a cycle and are added after all tables exist."""
    return [
        _column(
            name,
            kind,
            ForeignKey(f"{table}.id", name=f"fk_{name}_late", use_alter=True)
            if late
            else ForeignKey(f"{table}.id"),
            null=null,
            default=default,
            primary_key=primary_key,
        )
        for name in names
    ]


def bigints(*names: str, null: bool | str = True, default: object = None) -> list[Column[Any]]:
    """64-bit integers; also references that the schema does not enforce."""
    return [_column(name, BigInteger, null=null, default=default) for name in names]


def integers(*names: str, null: bool | str = True, default: object = None) -> list[Column[Any]]:
    """32-bit integers."""
    return [_column(name, Integer, null=null, default=default) for name in names]


def smallints(*names: str, null: bool | str = True, default: object = None) -> list[Column[Any]]:
    """16-bit integers, mostly enumeration codes."""
    return [_column(name, SmallInteger, null=null, default=default) for name in names]


def flags(*names: str, null: bool | str = True, default: object = None) -> list[Column[Any]]:
    """Booleans; tinyint(1) on MariaDB."""
    return [_column(name, Boolean, null=null, default=default) for name in names]


def decimals(
    precision: int, scale: int, *names: str, null: bool | str = True, default: object = None
) -> list[Column[Any]]:
    """Exact numbers of any precision."""
    return [_column(name, Numeric(precision, scale), null=null, default=default) for name in names]


def moneys(*names: str, null: bool | str = True, default: object = None) -> list[Column[Any]]:
    """Money and rates: every ledger amount is a decimal(19,6)."""
    return decimals(19, 6, *names, null=null, default=default)


def dates(*names: str, null: bool | str = True, default: object = None) -> list[Column[Any]]:
    """Calendar dates."""
    return [_column(name, Date, null=null, default=default) for name in names]


def instants(*names: str, null: bool | str = True) -> list[Column[Any]]:
    """UTC instants: timestamptz, and datetime(6) without a zone on MariaDB."""
    kind = DateTime(timezone=True).with_variant(MICROSECONDS, "mysql", "mariadb")
    return [_column(name, kind, null=null) for name in names]


def local_times(*names: str) -> list[Column[Any]]:
    """Local times of older releases, no longer written by Fineract."""
    return [_column(name, DateTime().with_variant(MICROSECONDS, "mysql", "mariadb")) for name in names]


def local_seconds(*names: str) -> list[Column[Any]]:
    """As `local_times`, without a fraction on MariaDB."""
    return [_column(name, DateTime().with_variant(SECONDS, "mysql", "mariadb")) for name in names]


def texts(length: int, *names: str, null: bool | str = True, default: object = None) -> list[Column[Any]]:
    """Bounded text."""
    return [_column(name, String(length), null=null, default=default) for name in names]


def long_texts(*names: str, null: bool | str = True) -> list[Column[Any]]:
    """Unbounded text."""
    return [_column(name, Text, null=null) for name in names]
