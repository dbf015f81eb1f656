"""Changes of scope as an administrator makes them, and what became of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import sqlalchemy as sa

from auth_service import granting
from passbook.servicedb import tables
from sync_worker.run import Summary
from tests.support.actors import TESTER
from tests.support.stage import SETTLED_WITHIN, Stage


def link(stage: Stage, name: str, *clients: int) -> int:
    """Let a person see more clients; the id of the change."""
    with stage.database.begin() as connection:
        granting.link(connection, TESTER, name, clients)
    return changes(stage, name)[-1].id


def unlink(stage: Stage, name: str, *clients: int) -> int:
    """Take clients away; the id of the change."""
    with stage.database.begin() as connection:
        granting.unlink(connection, TESTER, name, clients)
    return changes(stage, name)[-1].id


def permit(stage: Stage, name: str, **what: Any) -> int:
    """Change permissions or the history window; the id of the change."""
    with stage.database.begin() as connection:
        granting.permit(connection, TESTER, name, **what)
    return changes(stage, name)[-1].id


def changes(stage: Stage, name: str) -> list[Any]:
    """The rows of a person's changes, oldest first."""
    change, person = tables.scope_change, tables.person
    query = sa.select(change).join(person, person.c.id == change.c.person_id).where(person.c.username == name)
    with stage.database.begin() as connection:
        return list(connection.execute(query.order_by(change.c.id)))


def counts(stage: Stage, change: int) -> tuple[int, int, int] | None:
    """Documents added, documents removed, clients failed; None before the change is carried out."""
    with stage.database.begin() as connection:
        row = connection.execute(sa.select(tables.scope_change).where(tables.scope_change.c.id == change)).one()
    return (row.documents_added, row.documents_removed, row.clients_failed) if row.carried_out_at else None


def sums(stage: Stage, name: str) -> tuple[int, int]:
    """Documents added and removed by all changes of a person, all of which must be carried out."""
    rows = changes(stage, name)
    assert all(row.carried_out_at for row in rows)
    return sum(row.documents_added for row in rows), sum(row.documents_removed for row in rows)


async def carry_out(stage: Stage) -> Summary | None:
    """One pass over changes of scope by a new worker."""
    async with stage.worker() as one:
        summary = await one.run_changes()
        await one.withdrawals.settle(SETTLED_WITHIN)
        return summary


def of_client(copies: dict[str, dict[str, Any]], *clients: int) -> Collection[str]:
    """Ids of the documents about these clients."""
    return {key for key, document in copies.items() if document.get("client_id") in clients}


async def until(condition: Callable[[], Awaitable[Any]], what: str, within: float = 60.0) -> Any:
    """The first true result of `condition`."""
    end = time.monotonic() + within
    while not (result := await condition()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        await asyncio.sleep(0.02)
    return result
