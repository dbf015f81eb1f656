"""Devices: one installation, one replication credential, of which only the digest is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from auth_service import people
from passbook.credentials import new_id, new_secret, secret_digest
from passbook.errors import Refused
from passbook.servicedb.tables import device, person


@dataclass(frozen=True)
class Credential:
    """A replication credential: what PouchDB needs, shown once. `url` has no secret in it."""

    device: str
    url: str
    username: str
    password: str
    expires_at: datetime

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class Device:
    """A device as administrators see it."""

    device: str
    person: str
    username: str
    name: str
    state: str
    created_at: datetime
    expires_at: datetime

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def add(
    connection: Connection, person_name: str, *, name: str = "", public_url: str, days: int, most: int
) -> Credential:
    """Register a device of a person; it may synchronise for `days`.

    Raises `Refused` for somebody unknown or suspended, and when the person has `most` active devices already.
    """
    owner = people.show(connection, person_name)
    # Two registrations at once must not both see a free place.
    connection.execute(select(person.c.id).where(person.c.id == owner.person).with_for_update())
    if owner.state != "active":
        raise Refused(
            f"{owner.username!r} is {owner.state}.", remedy="`passbook person restore` lets them in again."
        )
    if people.show(connection, owner.person).devices >= most:
        raise Refused(
            f"{owner.username!r} has {most} active devices already.",
            remedy="Revoke one with `passbook device revoke`, or raise PASSBOOK_DEVICES_PER_PERSON.",
        )
    secret = new_secret()
    row = connection.execute(
        insert(device)
        .values(
            id=new_id("device"),
            person_id=owner.person,
            name=name,
            secret_digest=secret_digest(secret),
            expires_at=func.now() + timedelta(days=days),
        )
        .returning(device.c.id, device.c.expires_at)
    ).one()
    return Credential(row.id, f"{public_url.rstrip('/')}/passbook", row.id, secret, row.expires_at)


def everywhere(connection: Connection, person_name: str | None = None) -> list[Device]:
    """All devices, or those of one person, newest first."""
    query = (
        select(device, person.c.username, (device.c.expires_at <= func.now()).label("expired"))
        .join(person, person.c.id == device.c.person_id)
        .order_by(device.c.created_at.desc())
    )
    if person_name is not None:
        query = query.where(device.c.person_id == people.show(connection, person_name).person)
    return [
        Device(
            device=row.id,
            person=row.person_id,
            username=row.username,
            name=row.name,
            state="revoked" if row.revoked_at else "expired" if row.expired else "active",
            created_at=row.created_at,
            expires_at=row.expires_at,
        )
        for row in connection.execute(query)
    ]


def revoke(connection: Connection, device_id: str) -> None:
    """Refuse a device from its next request on; one revoked already stays so. Raises `Refused` if unknown."""
    found = connection.execute(
        update(device)
        .where(device.c.id == device_id)
        .values(revoked_at=func.coalesce(device.c.revoked_at, func.now()))
        .returning(device.c.id)
    ).scalar()
    if found is None:
        raise Refused(f"There is no device {device_id!r}.", remedy="`passbook device list` shows them.")
