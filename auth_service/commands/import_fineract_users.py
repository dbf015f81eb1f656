"""`passbook import-fineract-users`."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from auth_service.commands.importing import DryRun, EveryRow, PasswordsTo, Update, carry_out, show
from auth_service.commands.session import Reason, at_keyboard
from auth_service.importing.batches import Terms
from auth_service.importing.fineract import TABLES, Table, ledger_users
from passbook.context import opened, service_database
from passbook.errors import CheckFailed, Refused
from passbook.output import Json
from passbook.settings import Settings

app = typer.Typer(help="Take over the ledger's users of self-service.", invoke_without_command=True)


class Tables(StrEnum):
    """Which of the ledger's tables has the users."""

    AUTO = "auto"
    CORE = "core"
    PLUGIN = "plugin"


class Kind(StrEnum):
    """What people are."""

    CUSTOMER = "customer"
    AGENT = "agent"


@app.callback()
def import_fineract_users(
    table: Annotated[
        Tables,
        typer.Option(help="core: m_appuser; plugin: m_appselfservice_user; auto: the one that has users."),
    ] = Tables.AUTO,
    kind: Annotated[
        Kind | None,
        typer.Option(help="What all of them are. Unless said, somebody new with several clients is an agent."),
    ] = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    update: Update = False,
    passwords_to: PasswordsTo = None,
    every_row: EveryRow = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Create the people who are users of self-service in the ledger. Shows the plan first, and asks.

    The ledger is only read, and no password is: people get initial ones (--passwords-to), or theirs are reset.
    Users who are deleted, disabled, locked or expired there, or have no client, are left out and listed.
    """
    ask = not (yes or dry_run)
    if ask and (as_json or not sys.stdin.isatty()):
        raise Refused(
            "There is nobody to ask whether these people may come in.",
            remedy="Look at them with --dry-run, then repeat the command with --yes.",
        )
    settings = Settings.load()
    with opened(settings, ledger=True, servicedb=True) as outside:
        chosen: Table | None = None if table is Tables.AUTO else ("core" if table is Tables.CORE else "plugin")
        found = ledger_users(
            outside.ledger_url,
            chosen,
            kind=kind.value if kind else None,
            statement_seconds=settings.ledger_statement_seconds,
            connect_seconds=settings.connect_seconds,
        )
        terms = Terms(
            at_keyboard(),
            "fineract",
            "ledger user",
            update,
            dry_run,
            initial=passwords_to is not None,
            reason=reason,
        )
        with service_database(outside) as database:
            total = len(found.users)
            if ask:
                plan = carry_out(
                    database, found.users, replace(terms, dry_run=True), total=total, passwords_to=passwords_to
                )
                try:
                    show(plan, every_row=every_row, as_json=False)
                except CheckFailed as error:
                    print(error.message)
                typer.confirm(f"Import these people, who are in {TABLES[found.table]}?", abort=True)
            report = carry_out(database, found.users, terms, total=total, passwords_to=passwords_to)
    if not as_json:
        print(f"Users in {TABLES[found.table]} of the ledger:")
    show(report, every_row=every_row, as_json=as_json)
