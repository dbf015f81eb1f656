"""A person's whole database from the ledger, with the revisions it had: for one that was lost.

Devices that hold the old database find the same documents with the same revisions: nothing to fetch, no conflict.
A document that changed in the ledger meanwhile comes back as a child of its recorded revision; what had been
taken away comes back as the tombstone it was. Of a client that cannot be read nothing is written.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from passbook.couch import CouchClient, DatabaseMissing
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from projections.context import Context
from sync_worker import provision, state
from sync_worker.expecting import Expected, expected
from sync_worker.ledger.reader import LedgerReader
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
        should = await self._expected(holder, context)
        live = [
            Change(document.id, document.client_id, document, should.known.get(document.id))
            for document in should.documents.values()
            if document.id != MANIFEST
        ]
        gone = [
            Change(key, copy.client_id, None, copy)
            for key, copy in should.known.items()
            if key not in should.documents and not should.untold(key, copy)
        ]
        await self._restore(holder, gone + live, should.as_of)
        # Once more, since the manifest names the last change, which may just have moved.
        should = await self._expected(holder, context)
        manifest = should.documents.get(MANIFEST)
        if manifest is None:
            return len(live)
        last = Change(MANIFEST, None, manifest, should.known.get(MANIFEST))
        await self._restore(holder, [last], should.as_of)
        return len(live) + 1

    async def _expected(self, holder: Holder, context: Context) -> Expected:
        return await expected(self._settings, self._reader, self._database, holder, context)

    async def _restore(self, holder: Holder, changes: list[Change], as_of: datetime) -> None:
        written = await self._writer.restore(holder.database, holder.id, changes, as_of)
        await asyncio.to_thread(self._database.run, state.record, written)
