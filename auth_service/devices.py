"""Devices: one installation, one replication credential, of which only the digest is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, tuple_, update

from auth_service import installations, keys, sessions
from auth_service.causes import Cause
from auth_service.sealing import seal, unseal
from passbook.audit.chain import Actor, record
from passbook.audit.events import DeviceRegistered, DeviceRevoked
from passbook.credentials import new_id, new_secret, secret_digest
from passbook.errors import Conflict, NotFound, Refused
from passbook.lookup import person_id_of
from passbook.servicedb.tables import device, person, wipe_order

#: How long a repeated request gets the same credential again; afterwards the seal is thrown away.
REPEATABLE = timedelta(hours=24)
#: A person may register so many times as many devices in an hour as they may have: each is kept for good, and told.
_RENEWALS = 5
_HOUR = timedelta(hours=1)
_SHORTEST_KEY, _LONGEST_KEY = 16, 200
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Credential:
    """A replication credential: what PouchDB needs, shown once. `url` has no secret in it."""

    #: Whose it is: an app names the copy after them.
    person: str
    device: str
    url: str
    username: str
    password: str
    expires_at: datetime
    #: The key whose orders to wipe the device is to believe, a public JSON Web Key.
    wipe_key: dict[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """For `--json`: what a client needs."""
        return {name: value for name, value in asdict(self).items() if name not in ("person", "wipe_key")}


@dataclass(frozen=True)
class Device:
    """A device as its person and administrators see it."""

    device: str
    person: str
    username: str
    name: str
    platform: str
    #: `active`, `expired` or `revoked`.
    state: str
    created_at: datetime
    last_synchronised_at: datetime | None
    #: Up to which sequence number of its database it had everything, as it said itself; None before a first copy.
    position: str | None
    expires_at: datetime
    #: The end, however often it synchronises.
    ends_at: datetime
    revoked_at: datetime | None
    #: `ordered`, `delivered` or `received`; None where no wipe was ordered.
    wipe: str | None
    wipe_ordered_at: datetime | None
    wipe_received_at: datetime | None
    #: Since when the device was not there, if a wipe waits for it.
    unreachable_since: datetime | None

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class Terms:
    """What the institution has settled about devices."""

    public_url: str
    #: A credential is good for so many days after its device was last there …
    days: int
    most: int
    #: … and for so many after it was registered.
    longest_days: int = 365


def add(
    connection: Connection,
    by: Actor,
    person_name: str,
    *,
    terms: Terms,
    name: str = "",
    platform: str = "",
    idempotency_key: str | None = None,
    session: str | None = None,
) -> Credential:
    """Register a device of a person.

    `session` is the sign-in it is registered with: both are on one phone, and end together.
    With an `idempotency_key` a repeated request gets the very same answer for a day, and no second device. The key
    must be as hard to guess as a secret (an app sends a random UUID): the secret is kept sealed under it.
    Raises `Refused` for somebody suspended, `NotFound` for somebody unknown, `Conflict` when the person has too
    many active devices or the key's answer is no longer there.
    """
    name, platform = _text("name", name), _text("platform", platform)
    if idempotency_key is not None and not _SHORTEST_KEY <= len(idempotency_key) <= _LONGEST_KEY:
        raise Refused(
            f"An idempotency key has {_SHORTEST_KEY} to {_LONGEST_KEY} characters: a random UUID does.",
            code="bad_idempotency_key",
        )
    # Locked: two registrations at once must not both see a free place, nor the same key twice.
    owner = connection.execute(
        select(person.c.id, person.c.username, person.c.state).where(
            person.c.id == person_id_of(connection, person_name, lock=True)
        )
    ).one()
    if owner.state != "active":
        raise Refused(
            f"{owner.username!r} is {owner.state}.",
            remedy="`passbook person restore` lets them in again.",
            code="suspended",
        )
    digest = secret_digest(f"idempotency {idempotency_key}") if idempotency_key is not None else None
    if digest is not None and idempotency_key is not None:
        before = _registered_before(connection, owner.id, digest, idempotency_key, terms)
        if before is not None:
            credential, installation = before
            if session is not None:
                # Whoever opens the seal is the phone that sent the key first.
                installations.join(connection, owner.id, session, installation)
            return credential
    active = connection.execute(
        select(func.count()).where(
            device.c.person_id == owner.id, device.c.revoked_at.is_(None), device.c.expires_at > func.now()
        )
    ).scalar_one()
    if active >= terms.most:
        raise Conflict(
            f"{owner.username!r} has {active} active devices already.",
            remedy="Revoke one with `passbook device revoke`, or raise PASSBOOK_DEVICES_PER_PERSON.",
            code="too_many_devices",
        )
    recent = connection.execute(
        select(func.count()).where(device.c.person_id == owner.id, device.c.created_at > func.now() - _HOUR)
    ).scalar_one()
    if recent >= _RENEWALS * terms.most:
        raise Conflict(
            f"{owner.username!r} registered {recent} devices within an hour.",
            remedy="Wait an hour.",
            code="too_many_devices",
        )
    device_id, secret, wipe_key = new_id("device"), new_secret(), keys.wipe_key(connection)
    sealed = seal(idempotency_key, secret.encode(), device_id) if idempotency_key is not None else None
    expires_at = connection.execute(
        insert(device)
        .values(
            id=device_id,
            person_id=owner.id,
            name=name,
            platform=platform,
            secret_digest=secret_digest(secret),
            expires_at=func.now() + timedelta(days=min(terms.days, terms.longest_days)),
            ends_at=func.now() + timedelta(days=terms.longest_days),
            idempotency_digest=digest,
            sealed_secret=sealed,
            wipe_kid=wipe_key["kid"] if wipe_key else None,
            installation=installations.of_session(connection, session),
        )
        .returning(device.c.expires_at)
    ).scalar_one()
    record(connection, by, DeviceRegistered(person=owner.id, device=device_id))
    return _credential(owner.id, device_id, secret, expires_at, terms, wipe_key)


def of_person(connection: Connection, person_name: str) -> list[Device]:
    """The devices of one person, newest first."""
    return _devices(connection, device.c.person_id == person_id_of(connection, person_name))


def everywhere(
    connection: Connection, *, state: str | None = None, after: str | None = None, limit: int | None = None
) -> list[Device]:
    """Devices of everybody, newest first; `after` is the device that the page before ended with."""
    conditions: list[Any] = []
    alive = device.c.revoked_at.is_(None)
    if state is not None:
        wanted = {
            "active": alive & (device.c.expires_at > func.now()),
            "expired": alive & (device.c.expires_at <= func.now()),
            "revoked": ~alive,
        }
        if state not in wanted:
            raise Refused(f"{state!r} is no state of a device.", remedy=f"It is one of: {', '.join(wanted)}.")
        conditions.append(wanted[state])
    if after is not None:
        place = connection.execute(select(device.c.created_at).where(device.c.id == after)).scalar()
        if place is None:
            raise Refused("This cursor was not given by Passbook.", code="bad_cursor")
        conditions.append((device.c.created_at < place) | ((device.c.created_at == place) & (device.c.id < after)))
    return _devices(connection, *conditions, limit=limit)


def show(connection: Connection, device_id: str) -> Device:
    """One device. Raises `NotFound`."""
    found = _devices(connection, device.c.id == device_id)
    if not found:
        raise _unknown(device_id)
    return found[0]


def revoke(
    connection: Connection,
    by: Actor,
    device_id: str,
    *,
    person_id: str | None = None,
    session: str | None = None,
    reason: str = "",
) -> Device:
    """Refuse a device from its next request on, with all that was begun on its phone; again changes nothing.

    What goes with it: other devices of the same installation, the sessions there, and the person's sessions of
    which nobody knows on which phone they are. With `person_id` only a device of that person, who does it with
    their `session`. Raises `NotFound`.
    """
    _lock_owners(connection, [device_id])
    now = show(connection, device_id)
    if person_id is not None and now.person != person_id:
        raise _unknown(device_id)
    because: Cause = "institution"
    if session is not None:
        because = "signed_out" if installations.is_on(connection, session, device_id) else "other_device"
    if _end(connection, by, [device_id], reason, because):
        now = show(connection, device_id)
    return now


def revoke_many(connection: Connection, by: Actor, devices: Sequence[str], *, reason: str) -> int:
    """Refuse these devices, and what goes with each; how many devices it was.

    Raises `NotFound`, and changes nothing, if one does not exist.
    """
    _lock_owners(connection, devices)
    known = set(connection.execute(select(device.c.id).where(device.c.id.in_(devices))).scalars())
    for device_id in devices:
        if device_id not in known:
            raise _unknown(device_id)
    return _end(connection, by, devices, reason, "institution")


def number_active(connection: Connection, devices: Sequence[str]) -> int:
    """How many of these devices are not revoked. One that does not exist counts."""
    revoked = select(func.count()).where(device.c.id.in_(devices), device.c.revoked_at.is_not(None))
    return len(devices) - connection.execute(revoked).scalar_one()


def sweep(connection: Connection, terms: Terms) -> None:
    """Throw away the seals that have had their day; bring the end of each device to what is settled now."""
    end = device.c.created_at + timedelta(days=terms.longest_days)
    connection.execute(
        update(device)
        .where(device.c.revoked_at.is_(None), device.c.ends_at != end)
        .values(ends_at=end, expires_at=func.least(device.c.expires_at, end))
    )
    connection.execute(
        update(device)
        .where(device.c.sealed_secret.is_not(None), device.c.created_at < func.now() - REPEATABLE)
        .values(sealed_secret=None)
    )


def _end(connection: Connection, by: Actor, devices: Sequence[str], reason: str, because: Cause) -> int:
    """Revoke these devices, whose owners are locked, and all that goes with them; how many devices."""
    phones = select(device.c.person_id, device.c.installation).where(
        device.c.id.in_(devices), device.c.revoked_at.is_(None)
    )
    gone = connection.execute(
        update(device)
        .where(device.c.revoked_at.is_(None), tuple_(device.c.person_id, device.c.installation).in_(phones))
        .values(revoked_at=func.now(), revoked_because=because, sealed_secret=None)
        .returning(device.c.person_id, device.c.id)
    ).all()
    ended: dict[str, int] = {}
    for owner in sorted({row.person_id for row in gone}):
        ended[owner] = sessions.end_without_device(connection, owner, because)
    for row in sorted(gone, key=lambda row: row.id):
        revoked = DeviceRevoked(person=row.person_id, device=row.id, sessions_ended=ended.pop(row.person_id, 0))
        record(connection, by, revoked, reason=reason)
    return len(gone)


def _lock_owners(connection: Connection, devices: Sequence[str]) -> None:
    """Lock the people of these devices: whoever ends sessions and devices of a person does so first, in this order.

    Else two who end the same ones could wait for each other.
    """
    owners = select(device.c.person_id).where(device.c.id.in_(devices))
    connection.execute(select(person.c.id).where(person.c.id.in_(owners)).order_by(person.c.id).with_for_update())


def _registered_before(
    connection: Connection, person_id: str, digest: bytes, key: str, terms: Terms
) -> tuple[Credential, bytes] | None:
    """The credential that this key got before, and the installation that it is in."""
    row = connection.execute(
        select(device, (device.c.created_at < func.now() - REPEATABLE).label("late")).where(
            device.c.person_id == person_id, device.c.idempotency_digest == digest
        )
    ).one_or_none()
    if row is None:
        return None
    if row.sealed_secret is None or row.revoked_at is not None or row.late:
        raise Conflict(
            "This idempotency key was used for a device that was registered too long ago, or revoked since.",
            remedy="Take a new key for a new device.",
            code="idempotency_key_used",
        )
    secret = unseal(key, bytes(row.sealed_secret), row.id).decode()
    credential = _credential(person_id, row.id, secret, row.expires_at, terms, keys.wipe_key(connection))
    return credential, bytes(row.installation)


def _credential(
    person_id: str, device_id: str, secret: str, expires_at: datetime, terms: Terms, wipe_key: dict[str, Any] | None
) -> Credential:
    url = f"{terms.public_url.rstrip('/')}/passbook"
    return Credential(person_id, device_id, url, device_id, secret, expires_at, wipe_key)


def _devices(connection: Connection, *conditions: Any, limit: int | None = None) -> list[Device]:
    query = (
        select(
            device,
            person.c.username,
            (device.c.expires_at <= func.now()).label("expired"),
            wipe_order.c.ordered_at,
            wipe_order.c.delivered_at,
            wipe_order.c.received_at,
        )
        .join(person, person.c.id == device.c.person_id)
        .outerjoin(wipe_order, wipe_order.c.device_id == device.c.id)
        .where(*conditions)
        .order_by(device.c.created_at.desc(), device.c.id.desc())
        .limit(limit)
    )
    return [
        Device(
            device=row.id,
            person=row.person_id,
            username=row.username,
            name=row.name,
            platform=row.platform,
            state="revoked" if row.revoked_at else "expired" if row.expired else "active",
            created_at=row.created_at,
            last_synchronised_at=row.last_synchronised_at,
            position=row.position,
            expires_at=row.expires_at,
            ends_at=row.ends_at,
            revoked_at=row.revoked_at,
            wipe=_wipe(row),
            wipe_ordered_at=row.ordered_at,
            wipe_received_at=row.received_at,
            unreachable_since=(row.last_synchronised_at or row.created_at) if _wipe(row) == "ordered" else None,
        )
        for row in connection.execute(query)
    ]


def _wipe(row: Any) -> str | None:
    if row.ordered_at is None:
        return None
    return "received" if row.received_at else "delivered" if row.delivered_at else "ordered"


def _text(what: str, value: str) -> str:
    value = value.strip()
    if len(value) > _LONGEST_NAME or (value and not value.isprintable()):
        raise Refused(f"The {what} of a device has at most {_LONGEST_NAME} printable characters.")
    return value


def _unknown(device_id: str) -> NotFound:
    return NotFound(f"There is no device {device_id!r}.", remedy="`passbook device list` shows them.")
