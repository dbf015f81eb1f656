"""What a person is told about themselves. Reads what people's side of the service may read, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, select

from passbook.errors import NotFound
from passbook.freshness import checked_at
from passbook.servicedb.tables import person, person_client


@dataclass(frozen=True)
class Me:
    """One person, in their own eyes."""

    person: str
    username: str
    kind: str
    clients: list[int]
    permissions: list[str]
    history_from: date | None
    history_months: int | None
    must_change_password: bool
    #: See `passbook.freshness`.
    checked_at: datetime | None


_ME = select(
    person.c.username,
    person.c.kind,
    person.c.permissions,
    person.c.history_from,
    person.c.history_months,
    person.c.must_change_password,
    checked_at(person.c.id).label("checked_at"),
)


def show(connection: Connection, person_id: str) -> Me:
    """The person with this id. Raises `NotFound` for one who was deleted meanwhile."""
    row = connection.execute(_ME.where(person.c.id == person_id, person.c.state != "deleting")).one_or_none()
    if row is None:
        raise NotFound(f"There is no person {person_id!r} any more.")
    links = select(person_client.c.client_id).where(person_client.c.person_id == person_id)
    return Me(
        person=person_id,
        username=row.username,
        kind=row.kind,
        clients=list(connection.execute(links.order_by(person_client.c.client_id)).scalars()),
        permissions=list(row.permissions),
        history_from=row.history_from,
        history_months=row.history_months,
        must_change_password=row.must_change_password,
        checked_at=row.checked_at,
    )
