"""Lists of people: searched, filtered, and in pages that stay right while people come and go."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, func, or_, select, tuple_

from auth_service.people import KINDS, STATES, Person, load
from passbook.errors import Refused
from passbook.servicedb.tables import device, person, person_client

LONGEST_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Sought:
    """What is searched for; each narrows it further, and what is empty does not."""

    #: Part of the user name, or an id.
    text: str | None = None
    kind: str | None = None
    state: str | None = None
    #: Who may see this client of the ledger.
    client: int | None = None
    #: Whose device this is, whatever its state.
    device: str | None = None
    #: Of whom no device has synchronised since then, or ever.
    not_synchronised_since: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """What was given."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}

    def conditions(self) -> list[ColumnElement[bool]]:
        """On `person`. Raises `Refused` for a kind or state that does not exist."""
        if self.kind is not None and self.kind not in KINDS:
            raise Refused(f"{self.kind!r} is no kind of person.", remedy=f"It is one of: {', '.join(KINDS)}.")
        if self.state is not None and self.state not in STATES:
            raise Refused(f"{self.state!r} is no state of a person.", remedy=f"It is one of: {', '.join(STATES)}.")
        found = [person.c.state != "deleting"]
        if self.text:
            named = func.strpos(func.lower(person.c.username), func.lower(self.text)) > 0
            found.append(or_(named, person.c.id == self.text))
        if self.kind is not None:
            found.append(person.c.kind == self.kind)
        if self.state is not None:
            found.append(person.c.state == self.state)
        if self.client is not None:
            linked = select(person_client.c.person_id).where(person_client.c.client_id == self.client)
            found.append(person.c.id.in_(linked))
        if self.device is not None:
            found.append(person.c.id.in_(select(device.c.person_id).where(device.c.id == self.device)))
        if self.not_synchronised_since is not None:
            lately = select(device.c.person_id).where(device.c.last_synchronised_at >= self.not_synchronised_since)
            found.append(person.c.id.not_in(lately))
        return found


@dataclass(frozen=True)
class Page:
    """Some of the people, by user name; `next` is the cursor of the page after, None on the last."""

    items: list[Person]
    next: str | None


def search(
    connection: Connection, sought: Sought, *, after: str | None = None, limit: int | None = LONGEST_PAGE
) -> Page:
    """A page of who is sought: at most `limit` people, with None all of them.

    Raises `Refused` for a cursor that did not come from here, and for a kind or state that does not exist.
    """
    name = func.lower(person.c.username)
    query = select(person.c.id, name.label("name")).where(*sought.conditions()).order_by(name, person.c.id)
    if after is not None:
        query = query.where(tuple_(name, person.c.id) > tuple_(*_decode(after)))
    if limit is not None:
        query = query.limit(limit + 1)
    found: Sequence[tuple[str, str]] = [(row.id, row.name) for row in connection.execute(query)]
    more = limit is not None and len(found) > limit
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
