"""The manifest of a database: what it holds, as of when. Built from what the pass saw, written last."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from passbook.scope import PERMISSIONS
from projections import canonical
from projections.documents import SCHEMA, ClientInScope, Passbook
from projections.project import Projected
from sync_worker.scopes import Holder
from sync_worker.state import MANIFEST


@dataclass
class Contents:
    """What a pass found of one person: names of the clients in scope, documents by type."""

    names: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    #: Clients that could not be read or projected: what is known of them stays as it was.
    failed: set[int] = field(default_factory=set)
    #: How many clients are not in it although they should be: those that failed, and those the ledger lacks.
    left_out: int = 0


def build(holder: Holder, contents: Contents, as_of: datetime) -> Projected:
    """Document `passbook`. `as_of` is the ledger snapshot of the last change of any of the documents."""
    manifest = Passbook(
        schema=SCHEMA,
        generation=holder.generation,
        kind=holder.kind,
        permissions=sorted(holder.scope.permissions, key=PERMISSIONS.index),
        clients=[ClientInScope(id=key, display_name=contents.names[key]) for key in sorted(contents.names)],
        counts={kind: count for kind, count in sorted(contents.counts.items()) if count},
        as_of=as_of.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        history_from=holder.scope.since,
    )
    body = canonical.encode(manifest)
    return Projected(MANIFEST, MANIFEST, None, body, canonical.digest(body))
