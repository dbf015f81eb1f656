"""People: who they are, which clients they may see, what of them, and whether they may at all.

Every function works inside the caller's transaction. A person may be named by user name or by id.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from auth_service import passwords
from passbook.credentials import new_id
from passbook.errors import Refused
from passbook.scope import PERMISSIONS
from passbook.servicedb.tables import device, person, person_client

KINDS = ("customer", "agent")
_LONGEST_USERNAME = 100
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True)
class Person:
    """A person as administrators see them; no secret among the fields."""

    person: str
    username: str
    kind: str
    state: str
    clients: list[int]
    permissions: list[str]
    history_from: date | None
    history_months: int | None
    devices: int
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def add(
    connection: Connection,
    *,
    username: str,
    kind: str,
    clients: Collection[int],
    permissions: Sequence[str] = PERMISSIONS,
    password: str | None = None,
) -> tuple[Person, str | None]:
    """Create a person; the second value is the initial password if none was given, to be shown once.

    Raises `Refused` for a name that is taken, a kind or permission that does not exist, an impossible client id.
    Whether a client exists is known to the ledger alone: the worker reports one that does not.
    """
    username = username.strip()
    if not username or len(username) > _LONGEST_USERNAME or not username.isprintable():
        raise Refused(f"A user name has 1 to {_LONGEST_USERNAME} printable characters.")
    if kind not in KINDS:
        raise Refused(f"{kind!r} is no kind of person.", remedy=f"It is one of: {', '.join(KINDS)}.")
    _check_permissions(permissions)
    _check_clients(clients)
    initial = None if password is not None else passwords.initial_password()
    row: dict[str, Any] = {
        "id": new_id("person"),
        "username": username,
        "kind": kind,
        "password_hash": passwords.hash_password(password if password is not None else initial or ""),
        "must_change_password": True,
        "permissions": sorted(set(permissions), key=PERMISSIONS.index),
        "database_name": new_id("passbook"),
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(person).values(row))
    except IntegrityError:
        raise Refused(
            f"There is already a person with the user name {username!r}.",
            remedy="`passbook person show` tells who it is; choose another name.",
        ) from None
    _link(connection, row["id"], clients)
    return show(connection, row["id"]), initial


def show(connection: Connection, name: str) -> Person:
    """One person. Raises `Refused` when there is nobody of that name or id."""
    return _people(connection, _id_of(connection, name))[0]


def everybody(connection: Connection) -> list[Person]:
    """All people, by user name."""
    return _people(connection, None)


def suspend(connection: Connection, name: str) -> Person:
    """Keep a person out until restored: their devices are refused from the next request on."""
    return _change(connection, name, state="suspended")


def restore(connection: Connection, name: str) -> Person:
    """Let a suspended person in again."""
    return _change(connection, name, state="active")


def begin_deletion(connection: Connection, name: str) -> tuple[str, str]:
    """Cut off a person for good; id and database name of what is still to be erased.

    From here on nobody gets in with their credentials, and the worker finishes the erasure if the caller does
    not live to do it.
    """
    person_id = _id_of(connection, name)
    row = connection.execute(
        update(person).where(person.c.id == person_id).values(state="deleting").returning(person.c.database_name)
    )
    connection.execute(delete(device).where(device.c.person_id == person_id))
    return person_id, row.scalar_one()


def reset_password(connection: Connection, name: str, password: str | None = None) -> tuple[Person, str | None]:
    """Set a password, given or random, that must be changed at the next login; a random one is returned."""
    initial = None if password is not None else passwords.initial_password()
    hashed = passwords.hash_password(password if password is not None else initial or "")
    return _change(connection, name, password_hash=hashed, must_change_password=True), initial


def link(connection: Connection, name: str, clients: Collection[int]) -> Person:
    """Let a person see these clients too."""
    _check_clients(clients)
    _link(connection, _id_of(connection, name), clients)
    return _change(connection, name)


def unlink(connection: Connection, name: str, clients: Collection[int]) -> Person:
    """Take clients away from a person; the worker takes their documents back. `Refused` for one not linked."""
    person_id = _id_of(connection, name)
    gone = connection.execute(
        delete(person_client)
        .where(person_client.c.person_id == person_id, person_client.c.client_id.in_(clients))
        .returning(person_client.c.client_id)
    )
    missing = set(clients) - set(gone.scalars())
    if missing:
        raise Refused(f"{name!r} is not linked to client {min(missing)}; nothing was changed.")
    return _change(connection, name)


@dataclass(frozen=True)
class Window:
    """How much history a person's devices get: from a day, the last so many months, or (both None) all."""

    since: date | None = None
    months: int | None = None


