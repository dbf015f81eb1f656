"""What a pass notes in the service database of what it wrote."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from sync_worker import scope_changes, state, withdrawal
from sync_worker.state import MANIFESTS, Written


def note(connection: Connection, written: Sequence[Written], counting: dict[str, int]) -> None:
    """Record what was written, and in the same transaction whose database has bodies to throw away, and counts."""
    state.record(connection, written)
    # With a change of scope, a page that goes on may have lost what was before a day.
    withdrawal.mark(
        connection,
        {
            document.person_id
            for document in written
            if document.document_id not in MANIFESTS
            and (document.deleted or (document.person_id in counting and not document.gained))
        },
    )
    scope_changes.count(connection, counting, written)
