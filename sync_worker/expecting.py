"""What one person's database should hold, as the ledger stands now: for those who check it and who rebuild it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from projections.context import Context
from projections.project import Projected
from sync_worker import manifests, state
from sync_worker.manifests import Contents, OnRecord
from sync_worker.parts import Parts
from sync_worker.projecting import BatchProjection
from sync_worker.reading import Pace, batches
from sync_worker.scopes import Holder
from sync_worker.state import MANIFEST, MANIFESTS, Copies, Known


@dataclass
class Expected:
    """`documents` by id, the manifest among them unless a client failed: then nobody can say what it should be."""

    documents: dict[str, Projected]
    #: Clients that cannot be read or projected, and why. What devices hold of them must stay as it is.
    failed: dict[int, str]
    known: Copies
    as_of: datetime

    def untold(self, document_id: str, copy: Known) -> bool:
        """Whether nothing can be said about a recorded document, because its client failed."""
        if document_id in MANIFESTS:
            return bool(self.failed) and not copy.deleted
        return copy.client_id in self.failed


async def expected(parts: Parts, holder: Holder, context: Context) -> Expected:
    """Read all of one person's clients, and what is on record of their documents."""
    known = await asyncio.to_thread(parts.database.run, state.of_person, holder.id)
    found = Expected({}, {}, known, await asyncio.to_thread(parts.reader.now))
    contents = Contents()
    async for ids, batch in batches(
        parts.reader,
        sorted(holder.scope.clients),
        size=parts.settings.ledger_batch,
        pace=Pace(parts.settings.ledger_clients_per_second),
    ):
        projection = BatchProjection(batch, context)
        for client_id in ids:
            documents = projection.documents(client_id, holder.scope)
            if not projection.usable(client_id):
                found.failed[client_id] = projection.failures[client_id].detail
                continue
            found.documents |= {document.id: document for document in documents}
            contents.counts.update(document.type for document in documents)
            name = projection.name(client_id)
            if name is not None:
                contents.names[client_id] = name
        found.as_of = min(found.as_of, projection.as_of)
    if not found.failed:
        changed = await asyncio.to_thread(parts.database.run, state.last_changes, [holder.id])
        on_record = OnRecord({key: known[key] for key in MANIFESTS if key in known}, changed.get(holder.id))
        found.documents[MANIFEST] = manifests.build(
            holder,
            contents,
            manifests.institution(parts.settings, context.business_date),
            on_record.as_of(found.as_of),
        )
    return found
