"""People: who they are, whether they may come in, and their end.

Every function works inside the caller's transaction and records what it did. A person may be named by user name
or by id. Hashing is not done here: it takes long, and a transaction must not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from auth_service import activation, scopes, sessions
from auth_service.causes import Cause
from auth_service.limits import Limits
from passbook.audit.chain import Actor, record
from passbook.audit.events import (
    PasswordReset,
    PersonChanged,
    PersonCreated,
    PersonDeleted,
    PersonRestored,
    PersonSignedOut,
    PersonSuspended,
)
from passbook.credentials import new_id
from passbook.errors import Conflict, NotFound, Refused, Stale
from passbook.lookup import person_id_of
from passbook.scope import PERMISSIONS
from passbook.servicedb.tables import device, person, person_client, scope_change

KINDS = ("customer", "agent")
STATES = ("active", "suspended")
_LONGEST_USERNAME = 100
#: People are found by name or id: nobody may be named as somebody else's id.
_AN_ID = re.compile(r"(?:person|administrator)-[0-9a-f]{32}", re.IGNORECASE)


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
    #: Devices that may synchronise.
    devices: int
    #: When one of their devices last did, a minute ago or so for one that listens; None before the first time.
    last_synchronised_at: datetime | None
    must_change_password: bool
    #: Changes of scope that the worker has not carried out yet.
    pending_changes: int
    version: int
    created_at: datetime
    changed_at: datetime

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def add(
    connection: Connection,
    by: Actor,
    *,
    username: str,
    kind: str,
    clients: Collection[int],
    password_hash: str,
    permissions: Sequence[str] = PERMISSIONS,
    window: scopes.Window | None = None,
    reason: str = "",
) -> Person:
    """Create a person, who must change the password at first sign-in.

    Raises `Conflict` for a name that is taken, `Refused` for a kind or permission that does not exist or an
    impossible client id. Whether a client exists is known to the ledger alone: the worker reports one that does
    not.
    """
    username = checked_username(username)
    if kind not in KINDS:
        raise Refused(f"{kind!r} is no kind of person.", remedy=f"It is one of: {', '.join(KINDS)}.")
    permissions = scopes.checked_permissions(permissions)
    clients = scopes.checked_clients(clients)
    window = scopes.checked_window(window or scopes.Window())
    row: dict[str, Any] = {
        "id": new_id("person"),
        "username": username,
        "kind": kind,
        "password_hash": password_hash,
        "must_change_password": True,
        "permissions": permissions,
        "history_from": window.since,
        "history_months": window.months,
        "database_name": new_id("passbook"),
    }
    try:
        with connection.begin_nested():
            created_at = connection.execute(insert(person).values(row).returning(person.c.created_at)).scalar_one()
    except IntegrityError:
        raise _taken(username) from None
    if clients:
        connection.execute(insert(person_client), [{"person_id": row["id"], "client_id": one} for one in clients])
    scopes.request(connection, row["id"], "created")
    record(
        connection,
        by,
        PersonCreated(person=row["id"], kind=kind, clients=list(clients), permissions=permissions),
        reason=reason,
    )
    # Not read again: an import does this thousands of times.
    return Person(
        person=row["id"],
        username=username,
        kind=kind,
        state="active",
        clients=list(clients),
        permissions=permissions,
        history_from=window.since,
        history_months=window.months,
        devices=0,
        last_synchronised_at=None,
        must_change_password=True,
        pending_changes=1,
        version=1,
        created_at=created_at,
        changed_at=created_at,
    )


def show(connection: Connection, name: str) -> Person:
    """One person. Raises `NotFound` when there is nobody of that name or id."""
    found = load(connection, [person_id_of(connection, name)])
    if not found:
        raise NotFound(f"There is no person {name!r} any more.")  # deleted a moment ago
    return found[0]


def change(
    connection: Connection,
    by: Actor,
    name: str,
    *,
    username: str | None = None,
    kind: str | None = None,
    version: int | None = None,
    reason: str = "",
) -> Person:
    """Change who a person is. Raises `Stale` unless they are still at `version`, `Conflict` for a taken name."""
    now = locked(connection, name, version)
    values: dict[str, Any] = {}
    if username is not None and checked_username(username) != now.username:
        values["username"] = checked_username(username)
    if kind is not None and kind != now.kind:
        if kind not in KINDS:
            raise Refused(f"{kind!r} is no kind of person.", remedy=f"It is one of: {', '.join(KINDS)}.")
        values["kind"] = kind
    if not values:
        return now
    try:
        with connection.begin_nested():
            touch(connection, now.person, **values)
    except IntegrityError:
        raise _taken(values["username"]) from None
    if "kind" in values:
        # The manifest on the devices tells the kind.
        scopes.request(connection, now.person, "permissions")
    record(connection, by, PersonChanged(person=now.person, changed=sorted(values)), reason=reason)
    return show(connection, now.person)


def suspend(connection: Connection, by: Actor, name: str, *, reason: str = "") -> Person:
    """Keep a person out until restored: sessions and devices are refused from the next request on, and stay."""
    now = locked(connection, name)
    if now.state == "suspended":
        return now
    touch(connection, now.person, state="suspended")
    sessions.hold(connection, now.person)
    record(connection, by, PersonSuspended(person=now.person), reason=reason)
    return show(connection, now.person)


def restore(connection: Connection, by: Actor, name: str, *, reason: str = "") -> Person:
    """Let a suspended person in again: sessions and devices that did not end meanwhile work as before."""
    now = locked(connection, name)
    if now.state == "active":
        return now
    touch(connection, now.person, state="active")
    record(connection, by, PersonRestored(person=now.person), reason=reason)
    return show(connection, now.person)


def begin_deletion(connection: Connection, by: Actor, name: str, *, reason: str = "") -> tuple[str, str]:
    """Cut off a person for good and forget who they were; id and database name of what is still to be erased.

    From the commit on nobody gets in with their credentials, the user name is free again, and nothing here tells
    whose the id was. The worker erases the database if the caller does not live to do it.
    """
    now = locked(connection, name)
    row = connection.execute(
        update(person)
        .where(person.c.id == now.person)
        .values(
            state="deleting",
            username=now.person,
            password_hash="-",  # noqa: S106 - no password has this hash
            permissions=[],
            version=person.c.version + 1,
            changed_at=func.now(),
        )
        .returning(person.c.database_name)
    )
    database_name: str = row.scalar_one()
    sessions.forget(connection, now.person)
    activation.withdraw(connection, now.person)
    for table in (device, person_client, scope_change):
        connection.execute(delete(table).where(table.c.person_id == now.person))
    # What is kept is found by the name, which is gone after this; the rules of waiting do not matter for that.
    Limits().forget(connection, "passbook", now.username, now.person)
    record(connection, by, PersonDeleted(person=now.person), reason=reason)
    return now.person, database_name


def reset_password(
    connection: Connection,
    by: Actor,
    name: str,
    password_hash: str,
    *,
    sign_out: bool = True,
    revoke_devices: bool = False,
    reason: str = "",
) -> Person:
    """Set a password that must be changed at the next sign-in; sessions end, devices only if wished.

    Whoever knew the old one may have signed in with it from anywhere: no place is a familiar one any more.
    """
    now = locked(connection, name)
    touch(
        connection,
        now.person,
        password_hash=password_hash,
        must_change_password=True,
        password_changed_at=func.now(),
    )
    activation.withdraw(connection, now.person)
    # What was begun on a device ends with it.
    out = sign_out or revoke_devices
    ended = sessions.end_all(connection, "password_changed", person_id=now.person) if out else 0
    revoked = _revoke_devices(connection, now.person, "password_changed") if revoke_devices else 0
    Limits().forget_places(connection, now.person)
    record(
        connection,
        by,
        PasswordReset(person=now.person, sessions_ended=ended, devices_revoked=revoked),
        reason=reason,
    )
    return show(connection, now.person)


def sign_out(
    connection: Connection, by: Actor, name: str, *, revoke_devices: bool, reason: str = ""
) -> tuple[int, int]:
    """End every session of a person, and if wished every device; how many of each."""
    now = locked(connection, name)
    ended = sessions.end_all(connection, "institution", person_id=now.person)
    revoked = _revoke_devices(connection, now.person, "institution") if revoke_devices else 0
    record(
        connection,
        by,
        PersonSignedOut(person=now.person, sessions_ended=ended, devices_revoked=revoked),
        reason=reason,
    )
    return ended, revoked


def locked(connection: Connection, name: str, version: int | None = None) -> Person:
    """A person whose row stays locked until the transaction ends. Raises `Stale` if it is not at `version`."""
    now = load(connection, [person_id_of(connection, name, lock=True)])[0]
    if version is not None and version != now.version:
        raise Stale(f"This person is at version {now.version}, not {version}: look again, then change.")
    return now


def touch(connection: Connection, person_id: str, **values: Any) -> None:
    """Change a person's row, and with it the version and the time of the change."""
    connection.execute(
        update(person)
        .where(person.c.id == person_id)
        .values(changed_at=func.now(), version=person.c.version + 1, **values)
    )


