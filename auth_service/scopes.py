"""What a person may see: which values are possible, and the changes that the worker carries out.

A change is noted as an event for the worker, in the same transaction: it is pending until the worker has carried it
out, and then says how many documents came and went. It is done when nothing that it took away can be read any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from passbook.errors import Refused
from passbook.lookup import person_id_of
from passbook.scope import PERMISSIONS
from passbook.servicedb.tables import person, scope_change

_LARGEST_ID = 2**63 - 1
_LONGEST_WINDOW = 1200
MOST_CLIENTS = 10_000


@dataclass(frozen=True)
class Window:
    """How much history a person's devices get: from a day, the last so many months, or (both None) all."""

    since: date | None = None
    months: int | None = None


@dataclass(frozen=True)
class Change:
    """A change of what a person may see.

    `state` is `pending`; `carried_out` when devices get and lose documents with their next synchronisation, but
    old bodies of what was taken away are still in CouchDB, on `nodes_outstanding` nodes (null before the first
    look); then `done`.
    """

    change: int
    what: str
    state: str
    requested_at: datetime
    carried_out_at: datetime | None
    done_at: datetime | None
    nodes_outstanding: int | None
    documents_added: int | None
    documents_removed: int | None
    clients_failed: int | None

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def request(connection: Connection, person_id: str, what: str) -> None:
    """Note a change for the worker, which is told when the transaction commits."""
    connection.execute(insert(scope_change).values(person_id=person_id, what=what))


def changes(connection: Connection, name: str, *, limit: int = 50) -> list[Change]:
    """The changes of a person's scope, newest first."""
    query = (
        select(scope_change, person.c.nodes_outstanding)
        .join(person, person.c.id == scope_change.c.person_id)
        .where(scope_change.c.person_id == person_id_of(connection, name))
        .order_by(scope_change.c.id.desc())
        .limit(limit)
    )
    return [
        Change(
            row.id,
            row.what,
            "done" if row.done_at else "carried_out" if row.carried_out_at else "pending",
            row.requested_at,
            row.carried_out_at,
            row.done_at,
            row.nodes_outstanding if row.carried_out_at and not row.done_at else None,
            row.documents_added,
            row.documents_removed,
            row.clients_failed,
        )
        for row in connection.execute(query)
    ]


def checked_permissions(permissions: Iterable[str]) -> list[str]:
    """The permissions in their order, each once. Raises `Refused` for one that does not exist."""
    permissions = set(permissions)
    for permission in sorted(permissions):
        if permission not in PERMISSIONS:
            raise Refused(f"{permission!r} is no permission.", remedy=f"They are: {', '.join(PERMISSIONS)}.")
    return sorted(permissions, key=PERMISSIONS.index)


def checked_clients(clients: Collection[int]) -> list[int]:
    """The clients in order, each once. Raises `Refused` for a number that no client can have, and for too many."""
    for client_id in clients:
        if not 0 < client_id <= _LARGEST_ID:
            raise Refused(f"{client_id} cannot be the id of a client.")
    if len(set(clients)) > MOST_CLIENTS:
        raise Refused(f"A person sees at most {MOST_CLIENTS:,} clients.", code="too_many_clients")
    return sorted(set(clients))


def checked_window(window: Window) -> Window:
    """The window, if there can be such a one; else raises `Refused`."""
    if window.since is not None and window.months is not None:
        raise Refused("A history window is a day or a number of months, not both.")
    if window.months is not None and not 1 <= window.months <= _LONGEST_WINDOW:
        raise Refused(f"A history window has 1 to {_LONGEST_WINDOW} months.")
    return window
