"""`passbook person import`, and what the commands that import people have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from auth_service.commands.session import Reason, at_keyboard
from auth_service.importing.batches import Terms, bring_in
from auth_service.importing.handout import ASIDE, handout
from auth_service.importing.table import people_file
from auth_service.importing.wanted import Report, Wanted
from passbook.context import opened, service_database
from passbook.errors import CheckFailed, PassbookError
from passbook.output import Json, print_facts, print_json, print_table
from passbook.progress import reporting
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]
Update = Annotated[bool, typer.Option("--update", help="Change people who are there to what the list says.")]
PasswordsTo = Annotated[
    Path | None,
    typer.Option(
        help="Make initial passwords and write them to this new file. Without it, new people without a password "
        "cannot sign in until `passbook person reset-password`.",
        metavar="OUT.csv",
        dir_okay=False,
    ),
]
EveryRow = Annotated[
    bool, typer.Option("--every-row", help="List also those who were created and those who were as wished.")
]

_DECIDED = ("created", "unchanged")


def import_people(
    file: Annotated[Path, typer.Argument(help="CSV file with a header.", metavar="FILE.csv")],
    dry_run: DryRun = False,
    update: Update = False,
    passwords_to: PasswordsTo = None,
    every_row: EveryRow = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Create many people from a CSV file; rows that cannot be are listed, and the exit is 1.

    Columns, in any order and only username required: username, kind, clients, permissions, history_from,
    history_months, password. Several clients or permissions have spaces or semicolons between; no permissions means
    all of them. The same file can be imported again, and goes on where it ended.
    """
    with people_file(file) as table:
        # The whole file is looked at before anybody is created.
        total = table.check()
        settings = Settings.load()
        with opened(settings, servicedb=True) as outside, service_database(outside) as database:
            terms = Terms(
                at_keyboard(), "csv", "line", update, dry_run, initial=passwords_to is not None, reason=reason
            )
            report = carry_out(database, table.rows(), terms, total=total, passwords_to=passwords_to)
    show(report, every_row=every_row, as_json=as_json)


def carry_out(
    database: ServiceDatabase, wanted: Iterable[Wanted], terms: Terms, *, total: int, passwords_to: Path | None
) -> Report:
    """Import with a bar that shows how far it is; the initial passwords into the file, if one is named."""
    with ExitStack() as stack:
        passwords = None
        if passwords_to is not None and not terms.dry_run:
            passwords = stack.enter_context(handout(passwords_to, database))
            if passwords.moved:
                print(
                    f"passbook: {passwords.moved} initial passwords of people who are not here were moved to "
                    f"{passwords_to}{ASIDE}.",
                    file=sys.stderr,
                )
        reporter = stack.enter_context(reporting("people looked at" if terms.dry_run else "people imported"))
        try:
            return bring_in(database, wanted, terms, passwords=passwords, reporter=reporter, total=total)
        except PassbookError as error:
            error.remedy = f"{error.remedy} Who was imported stays; the same command goes on from there.".strip()
            raise


def show(report: Report, *, every_row: bool, as_json: bool) -> None:
    """Print what became of the entries. Raises `CheckFailed` if one was refused."""
    if as_json:
        print_json(report.as_json())
    else:
        listed = report.outcomes if every_row else [o for o in report.outcomes if o.outcome not in _DECIDED]
        if listed:
            print_table(
                (report.place, "username", "outcome", "reason"),
                [(one.number, one.username, one.outcome, one.reason) for one in listed],
            )
        print_facts(report.counts)
        if report.dry_run:
            print("Nothing was changed: this was a dry run.")
    if report.without_password:
        print(
            f"passbook: {report.without_password} of the new people have no password and cannot sign in until "
            "`passbook person reset-password`; --passwords-to makes them.",
            file=sys.stderr,
        )
    if refused := report.counts["refused"]:
        raise CheckFailed(
            f"{refused} of {len(report.outcomes)} were refused.", remedy="Correct them and import the list again."
        )
