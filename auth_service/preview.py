"""What a person's devices hold, or would hold: told before anybody signs in, without a look at any content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, select

from auth_service import people
from auth_service.scopes import Window, checked_clients, checked_permissions, checked_window
from passbook.scope import PERMISSIONS, scope_of, type_of
from passbook.servicedb.tables import projected_document


@dataclass(frozen=True)
class Preview:
    """What the devices of a person hold, or would hold with another scope: ids and numbers, no content."""

    person: str
    clients: list[int]
    permissions: list[str]
    types: list[str]
    since: date | None
    documents: dict[str, int]
    total: int
    #: Clients whose documents nobody's copy has in full yet: the numbers do not cover them.
    not_read_yet: list[int]
    #: Changes that the worker has still to carry out.
    pending_changes: int
    ids: list[str]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def preview(
    connection: Connection,
    name: str,
    *,
    today: date,
    clients: Collection[int] | None = None,
    permissions: Sequence[str] | None = None,
    window: Window | None = None,
) -> Preview:
    """What a person's devices hold; with `clients`, `permissions` or `window`, what they would hold with those.

    The same scope function as the worker's decides. What there is of a client is known from every copy that the
    worker keeps, whosever it is: ids of documents are the ledger's.
    """
    now = people.show(connection, name)
    window = checked_window(window) if window is not None else Window(now.history_from, now.history_months)
    wanted = checked_clients(clients) if clients is not None else now.clients
    scope = scope_of(
        state=now.state,
        clients=wanted,
        permissions=checked_permissions(permissions) if permissions is not None else now.permissions,
        history_from=window.since,
        history_months=window.months,
        today=today,
    )
    rows = connection.execute(
        select(projected_document.c.document_id, projected_document.c.client_id)
        .where(projected_document.c.client_id.in_(scope.clients), ~projected_document.c.deleted)
        .distinct()
    ).all()
    ids = sorted(
        row.document_id
        for row in rows
        if scope.allows(row.client_id, type_of(row.document_id)) and _within(row.document_id, scope.since)
    )
    counts = Counter(type_of(document) for document in ids)
    return Preview(
        person=now.person,
        clients=sorted(scope.clients),
        permissions=sorted(scope.permissions, key=PERMISSIONS.index),
        types=sorted(scope.types),
        since=scope.since,
        documents=dict(sorted(counts.items())),
        total=len(ids),
        not_read_yet=sorted(scope.clients - {row.client_id for row in rows}),
        pending_changes=now.pending_changes,
        ids=ids,
    )


def _within(document_id: str, since: date | None) -> bool:
    """Whether a page of transactions reaches into the window; other documents always do."""
    if since is None or ":transactions:" not in document_id:
        return True
    page = document_id.rsplit(":", 1)[1]
    return page >= since.isoformat()[: len(page)]
