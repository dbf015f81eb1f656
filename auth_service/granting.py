"""Giving and taking: the clients a person is linked to, the permissions, the history window."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, delete
from sqlalchemy.dialects.postgresql import insert as upsert

from auth_service import people, scopes
from auth_service.people import Person
from auth_service.scopes import MOST_CLIENTS, Window, checked_clients, checked_permissions, checked_window
from passbook.audit.chain import Actor, record
from passbook.audit.events import ClientsLinked, ClientsUnlinked, PermissionsChanged
from passbook.errors import Refused
from passbook.servicedb.tables import person_client


def link(
    connection: Connection,
    by: Actor,
    name: str,
    clients: Collection[int],
    *,
    version: int | None = None,
    reason: str = "",
) -> Person:
    """Let a person see these clients too. Links that are there already change nothing."""
    clients = checked_clients(clients)
    now = people.locked(connection, name, version)
    check_number(set(now.clients) | set(clients))
    new = [client for client in clients if client not in set(now.clients)]
    if not new:
        return now
    rows = [{"person_id": now.person, "client_id": client} for client in new]
    connection.execute(upsert(person_client).on_conflict_do_nothing(), rows)
    return _changed(connection, now.person, "clients", by, ClientsLinked(person=now.person, clients=new), reason)


def check_number(clients: Collection[int]) -> None:
    """Raise `Refused` for more clients than one person can see."""
    if len(clients) > MOST_CLIENTS:
        raise Refused(f"A person sees at most {MOST_CLIENTS:,} clients.", code="too_many_clients")


def unlink(
    connection: Connection,
    by: Actor,
    name: str,
    clients: Collection[int],
    *,
    version: int | None = None,
    reason: str = "",
) -> Person:
    """Take clients away from a person; the worker takes their documents back. `Refused` for one not linked."""
    now = people.locked(connection, name, version)
    missing = set(clients) - set(now.clients)
    if missing:
        raise Refused(f"{name!r} is not linked to client {min(missing)}; nothing was changed.", code="not_linked")
    gone = sorted(set(clients))
    if not gone:
        return now
    connection.execute(
        delete(person_client).where(person_client.c.person_id == now.person, person_client.c.client_id.in_(gone))
    )
    return _changed(connection, now.person, "clients", by, ClientsUnlinked(person=now.person, clients=gone), reason)


def permit(
    connection: Connection,
    by: Actor,
    name: str,
    *,
    only: Sequence[str] | None = None,
    grant: Sequence[str] = (),
    deny: Sequence[str] = (),
    window: Window | None = None,
    version: int | None = None,
    reason: str = "",
) -> Person:
    """Change what a person may see. `only` replaces the permissions, then `grant` adds and `deny` takes away."""
    checked_permissions((*(only or ()), *grant, *deny))
    now = people.locked(connection, name, version)
    present = set(only if only is not None else now.permissions)
    wanted = checked_permissions((present | set(grant)) - set(deny))
    here = Window(now.history_from, now.history_months)
    window = here if window is None else checked_window(window)
    if wanted == now.permissions and window == here:
        return now
    people.touch(
        connection, now.person, permissions=wanted, history_from=window.since, history_months=window.months
    )
    event = PermissionsChanged(
        person=now.person, before=_facts(now.permissions, here), after=_facts(wanted, window)
    )
    return _changed(connection, now.person, "permissions", by, event, reason, touched=True)


def _changed(
    connection: Connection,
    person_id: str,
    what: str,
    by: Actor,
    event: ClientsLinked | ClientsUnlinked | PermissionsChanged,
    reason: str,
    *,
    touched: bool = False,
) -> Person:
    if not touched:
        people.touch(connection, person_id)
    scopes.request(connection, person_id, what)
    record(connection, by, event, reason=reason)
    return people.show(connection, person_id)


def _facts(permissions: Sequence[str], window: Window) -> dict[str, Any]:
    since = window.since.isoformat() if window.since else None
    return {"permissions": list(permissions), "history_from": since, "history_months": window.months}
