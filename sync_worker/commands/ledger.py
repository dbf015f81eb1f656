"""`passbook ledger grants`."""

from __future__ import annotations

from typing import Annotated

import typer

from sync_worker.ledger.login import grants as statements

app = typer.Typer(help="The login on the core ledger.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The login on the core ledger: what it must be able to read."""


@app.command()
def grants(
    login: Annotated[
        str, typer.Argument(help="As the ledger's server writes it: passbook, or \"'passbook'@'10.0.0.%'\".")
    ],
    schema: Annotated[str, typer.Option(help="Before the tables' names: the tenant database of MySQL.")] = "",
) -> None:
    """Print the statements that let a login read what this release reads, and nothing else.

    The same for PostgreSQL, MariaDB and MySQL. Columns that not every release of Fineract has come one by one at
    the end: a statement that fails for a column that is not there can be passed over.
    """
    for statement in statements(login, schema=schema):
        print(statement)
