"""`passbook verify`."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Annotated

import typer

from passbook.context import opened, service_database
from passbook.errors import CheckFailed
from passbook.lookup import person_id_of
from passbook.output import Json, print_json, print_table
from passbook.progress import reporting
from passbook.settings import Settings
from sync_worker.commands.session import worker
from sync_worker.verifying import Report

app = typer.Typer(help="Compare ledger and copies.", invoke_without_command=True)


@app.callback()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Put right what differs.")] = False,
    person: Annotated[str | None, typer.Option(help="Only this person (user name or id).")] = None,
    as_json: Json = False,
) -> None:
    """Compare every copy with the ledger; exit 1 if one is damaged (with --repair: if one still is).

    What the next pass will copy is listed as behind, and is no damage.
    """

    async def work() -> Report:
        async with worker(outside, database) as one:
            with reporting("people") as reporter:
                return await one.verifier().verify(reporter, only=only, repair=repair)

    with (
        opened(Settings.load(), servicedb=True, couchdb=True, ledger=True) as outside,
        service_database(outside, compared=False) as database,
    ):
        with database.begin() as connection:
            only = person_id_of(connection, person) if person is not None else None
        report = asyncio.run(work())
    if as_json:
        print_json(report.as_json())
    else:
        print_table(
            ("kind", "person", "document", "detail"),
            [(f.kind, f.person, f.document, f.detail) for f in report.findings],
        )
        print(f"{report.checked} documents checked, {len(report.findings) - report.behind} findings.")
        if report.behind:
            since = (
                f"began {report.last_pass.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
                if report.last_pass
                else "is still to come"
            )
            print(f"{report.behind} behind: not copied yet. The worker's last pass over everybody {since}.")
    if not report.ok:
        raise CheckFailed(
            "The copies are not what the ledger says.",
            remedy="`passbook verify --repair` puts them right; see also `passbook dead-letters list`.",
        )
