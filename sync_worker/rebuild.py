"""A person's whole database from the ledger, with the revisions it had: for one that was lost.

Devices that hold the old database find the same documents with the same revisions: nothing to fetch, no conflict.
A document that changed in the ledger meanwhile comes back as a child of its recorded revision; what had been
taken away comes back as the tombstone it was.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from passbook.couch import CouchClient, DatabaseMissing
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from projections.context import Context
from sync_worker import manifests, provision, state
from sync_worker.ledger.reader import LedgerReader
from sync_worker.manifests import Contents
from sync_worker.projecting import BatchProjection
from sync_worker.reading import batches
from sync_worker.scopes import Holder
from sync_worker.state import MANIFEST
from sync_worker.writer import Change, Writer


class Rebuilder:
    """Rebuilds one person's database at a time."""

    def __init__(
        self,
        settings: Settings,
        reader: LedgerReader,
        couch: CouchClient,
        database: ServiceDatabase,
        writer: Writer,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._couch = couch
        self._database = database
        self._writer = writer

    async def rebuild(self, holder: Holder, context: Context) -> int:
        """Write everything `holder` should have, over whatever is there; the number of live documents.

        Nothing for a person who is being erased.
        """
        if not await provision.make_again(self._couch, self._database, holder):
            return 0
        try:
            return await self._fill(holder, context)
        except DatabaseMissing:
            # Somebody deleted it once more: the next pass sees whether the person is still there.
            return 0

    async def _fill(self, holder: Holder, context: Context) -> int:
        known = await asyncio.to_thread(self._database.run, state.of_person, holder.id)
        contents = Contents()
        live = 0
        seen = {MANIFEST}
        async for ids, batch in batches(
            self._reader,
            sorted(holder.scope.clients),
            size=self._settings.ledger_batch,
            per_second=self._settings.ledger_clients_per_second,
        ):
            projection = BatchProjection(batch, context)
            changes = []
            for client_id in ids:
                documents = projection.documents(client_id, holder.scope)
                name = projection.name(client_id)
                if name is not None and projection.usable(client_id):
                    contents.names[client_id] = name
                changes += [
                    Change(document.id, client_id, document, known.get(document.id)) for document in documents
                ]
                contents.counts.update(document.type for document in documents)
            seen.update(change.id for change in changes)
            live += len(changes)
            await self._restore(holder, changes, projection.as_of)
        gone = [Change(key, copy.client_id, None, copy) for key, copy in known.items() if key not in seen]
        if gone:
            await self._restore(holder, gone, max(copy.as_of for copy in known.values()))
        changed = await asyncio.to_thread(self._database.run, state.last_changes, [holder.id])
        as_of = changed.get(holder.id, await asyncio.to_thread(self._reader.now))
        manifest = manifests.build(holder, contents, as_of)
        await self._restore(holder, [Change(MANIFEST, None, manifest, known.get(MANIFEST))], as_of)
        return live + 1

    async def _restore(self, holder: Holder, changes: list[Change], as_of: datetime) -> None:
        written = await self._writer.restore(holder.database, holder.id, changes, as_of)
        await asyncio.to_thread(self._database.run, state.record, written)
