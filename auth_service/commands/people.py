"""`passbook person …`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any

import typer

from auth_service import directory, granting, people, scopes
from auth_service.commands.importing import import_people
from auth_service.commands.session import (
    ByCode,
    FromInput,
    Reason,
    at_keyboard,
    credential,
    password_hash,
    transaction,
)
from auth_service.preview import preview as look_ahead
from auth_service.scopes import Window
from passbook.audit.chain import record
from passbook.audit.events import PersonRead
from passbook.context import opened, service_database
from passbook.couch import CouchClient
from passbook.erasure import erase
from passbook.errors import Refused
from passbook.output import Json, print_facts, print_json, print_table
from passbook.scope import PERMISSIONS
from passbook.settings import Settings

app = typer.Typer(help="People who log in: add, look, link, permit, suspend, delete.", no_args_is_help=True)
app.command("import")(import_people)

#: People on a page on a terminal that nobody asked a number for.
_SCREEN = 100

Name = Annotated[str, typer.Argument(help="User name or id.", metavar="PERSON")]
Clients = Annotated[list[str], typer.Option("--client", help="Client id in the ledger; can be repeated.")]


@app.command()
def add(
    username: Annotated[str, typer.Option(help="Login name.")],
    kind: Annotated[str, typer.Option(help="customer or agent.")] = "customer",
    client: Clients = [],  # noqa: B006 - typer reads it and never changes it
    permission: Annotated[
        list[str], typer.Option("--permission", help=f"Only these, of: {', '.join(PERMISSIONS)}.")
    ] = [],  # noqa: B006
    password_stdin: FromInput = False,
    by_code: ByCode = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Create a person. Without --password-stdin an initial password is made and shown once."""
    hashed, initial = password_hash(password_stdin, by_code, username=username)
    with transaction() as connection:
        person = people.add(
            connection,
            at_keyboard(),
            username=username,
            kind=kind,
            clients=_ids(client),
            permissions=permission or PERMISSIONS,
            password_hash=hashed,
            reason=reason,
        )
        told = credential(connection, by_code, initial, person_id=person.person)
    _print(person, as_json, told)


@app.command("list")
def list_(
    text: Annotated[str, typer.Option(help="Only with this in their user name, or with this id.")] = "",
    kind: Annotated[str | None, typer.Option(help="Only of this kind: customer or agent.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state: active or suspended.")] = None,
    client: Annotated[int | None, typer.Option(min=1, max=2**63 - 1, help="Only who may see this client.")] = None,
    device: Annotated[str | None, typer.Option(help="Only whose device this is.")] = None,
    not_synchronised_since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            metavar="DAY",
            help="Only of whom no device has synchronised since then, or ever: YYYY-MM-DD, with THH:MM:SS if need "
            "be, by the institution's clock.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=directory.LONGEST_PAGE, help="At most so many, with a cursor.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="The cursor that the page before ended with.")] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="All of them on one page, also on a terminal, which shows 100 otherwise.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show people, by user name. With --json a list; with --limit or --after an object: items, next, sought."""
    if everybody and (limit or after):
        raise Refused("Say --all, or --limit and --after.")
    if not_synchronised_since is not None:
        zone = Settings.load().tenant_timezone
        not_synchronised_since = not_synchronised_since.replace(tzinfo=zone).astimezone(UTC)
    sought = directory.Sought(
        text=text or None,
        kind=kind,
        state=state,
        client=client,
        device=device,
        not_synchronised_since=not_synchronised_since,
    )
    paged = limit is not None or after is not None
    most = limit or (directory.LONGEST_PAGE if paged else None)
    if most is None and not (as_json or everybody) and sys.stdout.isatty():
        most = _SCREEN
    with transaction() as connection:
        page = directory.search(connection, sought, after=after, limit=most)
    items = [person.as_json() for person in page.items]
    if as_json:
        print_json({"items": items, "next": page.next, "sought": sought.as_json()} if paged else items)
        return
    print_table(
        ("username", "kind", "state", "clients", "devices", "last synchronised", "person"),
        [
            (p.username, p.kind, p.state, len(p.clients), p.devices, p.last_synchronised_at, p.person)
            for p in page.items
        ],
    )
    _tell_page(len(items), sought, page.next)


def _tell_page(shown: int, sought: directory.Sought, cursor: str | None) -> None:
    """Beside the table, which a script may read: what was searched for, and how to go on."""
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sought.as_json().items())
    if words or cursor:
        print(f"{shown} shown" + (f"; searched for: {words}" if words else ""), file=sys.stderr)
    if cursor:
        print(f"More: --after {cursor}, or --all.", file=sys.stderr)


@app.command()
def show(person: Name, as_json: Json = False) -> None:
    """Show one person."""
    with transaction() as connection:
        _print(people.show(connection, person), as_json)


