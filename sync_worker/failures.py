"""Dead letters: clients that could not be projected, with the reason, until they can be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from passbook.servicedb.tables import dead_letter
from sync_worker.ledger.reader import Failure


def record(connection: Connection, failures: Sequence[Failure], recovered: Collection[int]) -> None:
    """Note `failures`, and strike the clients that are well again."""
    if recovered:
        connection.execute(delete(dead_letter).where(dead_letter.c.client_id.in_(recovered)))
    for failure in failures:
        values = {"client_id": failure.client_id, "code": failure.code, "detail": failure.detail}
        connection.execute(
            insert(dead_letter)
            .values(values)
            .on_conflict_do_update(
                index_elements=["client_id"],
                set_={
                    "code": failure.code,
                    "detail": failure.detail,
                    "last_seen_at": func.now(),
                    "attempts": dead_letter.c.attempts + 1,
                },
            )
        )


def clients(connection: Connection) -> set[int]:
    """The clients that are dead letters now."""
    return set(connection.execute(select(dead_letter.c.client_id)).scalars())


def everything(connection: Connection) -> list[dict[str, Any]]:
    """All dead letters, by client."""
    return [
        dict(row) for row in connection.execute(select(dead_letter).order_by(dead_letter.c.client_id)).mappings()
    ]
