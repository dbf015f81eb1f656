"""What a restored service database does not know: the rows of the audit log that it lost, as far as the witness has
them, added up to how things stood in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from auth_service.administrators import ROLES
from passbook.audit import chain
from passbook.audit.chain import Head
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import audit_event
from passbook.witness import note
from passbook.witness.entries import Entry
from passbook.witness.store import Store


@dataclass
class Lost:
    """What was lost. Ids of people, devices and administrators, of which the database need not have all."""

    #: The last row that is known to be in both logs.
    common: int = 0
    #: The last row that is known to have been lost; None if nobody knows of any.
    until: Head | None = None
    #: Whether the witness was there, which had everything that was taken away up to `until` or nearly so.
    witnessed: bool = False
    #: Rows that the witness had.
    rows: int = 0
    revoked: set[str] = field(default_factory=set)
    wiped: set[str] = field(default_factory=set)
    suspended: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    #: People, and administrators, whose password was replaced.
    passwords: set[str] = field(default_factory=set)
    #: By person and client: whether they were linked (or unlinked) in the end.
    links: dict[tuple[str, int], bool] = field(default_factory=dict)
    #: By person: what they might see in the end.
    permissions: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: By person: the digest of the database's name of somebody who was created since.
    created: dict[str, str] = field(default_factory=dict)
    administrators_created: set[str] = field(default_factory=set)
    #: By administrator: role and state, as far as they were changed.
    administrators: dict[str, dict[str, str]] = field(default_factory=dict)
    keys_rotated: bool = False

    def add(self, entry: Entry) -> None:
        """Count in the next row."""
        self.rows += 1
        person, detail = entry.person or "", entry.detail
        self.revoked.update(entry.devices)
        match entry.event:
            case "DeviceRevoked":
                self.revoked.add(entry.device or "")
            case "WipeOrdered":
                self.revoked.add(entry.device or "")
                self.wiped.add(entry.device or "")
            case "PersonSuspended":
                self.suspended.add(person)
            case "PersonRestored":
                self.suspended.discard(person)
            case "PersonDeleted":
                self.erased.add(person)
            case "PersonCreated":
                self.created[person] = entry.database
            case "PasswordReset" | "PasswordChanged":
                self.passwords.add(person)
            case "ClientsLinked" | "ClientsUnlinked":
                linked = entry.event == "ClientsLinked"
                self.links.update({(person, client): linked for client in detail["clients"]})
            case "PermissionsChanged":
                self.permissions[person] = detail["after"]
            case "AdministratorCreated":
                self.administrators_created.add(detail["administrator"])
            case "AdministratorChanged":
                self.administrators.setdefault(detail["administrator"], {}).update(detail["changed"])
            case "AdministratorPasswordReset" | "AdministratorPasswordChanged":
                self.passwords.add(detail["administrator"])
            case "SigningKeyRotated":
                self.keys_rotated = True
            case _:
                pass


async def find(database: ServiceDatabase, store: Store | None, anchor: Head | None) -> Lost:
    """What the database lost. `anchor` is the last one that is known from elsewhere. Changes nothing."""
    lost = Lost()
    written = database.run(note.read)
    lost.common = database.run(_common, [head for head in (written.anchor,) if head is not None])
    missing = [head for head in (anchor, written.lacks) if head is not None]
    head = await store.head() if store is not None else None
    if store is not None and head is not None:
        lost.witnessed = True
        missing.append(head)
        seen_to = database.run(chain.lost)
        async for page in store.entries():
            here = database.run(_here, [entry.row for entry in page])
            for entry in page:
                if here.get(entry.row) == entry.hash:
                    lost.common = max(lost.common, entry.row)
                elif not any(one.has(entry.row) for one in seen_to):
                    lost.add(entry)
    lost.common = max(lost.common, database.run(_common, missing))
    missing = [head for head in missing if head.id > lost.common]
    lost.until = max(missing, key=lambda head: head.id, default=None)
    return lost


def lower_role(now: str, then: str) -> str:
    """The one of two roles that may do less."""
    return min(now, then, key=ROLES.index)


def _here(connection: Connection, rows: Sequence[int]) -> dict[int, str]:
    """The hashes of those of these rows of the audit log that are there."""
    query = select(audit_event.c.id, audit_event.c.hash).where(audit_event.c.id.in_(rows))
    return {row.id: bytes(row.hash).hex() for row in connection.execute(query)}


def _common(connection: Connection, heads: Sequence[Head]) -> int:
    """The newest of these rows that the log has; 0 if it has none."""
    here = _here(connection, [head.id for head in heads])
    return max((head.id for head in heads if here.get(head.id) == head.hash), default=0)
