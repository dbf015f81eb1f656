"""Installations: which sessions and devices are on one phone, so that they end together.

An app makes an *installation key* once, a random UUID that it keeps for as long as it is installed, and sends it
with every sign-in. Whoever has the key is that installation; without it a sign-in gets one of its own when it
registers a device. Kept is a digest bound to the person: it claims nothing for anybody else, and nobody who has not
the key can put a session among those of another phone.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from passbook.credentials import new_secret, secret_digest
from passbook.errors import Refused
from passbook.servicedb.tables import device, session

_SHORTEST_KEY, _LONGEST_KEY = 16, 200


def checked_key(key: str) -> str:
    """An installation key as it was sent. Raises `Refused` for one that could be guessed."""
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY or not (
        key.isascii() and key.isprintable() and " " not in key
    ):
        raise Refused(
            f"An installation key has {_SHORTEST_KEY} to {_LONGEST_KEY} characters: a random UUID does.",
            code="invalid_request",
        )
    return key


def of_key(person_id: str, key: str) -> bytes:
    """The installation of a person that has this key."""
    return secret_digest(f"installation {person_id} {key}")


def of_session(connection: Connection, session_id: str | None) -> bytes:
    """Where a device is that is registered with this session; a session that had no place gets it with the device.

    A new one for a device that is registered without a session. The person's row must be locked.
    """
    found = None
    if session_id is not None:
        found = connection.execute(select(session.c.installation).where(session.c.id == session_id)).scalar()
    if found is not None:
        return bytes(found)
    made = secret_digest(new_secret())
    if session_id is not None:
        connection.execute(update(session).where(session.c.id == session_id).values(installation=made))
    return made


def is_on(connection: Connection, session_id: str, device_id: str) -> bool:
    """Whether a session is on the phone of a device."""
    query = select(device.c.id).join(session, session.c.installation == device.c.installation)
    found = connection.execute(query.where(session.c.id == session_id, device.c.id == device_id))
    return found.one_or_none() is not None


def join(connection: Connection, person_id: str, session_id: str, other: bytes) -> None:
    """A session has shown that it is on the phone of the installation `other`: from now on the two are one.

    The person's row must be locked.
    """
    own = of_session(connection, session_id)
    if own == other:
        return
    for table in (session, device):
        connection.execute(
            update(table)
            .where(table.c.person_id == person_id, table.c.installation == other)
            .values(installation=own)
        )
