"""Which rows of the audit log the witness keeps: those that a restored service database must not forget.

Ids and facts alone, as in the log; the reasons that people typed stay behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from passbook.audit import events, restores
from passbook.audit.events import Event
from passbook.servicedb.tables import audit_event, device, person

#: What takes something away, and what gives it back or decides what became of it.
KEPT: tuple[type[Event], ...] = (
    events.PersonCreated,
    events.PersonSuspended,
    events.PersonRestored,
    events.PersonSignedOut,
    events.PersonDeleted,
    events.PasswordReset,
    events.PasswordChanged,
    events.ClientsLinked,
    events.ClientsUnlinked,
    events.PermissionsChanged,
    events.DeviceRevoked,
    events.WipeOrdered,
    events.AdministratorCreated,
    events.AdministratorChanged,
    events.AdministratorPasswordReset,
    events.AdministratorPasswordChanged,
    events.SigningKeyRotated,
    restores.ServiceDatabaseRestored,
)
#: Rows in one write to CouchDB.
AT_ONCE = 500


class Entry(msgspec.Struct, frozen=True):
    """A row of the audit log, as the witness keeps it."""

    row: int
    hash: str
    event: str
    person: str | None
    device: str | None
    detail: dict[str, Any]
    #: Devices of the person that were revoked by then, where the event revoked some without naming them.
    devices: list[str] = []
    #: SHA-256 of the name of the person's database, where the event made one: the name itself must be found nowhere
    #: once the person is erased.
    database: str = ""

    @property
    def id(self) -> str:
        """The document's id: in the order of the rows, and another for each log that had such a row."""
        return f"row:{self.row:019}:{self.hash[:16]}"


def after(connection: Connection, row: int, until: int) -> list[Entry]:
    """The next entries after this row, `AT_ONCE` at most, none after `until`."""
    names = [kind.name() for kind in KEPT]
    rows = connection.execute(
        select(audit_event)
        .where(audit_event.c.id > row, audit_event.c.id <= until, audit_event.c.event.in_(names))
        .order_by(audit_event.c.id)
        .limit(AT_ONCE)
    ).all()
    details = [msgspec.json.decode(row.detail) for row in rows]
    several = [row.person for row, detail in zip(rows, details, strict=True) if detail.get("devices_revoked")]
    revoked = _revoked(connection, several)
    made = _databases(connection, [row.person for row in rows if row.event == events.PersonCreated.name()])
    return [_entry(row, detail, revoked, made) for row, detail in zip(rows, details, strict=True)]


def _entry(row: Row[Any], detail: dict[str, Any], revoked: dict[str, list[str]], made: dict[str, str]) -> Entry:
    return Entry(
        row=row.id,
        hash=bytes(row.hash).hex(),
        event=row.event,
        person=row.person,
        device=row.device,
        detail=detail,
        devices=revoked.get(row.person, []) if detail.get("devices_revoked") else [],
        database=made.get(row.person, "") if row.event == events.PersonCreated.name() else "",
    )


def _revoked(connection: Connection, people: Sequence[str]) -> dict[str, list[str]]:
    if not people:
        return {}
    found: dict[str, list[str]] = {}
    query = select(device.c.person_id, device.c.id).where(
        device.c.person_id.in_(people), device.c.revoked_at.is_not(None)
    )
    for owner, device_id in connection.execute(query.order_by(device.c.id)):
        found.setdefault(owner, []).append(device_id)
    return found


def _databases(connection: Connection, people: Sequence[str]) -> dict[str, str]:
    if not people:
        return {}
    query = select(person.c.id, person.c.database_name).where(person.c.id.in_(people))
    return {row.id: database_digest(row.database_name) for row in connection.execute(query)}


def database_digest(name: str) -> str:
    """What is kept of the name of a person's database."""
    return hashlib.sha256(name.encode()).hexdigest()
