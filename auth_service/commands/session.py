"""What every command here needs: a transaction on the service database, and who is at the keyboard."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from auth_service import activation
from auth_service.activation import NO_PASSWORD
from auth_service.devices import Terms
from auth_service.passwords import given_or_new
from passbook.audit.chain import Actor, operator
from passbook.context import opened, service_database
from passbook.errors import Refused
from passbook.settings import Settings

#: The option of every command that changes something.
Reason = Annotated[str, typer.Option(help="Why; goes into the audit log. No names of people.")]


ByCode = Annotated[
    bool, typer.Option("--activation", help="Make an activation code, good once, instead of a password.")
]

FromInput = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@contextmanager
def transaction(*, compared: bool = True) -> Iterator[Connection]:
    """A transaction of the configured (or embedded) service database; `compared` as `service_database` has it."""
    with (
        opened(Settings.load(), servicedb=True) as outside,
        service_database(outside, compared=compared) as database,
        database.begin() as connection,
    ):
        yield connection


def at_keyboard() -> Actor:
    """The operator, by the name of their account on this machine."""
    try:
        return operator(getpass.getuser())
    except (OSError, KeyError):
        return operator("unknown")  # a container without an account for its user id


def device_terms(settings: Settings) -> Terms:
    """What the settings say about devices."""
    return Terms(
        settings.public_url,
        settings.device_days,
        settings.devices_per_person,
        settings.device_longest_days,
    )


def password_hash(from_input: bool, by_code: bool, *, username: str) -> tuple[str, str | None]:
    """The hash of the password on standard input, or of one made here, which is the second value and is shown.

    With `by_code` it is that of no password.
    """
    if by_code and from_input:
        raise Refused("Say one of --activation and --password-stdin.")
    if by_code:
        return NO_PASSWORD, None
    given = sys.stdin.readline().rstrip("\n") if from_input else None
    return given_or_new(given, username=username)


def credential(
    connection: Connection, by_code: bool, initial: str | None, *, person_id: str = "", administrator_id: str = ""
) -> dict[str, Any]:
    """What is shown once of somebody's access: the initial password, or the activation code that is made here."""
    if by_code:
        lives = timedelta(minutes=Settings.load().activation_minutes)
        code = activation.issue(
            connection, at_keyboard(), lives=lives, person_id=person_id, administrator_id=administrator_id
        )
        return {"activation_code": code.text, "activation_expires_at": code.expires_at}
    return {} if initial is None else {"initial_password": initial}
