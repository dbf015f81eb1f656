"""The part of Apache Fineract's tenant schema that the sample institution fills.

Real names, columns and types of October 2024, for PostgreSQL and MariaDB, with the foreign keys among these
tables. References to tables outside this set (funds, groups, tax groups, general ledger) are plain columns,
as nothing here fills them.
"""

from __future__ import annotations

from sqlalchemy import Engine, MetaData, Table

from sample_institution.tables import clients, loan_movements, loans, organisation, products, savings
from sample_institution.tables.columns import STRICT_ON_POSTGRESQL, metadata

__all__ = [
    "clients",
    "create_schema",
    "loan_movements",
    "loans",
    "metadata",
    "organisation",
    "products",
    "savings",
    "table",
]


def table(name: str) -> Table:
    """The table of that name."""
    return metadata.tables[name]


def create_schema(engine: Engine) -> None:
    """Create the tables in the connection's default schema; tables that exist are left alone.

    On MariaDB the audit columns that a fresh install leaves nullable there are nullable here too.
    """
    wanted = metadata
    if engine.dialect.name in ("mysql", "mariadb"):
        wanted = MetaData()
        for one in metadata.tables.values():
            copy = one.to_metadata(wanted)
            copy.kwargs.update(mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate="utf8mb4_unicode_ci")
            for column in copy.columns:
                if column.info.get(STRICT_ON_POSTGRESQL):
                    column.nullable = True
    wanted.create_all(engine)