def permit(
    connection: Connection,
    name: str,
    *,
    only: Sequence[str] | None = None,
    grant: Sequence[str] = (),
    deny: Sequence[str] = (),
    window: Window | None = None,
) -> Person:
    """Change what a person may see. `only` replaces the permissions, then `grant` adds and `deny` takes away."""
    _check_permissions((*(only or ()), *grant, *deny))
    present = set(only if only is not None else show(connection, name).permissions)
    wanted = sorted((present | set(grant)) - set(deny), key=PERMISSIONS.index)
    values: dict[str, Any] = {"permissions": wanted}
    if window is not None:
        if window.months is not None and window.months < 1:
            raise Refused("A history window has at least 1 month.")
        values |= {"history_from": window.since, "history_months": window.months}
    return _change(connection, name, **values)


def _change(connection: Connection, name: str, **values: Any) -> Person:
    person_id = _id_of(connection, name)
    connection.execute(update(person).where(person.c.id == person_id).values(changed_at=func.now(), **values))
    return show(connection, person_id)


def _link(connection: Connection, person_id: str, clients: Collection[int]) -> None:
    rows = [{"person_id": person_id, "client_id": client_id} for client_id in sorted(set(clients))]
    if rows:
        connection.execute(upsert(person_client).on_conflict_do_nothing(), rows)


def _id_of(connection: Connection, name: str) -> str:
    found: str | None = connection.execute(
        select(person.c.id).where(
            or_(person.c.id == name, func.lower(person.c.username) == name.lower()), person.c.state != "deleting"
        )
    ).scalar()
    if found is None:
        raise Refused(f"There is no person {name!r}.", remedy="`passbook person list` shows everybody.")
    return found


def _people(connection: Connection, person_id: str | None) -> list[Person]:
    query = select(person).where(person.c.state != "deleting").order_by(func.lower(person.c.username))
    of_clients = select(person_client).order_by(person_client.c.client_id)
    of_devices = (
        select(device.c.person_id, func.count())
        .where(device.c.revoked_at.is_(None), device.c.expires_at > func.now())
        .group_by(device.c.person_id)
    )
    if person_id is not None:
        query = query.where(person.c.id == person_id)
        of_clients = of_clients.where(person_client.c.person_id == person_id)
        of_devices = of_devices.where(device.c.person_id == person_id)
    clients: dict[str, list[int]] = {}
    for row in connection.execute(of_clients):
        clients.setdefault(row.person_id, []).append(row.client_id)
    devices = {row[0]: row[1] for row in connection.execute(of_devices)}
    return [
        Person(
            person=row.id,
            username=row.username,
            kind=row.kind,
            state=row.state,
            clients=clients.get(row.id, []),
            permissions=list(row.permissions),
            history_from=row.history_from,
            history_months=row.history_months,
            devices=devices.get(row.id, 0),
            created_at=row.created_at,
        )
        for row in connection.execute(query)
    ]


def _check_permissions(permissions: Sequence[str]) -> None:
    for permission in permissions:
        if permission not in PERMISSIONS:
            raise Refused(f"{permission!r} is no permission.", remedy=f"They are: {', '.join(PERMISSIONS)}.")


def _check_clients(clients: Collection[int]) -> None:
    for client_id in clients:
        if not 0 < client_id <= _LARGEST_ID:
            raise Refused(f"{client_id} cannot be the id of a client.")
