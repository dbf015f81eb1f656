"""`passbook dead-letters list`."""

from __future__ import annotations

import typer

from passbook.context import opened, service_database
from passbook.output import Json, print_json, print_table
from passbook.settings import Settings
from sync_worker import failures

app = typer.Typer(help="Clients that could not be projected.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Clients that could not be projected, and why."""


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show them; each is tried again in every pass."""
    with (
        opened(Settings.load(), servicedb=True) as outside,
        service_database(outside) as database,
        database.begin() as connection,
    ):
        found = failures.everything(connection)
    if as_json:
        print_json(found)
    else:
        print_table(
            ("client", "code", "detail", "first seen", "last seen", "attempts"),
            [
                (
                    row["client_id"],
                    row["code"],
                    row["detail"],
                    row["first_seen_at"],
                    row["last_seen_at"],
                    row["attempts"],
                )
                for row in found
            ],
        )
