"""Lists of people: searched, filtered, and in pages that stay right while people come and go."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, func, or_, select, tuple_

from auth_service.people import KINDS, STATES, Person, load
from passbook.errors import Refused
from passbook.servicedb.tables import person, person_client

LONGEST_PAGE = 500


@dataclass(frozen=True)
class Page:
    """Some of the people, by user name; `next` is the cursor of the page after, None on the last."""

    items: list[Person]
    next: str | None


def search(
    connection: Connection,
    *,
    text: str = "",
    kind: str | None = None,
    state: str | None = None,
    client: int | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page:
    """People whose user name has `text` in it (or whose id it is), of a kind, in a state, with a client.

    Raises `Refused` for a cursor that did not come from here, and for a kind or state that does not exist.
    """
    if kind is not None and kind not in KINDS:
        raise Refused(f"{kind!r} is no kind of person.", remedy=f"It is one of: {', '.join(KINDS)}.")
    if state is not None and state not in STATES:
        raise Refused(f"{state!r} is no state of a person.", remedy=f"It is one of: {', '.join(STATES)}.")
    name = func.lower(person.c.username)
    query = select(person.c.id, name.label("name")).where(person.c.state != "deleting")
    if text:
        query = query.where(or_(func.strpos(name, func.lower(text)) > 0, person.c.id == text))
    if kind is not None:
        query = query.where(person.c.kind == kind)
    if state is not None:
        query = query.where(person.c.state == state)
    if client is not None:
        query = query.where(
            person.c.id.in_(select(person_client.c.person_id).where(person_client.c.client_id == client))
        )
    if after is not None:
        query = query.where(tuple_(name, person.c.id) > tuple_(*_decode(after)))
    limit = max(1, min(limit, LONGEST_PAGE))
    found: Sequence[tuple[str, str]] = [
        (row.id, row.name) for row in connection.execute(query.order_by(name, person.c.id).limit(limit + 1))
    ]
    more = len(found) > limit
    shown = found[:limit]
    last = shown[-1] if more else None
    return Page(load(connection, [row[0] for row in shown]), _encode(last[1], last[0]) if last else None)


def everybody(connection: Connection) -> list[Person]:
    """All people, by user name."""
    query = select(person.c.id).where(person.c.state != "deleting")
    return load(connection, list(connection.execute(query).scalars()))


def _encode(name: str, person_id: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([name, person_id])).decode().rstrip("=")


def _decode(cursor: str) -> tuple[str, str]:
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        name, person_id = msgspec.json.decode(content, type=tuple[str, str])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise Refused("This cursor was not given by Passbook.", code="bad_cursor") from None
    if "\0" in name + person_id:
        raise Refused("This cursor was not given by Passbook.", code="bad_cursor")
    return name, person_id
