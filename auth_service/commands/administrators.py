"""`passbook administrator …`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

from auth_service import administrators
from auth_service.commands.session import (
    ByCode,
    FromInput,
    Reason,
    at_keyboard,
    credential,
    password_hash,
    transaction,
)
from passbook.output import Json, print_facts, print_json, print_table

app = typer.Typer(help="Those who administer people; they are not people themselves.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="User name or id.", metavar="ADMINISTRATOR")]
Role = Annotated[str, typer.Option(help="support, manager or owner.")]


@app.command()
def add(
    username: Annotated[str, typer.Option(help="Login name.")],
    role: Role,
    password_stdin: FromInput = False,
    by_code: ByCode = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Create an administrator. Without --password-stdin an initial password is made and shown once."""
    hashed, initial = password_hash(password_stdin, by_code, username=username)
    with transaction() as connection:
        made = administrators.add(
            connection, at_keyboard(), username=username, role=role, password_hash=hashed, reason=reason
        )
        told = credential(connection, by_code, initial, administrator_id=made.administrator)
    _print(made, as_json, told)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show all administrators."""
    with transaction() as connection:
        found = administrators.everybody(connection)
    if as_json:
        print_json([one.as_json() for one in found])
    else:
        print_table(
            ("username", "role", "state", "created", "administrator"),
            [(one.username, one.role, one.state, one.created_at, one.administrator) for one in found],
        )


@app.command()
def change(
    administrator: Name,
    role: Annotated[str | None, typer.Option(help="support, manager or owner.")] = None,
    state: Annotated[str | None, typer.Option(help="active or suspended.")] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Change role or state; one suspended is out at once. The last owner stays one."""
    with transaction() as connection:
        changed = administrators.change(
            connection, at_keyboard(), administrator, role=role, state=state, reason=reason
        )
    _print(changed, as_json)


@app.command("reset-password")
def reset_password(
    administrator: Name,
    password_stdin: FromInput = False,
    by_code: ByCode = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Set a new password, which must be changed at the next login."""
    with transaction() as connection:
        username = administrators.show(connection, administrator).username
    hashed, initial = password_hash(password_stdin, by_code, username=username)
    with transaction() as connection:
        changed = administrators.reset_password(connection, at_keyboard(), administrator, hashed, reason=reason)
        told = credential(connection, by_code, initial, administrator_id=changed.administrator)
    _print(changed, as_json, told)


def _print(
    one: administrators.Administrator, as_json: bool, told: Mapping[str, Any] = MappingProxyType({})
) -> None:
    facts = one.as_json() | dict(told)
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
