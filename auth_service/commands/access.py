"""`passbook access …`: the switch for everybody."""

from __future__ import annotations

from typing import Annotated

import typer

from auth_service import tenant
from auth_service.commands.session import at_keyboard, transaction
from passbook.errors import Refused
from passbook.output import Json, print_facts, print_json

app = typer.Typer(help="Access for everybody: look, switch off, switch on.", no_args_is_help=True)

Why = Annotated[str, typer.Option("--reason", help="Why; goes into the audit log.")]


@app.command()
def show(as_json: Json = False) -> None:
    """Show whether anybody at all may sign in or synchronise."""
    with transaction(compared=False) as connection:
        _print(tenant.show(connection), as_json)


@app.command()
def off(reason: Why, as_json: Json = False) -> None:
    """Keep everybody out until switched on again; nothing is deleted."""
    _switch(False, reason, as_json)


@app.command()
def on(reason: Why, as_json: Json = False) -> None:
    """Let everybody in again who was in before."""
    _switch(True, reason, as_json)


def _switch(to_open: bool, reason: str, as_json: bool) -> None:
    if not reason.strip():
        raise Refused("Say why.", remedy="--reason 'core migration, back on Monday'")
    with transaction(compared=to_open) as connection:
        _print(tenant.switch(connection, at_keyboard(), to_open=to_open, reason=reason), as_json)


def _print(one: tenant.Tenant, as_json: bool) -> None:
    if as_json:
        print_json(one.as_json())
    else:
        print_facts(one.as_json())
