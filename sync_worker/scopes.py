"""The people the worker works for, each with the scope that `passbook.scope` gives them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from sqlalchemy import ARRAY, Connection, Text, any_, literal, select

from passbook.scope import Scope, scope_of
from passbook.servicedb.tables import person, person_client

#: All that decides what somebody holds: the worker's role reads no more of them.
_COLUMNS = (
    person.c.id,
    person.c.kind,
    person.c.state,
    person.c.permissions,
    person.c.history_from,
    person.c.history_months,
    person.c.database_name,
    person.c.database_ready_at,
    person.c.generation,
)


@dataclass(frozen=True)
class Holder:
    """A person with a database: whose copies the worker keeps."""

    id: str
    kind: str
    database: str
    generation: int
    ready: bool
    scope: Scope


@dataclass(frozen=True)
class Leaver:
    """A person on the way out: what is left of them must be erased."""

    id: str
    database: str


def leaving(connection: Connection) -> set[str]:
    """The ids of those on the way out."""
    return set(connection.execute(select(person.c.id).where(person.c.state == "deleting")).scalars())


def load(
    connection: Connection, today: date, only: Collection[str] | None = None
) -> tuple[list[Holder], list[Leaver]]:
    """Everybody, or the people with these ids. `today` is the institution's day, for rolling history windows."""
    people = select(*_COLUMNS).order_by(person.c.id)
    links = select(person_client.c.person_id, person_client.c.client_id)
    if only is not None:
        # One parameter however many they are: a statement takes 65,535 at most.
        ids = literal(list(only), ARRAY(Text))
        people = people.where(person.c.id == any_(ids))
        links = links.where(person_client.c.person_id == any_(ids))
    clients: dict[str, list[int]] = {}
    for link in connection.execute(links):
        clients.setdefault(link.person_id, []).append(link.client_id)
    holders: list[Holder] = []
    leavers: list[Leaver] = []
    for row in connection.execute(people):
        if row.state == "deleting":
            leavers.append(Leaver(row.id, row.database_name))
            continue
        scope = scope_of(
            state=row.state,
            clients=clients.get(row.id, ()),
            permissions=row.permissions,
            history_from=row.history_from,
            history_months=row.history_months,
            today=today,
        )
        ready = row.database_ready_at is not None
        holders.append(Holder(row.id, row.kind, row.database_name, row.generation, ready, scope))
    return holders, leavers
