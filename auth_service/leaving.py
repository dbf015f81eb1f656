"""Signing a phone out: its sessions and its devices end in one act, and what it has open with them.

It can be asked for with any token of a session on the phone, also with one that is spent or too old, as it only
takes away: somebody whose session has expired wants to leave too. What was begun on the phone after that session
ended is somebody's who signed in since, and stays. So the same request again does nothing more.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, update

from auth_service.sessions import Ended
from passbook.audit.chain import Actor, record
from passbook.audit.events import DeviceRevoked, SessionEnded
from passbook.errors import NotFound
from passbook.servicedb.tables import device, person, session

_REASON = "signed out"


def sign_out(
    connection: Connection, by: Actor, session_id: str, *, device_id: str | None = None
) -> tuple[int, int]:
    """Sign out the phone that a session of a person is on; how many sessions and devices ended.

    `device_id` names a device of theirs that is on this phone too, for an app that sent no installation key.
    Raises `Ended` if there is no such session (any more), or if it is over and that device not on its phone;
    `NotFound` for a device that is not the person's.
    """
    owner = select(session.c.person_id).where(session.c.id == session_id)
    # Locked first, as by everybody who ends sessions and devices of a person, or begins some.
    locked = connection.execute(select(person.c.id).where(person.c.id.in_(owner)).with_for_update()).scalar()
    goes_on = (session.c.ended_at.is_(None) & (session.c.expires_at > func.now())).label("goes_on")
    own = connection.execute(select(session, goes_on).where(session.c.id == session_id)).one_or_none()
    if locked is None or own is None:
        raise Ended
    phones = _phones(connection, own, device_id)
    gone, over = _revoke(connection, own, phones), _end(connection, own, phones)
    for number, one in enumerate(gone):
        sessions_ended = 0 if number else len(over)
        revoked = DeviceRevoked(person=own.person_id, device=one, sessions_ended=sessions_ended)
        record(connection, by, revoked, reason=_REASON)
    for one in over if not gone else ():
        record(connection, by, SessionEnded(session=one, person=own.person_id), reason=_REASON)
    return len(over), len(gone)


def _phones(connection: Connection, own: Row[Any], device_id: str | None) -> list[bytes]:
    """The installations that are this phone: of the session, if it has shown one, and of the device."""
    phones = [] if own.installation is None else [bytes(own.installation)]
    if device_id is not None:
        query = select(device.c.installation, device.c.revoked_at)
        found = connection.execute(
            query.where(device.c.id == device_id, device.c.person_id == own.person_id)
        ).one_or_none()
        if found is None:
            raise NotFound(f"There is no device {device_id!r}.")
        if bytes(found.installation) not in phones:
            # A session that goes on may end any device of its person.
            if not own.goes_on and found.revoked_at is None:
                raise Ended(because=own.ended_because if own.ended_at else "expired")
            phones.append(bytes(found.installation))
    return phones


def _revoke(connection: Connection, own: Row[Any], phones: list[bytes]) -> list[str]:
    query = (
        update(device)
        .where(
            device.c.person_id == own.person_id, device.c.installation.in_(phones), device.c.revoked_at.is_(None)
        )
        .values(revoked_at=func.now(), revoked_because="signed_out", sealed_secret=None)
        .returning(device.c.id)
    )
    if own.ended_at is not None:
        query = query.where(device.c.created_at <= own.ended_at)
    return sorted(connection.execute(query).scalars())


def _end(connection: Connection, own: Row[Any], phones: list[bytes]) -> list[str]:
    query = (
        update(session)
        .where(
            session.c.person_id == own.person_id,
            session.c.ended_at.is_(None),
            or_(session.c.id == own.id, session.c.installation.in_(phones)),
        )
        .values(ended_at=func.now(), ended_because="signed_out")
        .returning(session.c.id)
    )
    if own.ended_at is not None:
        query = query.where(session.c.created_at <= own.ended_at)
    return sorted(connection.execute(query).scalars())
