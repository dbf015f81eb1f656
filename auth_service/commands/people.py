"""`passbook person …`."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated

import typer

from auth_service import people
from auth_service.commands.session import transaction
from passbook.context import opened, service_database
from passbook.couch import CouchClient
from passbook.erasure import erase
from passbook.errors import Refused
from passbook.output import Json, print_facts, print_json, print_table
from passbook.scope import PERMISSIONS
from passbook.settings import Settings

app = typer.Typer(help="People who log in: add, look, link, permit, suspend, delete.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="User name or id.", metavar="PERSON")]
Clients = Annotated[list[str], typer.Option("--client", help="Client id in the ledger; can be repeated.")]
FromInput = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command()
def add(
    username: Annotated[str, typer.Option(help="Login name.")],
    kind: Annotated[str, typer.Option(help="customer or agent.")] = "customer",
    client: Clients = [],  # noqa: B006 - typer reads it and never changes it
    permission: Annotated[
        list[str], typer.Option("--permission", help=f"Only these, of: {', '.join(PERMISSIONS)}.")
    ] = [],  # noqa: B006
    password_stdin: FromInput = False,
    as_json: Json = False,
) -> None:
    """Create a person. Without --password-stdin an initial password is made and shown once."""
    with transaction() as connection:
        person, initial = people.add(
            connection,
            username=username,
            kind=kind,
            clients=_ids(client),
            permissions=permission or PERMISSIONS,
            password=_password(password_stdin),
        )
    _print(person, as_json, initial)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show everybody."""
    with transaction() as connection:
        found = people.everybody(connection)
    if as_json:
        print_json([person.as_json() for person in found])
    else:
        print_table(
            ("username", "kind", "state", "clients", "devices", "person"),
            [(p.username, p.kind, p.state, len(p.clients), p.devices, p.person) for p in found],
        )


@app.command()
def show(person: Name, as_json: Json = False) -> None:
    """Show one person."""
    with transaction() as connection:
        _print(people.show(connection, person), as_json)


@app.command()
def suspend(person: Name, as_json: Json = False) -> None:
    """Keep a person out until restored; nothing is deleted."""
    with transaction() as connection:
        _print(people.suspend(connection, person), as_json)


@app.command()
def restore(person: Name, as_json: Json = False) -> None:
    """Let a suspended person in again."""
    with transaction() as connection:
        _print(people.restore(connection, person), as_json)


@app.command()
def delete(
    person: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Erase a person for good: access, devices, their database, their data here. On a terminal it asks first."""
    settings = Settings.load()
    if sys.stdin.isatty() and not (yes or as_json):
        typer.confirm(f"Erase {person!r} for good?", abort=True)
    with (
        opened(settings, servicedb=True, couchdb=True) as outside,
        service_database(outside) as database,
    ):
        with database.begin() as connection:
            person_id, database_name = people.begin_deletion(connection, person)

        async def finish() -> None:
            async with CouchClient(
                outside.couchdb_url, connections=1, connect_seconds=settings.connect_seconds
            ) as couch:
                await erase(couch, database, person_id, database_name)

        asyncio.run(finish())
    if as_json:
        print_json({"person": person_id, "deleted": True})
    else:
        print(f"{person} is erased.")


@app.command("reset-password")
def reset_password(person: Name, password_stdin: FromInput = False, as_json: Json = False) -> None:
    """Set a new password, which must be changed at the next login."""
    with transaction() as connection:
        changed, initial = people.reset_password(connection, person, _password(password_stdin))
    _print(changed, as_json, initial)


@app.command()
def link(person: Name, client: Clients, as_json: Json = False) -> None:
    """Let a person see more clients."""
    with transaction() as connection:
        _print(people.link(connection, person, _ids(client)), as_json)


@app.command()
def unlink(person: Name, client: Clients, as_json: Json = False) -> None:
    """Take clients away from a person; their documents leave the devices."""
    with transaction() as connection:
        _print(people.unlink(connection, person, _ids(client)), as_json)


@app.command()
def permit(
    person: Name,
    only: Annotated[list[str], typer.Option("--only", help="Exactly these permissions; can be repeated.")] = [],  # noqa: B006
    grant: Annotated[list[str], typer.Option("--grant", help="Add a permission.")] = [],  # noqa: B006
    deny: Annotated[list[str], typer.Option("--deny", help="Take a permission away.")] = [],  # noqa: B006
    history_from: Annotated[str | None, typer.Option(help="Transactions from this day on, YYYY-MM-DD.")] = None,
    history_months: Annotated[int | None, typer.Option(help="Transactions of the last so many months.")] = None,
    history_all: Annotated[bool, typer.Option("--history-all", help="All transactions.")] = False,
    as_json: Json = False,
) -> None:
    """Change what a person may see."""
    window = _window(history_from, history_months, history_all)
    if not (only or grant or deny or window):
        raise Refused(
            "Nothing to change.", remedy="Say --only, --grant or --deny with a permission, or a --history option."
        )
    with transaction() as connection:
        changed = people.permit(connection, person, only=only or None, grant=grant, deny=deny, window=window)
    _print(changed, as_json)


def _ids(texts: list[str]) -> list[int]:
    for text in texts:
        if not text.isascii() or not text.isdigit():
            raise Refused(
                f"{text!r} cannot be the id of a client.", remedy="It is a whole number, as in the ledger."
            )
    return [int(text) for text in texts]


def _window(since: str | None, months: int | None, everything: bool) -> people.Window | None:
    if sum((since is not None, months is not None, everything)) > 1:
        raise Refused("Say one of --history-from, --history-months and --history-all.")
    if since is not None:
        try:
            return people.Window(since=datetime.strptime(since, "%Y-%m-%d").date())  # noqa: DTZ007 - a day has no zone
        except ValueError:
            raise Refused(f"{since!r} is no day.", remedy="Write it as YYYY-MM-DD.") from None
    if months is not None:
        return people.Window(months=months)
    return people.Window() if everything else None


def _password(from_input: bool) -> str | None:
    return sys.stdin.readline().rstrip("\n") if from_input else None


def _print(person: people.Person, as_json: bool, initial_password: str | None = None) -> None:
    facts = person.as_json()
    if initial_password is not None:
        facts["initial_password"] = initial_password
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