def checked_username(username: str) -> str:
    """The user name as it is kept. Raises `Refused` for one that cannot be."""
    username = unicodedata.normalize("NFKC", username).strip()
    if not username or len(username) > _LONGEST_USERNAME or not username.isprintable() or ":" in username:
        # HTTP Basic has no way to write a name with a colon.
        raise Refused(f"A user name has 1 to {_LONGEST_USERNAME} printable characters, none of them a colon.")
    if _AN_ID.fullmatch(username):
        raise Refused("This user name looks like an id that Passbook gives.")
    return username


def load(connection: Connection, people: Collection[str]) -> list[Person]:
    """These people, by user name."""
    if not people:
        return []
    clients: dict[str, list[int]] = {}
    of_clients = select(person_client).where(person_client.c.person_id.in_(people))
    for row in connection.execute(of_clients.order_by(person_client.c.client_id)):
        clients.setdefault(row.person_id, []).append(row.client_id)
    good = device.c.revoked_at.is_(None) & (device.c.expires_at > func.now())
    of_devices = (
        select(device.c.person_id, func.count().filter(good), func.max(device.c.last_synchronised_at))
        .where(device.c.person_id.in_(people))
        .group_by(device.c.person_id)
    )
    devices: dict[str, tuple[int, datetime | None]] = {
        row[0]: (row[1], row[2]) for row in connection.execute(of_devices)
    }
    of_changes = (
        select(scope_change.c.person_id, func.count())
        .where(scope_change.c.person_id.in_(people), scope_change.c.done_at.is_(None))
        .group_by(scope_change.c.person_id)
    )
    pending = {row[0]: row[1] for row in connection.execute(of_changes)}
    query = select(person).where(person.c.id.in_(people), person.c.state != "deleting")
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
            devices=devices.get(row.id, (0, None))[0],
            last_synchronised_at=devices.get(row.id, (0, None))[1],
            must_change_password=row.must_change_password,
            pending_changes=pending.get(row.id, 0),
            version=row.version,
            created_at=row.created_at,
            changed_at=row.changed_at,
        )
        for row in connection.execute(query.order_by(func.lower(person.c.username), person.c.id))
    ]


def _revoke_devices(connection: Connection, person_id: str, because: Cause) -> int:
    return connection.execute(
        update(device)
        .where(device.c.person_id == person_id, device.c.revoked_at.is_(None))
        .values(revoked_at=func.now(), revoked_because=because, sealed_secret=None)
    ).rowcount


def _taken(username: str) -> Conflict:
    return Conflict(
        f"There is already a person with the user name {username!r}.",
        remedy="`passbook person show` tells who it is; choose another name.",
        code="username_taken",
    )