@app.command()
def suspend(person: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Keep a person out until restored; nothing is deleted."""
    with transaction() as connection:
        _print(people.suspend(connection, at_keyboard(), person, reason=reason), as_json)


@app.command()
def restore(person: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Let a suspended person in again."""
    with transaction() as connection:
        _print(people.restore(connection, at_keyboard(), person, reason=reason), as_json)


@app.command()
def delete(
    person: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Reason = "",
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
            person_id, database_name = people.begin_deletion(connection, at_keyboard(), person, reason=reason)

        async def finish() -> bool:
            async with CouchClient(
                outside.couchdb_url, connections=1, connect_seconds=settings.connect_seconds
            ) as couch:
                return await erase(couch, database, person_id, database_name, by=at_keyboard())

        done = asyncio.run(finish())
    if as_json:
        print_json({"person": person_id, "deleted": True, "state": "done" if done else "pending"})
    elif not done:
        print(f"{person} has no access any more; a node of CouchDB is away, the worker erases what it has later.")
    else:
        print(f"{person} is erased.")


@app.command("reset-password")
def reset_password(
    person: Name,
    password_stdin: FromInput = False,
    by_code: ByCode = False,
    revoke_devices: Annotated[bool, typer.Option("--revoke-devices", help="Refuse their devices too.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Set a new password, which must be changed at the next login; everybody signed in with the old one is out.
    Devices go on synchronising: a password is not what they use. Say --revoke-devices where a phone is lost, or
    where somebody else may have known the password; `device list --person` shows what goes on."""
    with transaction() as connection:
        username = people.show(connection, person).username
    hashed, initial = password_hash(password_stdin, by_code, username=username)
    with transaction() as connection:
        changed = people.reset_password(
            connection, at_keyboard(), person, hashed, revoke_devices=revoke_devices, reason=reason
        )
        told = credential(connection, by_code, initial, person_id=changed.person)
    _print(changed, as_json, told)


@app.command()
def link(person: Name, client: Clients, reason: Reason = "", as_json: Json = False) -> None:
    """Let a person see more clients."""
    with transaction() as connection:
        _print(granting.link(connection, at_keyboard(), person, _ids(client), reason=reason), as_json)


@app.command()
def unlink(person: Name, client: Clients, reason: Reason = "", as_json: Json = False) -> None:
    """Take clients away from a person; their documents leave the devices."""
    with transaction() as connection:
        _print(granting.unlink(connection, at_keyboard(), person, _ids(client), reason=reason), as_json)


@app.command()
def changes(person: Name, as_json: Json = False) -> None:
    """Show what was changed of what a person may see: pending, or carried out with what came and went, or done."""
    with transaction() as connection:
        found = scopes.changes(connection, person)
    if as_json:
        print_json([change.as_json() for change in found])
    else:
        print_table(
            ("requested", "what", "state", "documents added", "removed", "clients failed"),
            [
                (c.requested_at, c.what, _state(c), c.documents_added, c.documents_removed, c.clients_failed)
                for c in found
            ],
        )


def _state(change: scopes.Change) -> str:
    if change.state != "carried_out":
        return change.state
    nodes = change.nodes_outstanding
    return f"carried out, {nodes} node{'s' if nodes != 1 else ''} outstanding" if nodes else "carried out"


@app.command()
def preview(
    person: Name,
    permission: Annotated[list[str], typer.Option("--permission", help="As if the person had exactly these.")] = [],  # noqa: B006
    client: Clients = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show what the person's devices hold, or would hold: how many documents of what, no content."""
    settings = Settings.load()
    with transaction() as connection:
        seen = look_ahead(
            connection,
            person,
            today=datetime.now(settings.tenant_timezone).date(),
            clients=_ids(client) or None,
            permissions=permission or None,
        )
        record(connection, at_keyboard(), PersonRead(person=seen.person, what="preview"))
    if as_json:
        print_json(seen.as_json())
    else:
        print_facts({name: value for name, value in seen.as_json().items() if name not in ("documents", "ids")})
        print_table(("type", "documents"), list(seen.documents.items()))


@app.command()
def permit(
    person: Name,
    only: Annotated[list[str], typer.Option("--only", help="Exactly these permissions; can be repeated.")] = [],  # noqa: B006
    grant: Annotated[list[str], typer.Option("--grant", help="Add a permission.")] = [],  # noqa: B006
    deny: Annotated[list[str], typer.Option("--deny", help="Take a permission away.")] = [],  # noqa: B006
    history_from: Annotated[str | None, typer.Option(help="Transactions from this day on, YYYY-MM-DD.")] = None,
    history_months: Annotated[int | None, typer.Option(help="Transactions of the last so many months.")] = None,
    history_all: Annotated[bool, typer.Option("--history-all", help="All transactions.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Change what a person may see."""
    window = _window(history_from, history_months, history_all)
    if not (only or grant or deny or window):
        raise Refused(
            "Nothing to change.", remedy="Say --only, --grant or --deny with a permission, or a --history option."
        )
    with transaction() as connection:
        changed = granting.permit(
            connection,
            at_keyboard(),
            person,
            only=only or None,
            grant=grant,
            deny=deny,
            window=window,
            reason=reason,
        )
    _print(changed, as_json)


def _ids(texts: list[str]) -> list[int]:
    for text in texts:
        if not text.isascii() or not text.isdigit():
            raise Refused(
                f"{text!r} cannot be the id of a client.", remedy="It is a whole number, as in the ledger."
            )
    return [int(text) for text in texts]


def _window(since: str | None, months: int | None, everything: bool) -> Window | None:
    if sum((since is not None, months is not None, everything)) > 1:
        raise Refused("Say one of --history-from, --history-months and --history-all.")
    if since is not None:
        try:
            return Window(since=datetime.strptime(since, "%Y-%m-%d").date())  # noqa: DTZ007 - a day has no zone
        except ValueError:
            raise Refused(f"{since!r} is no day.", remedy="Write it as YYYY-MM-DD.") from None
    if months is not None:
        return Window(months=months)
    return Window() if everything else None


def _print(person: people.Person, as_json: bool, told: Mapping[str, Any] = MappingProxyType({})) -> None:
    facts = person.as_json() | dict(told)
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
