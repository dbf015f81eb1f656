"""A person's whole database from the ledger, with the revisions it had: for one that was lost.

Devices that hold the old database find the same documents with the same revisions: nothing to fetch, no conflict.
A document that changed in the ledger meanwhile comes back as a child of its recorded revision; what had been
taken away comes back as the tombstone it was. Of a client that cannot be read nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
from sqlalchemy import Connection

from passbook import couch_copies
from passbook.couch import DatabaseMissing
from passbook.witness.keeper import Keeper
from projections.context import Context
from sync_worker import completeness, provision, state
from sync_worker.expecting import Expected, expected
from sync_worker.parts import Parts
from sync_worker.scopes import Holder
from sync_worker.state import MANIFEST, Written
from sync_worker.writer import Change

log = structlog.get_logger()


class Rebuilder:
    """Rebuilds one person's database at a time. `record` notes what was written, inside a transaction."""

    def __init__(
        self, parts: Parts, record: Callable[[Connection, Sequence[Written]], None] = state.record
    ) -> None:
        self._parts = parts
        self._writer = parts.writer
        self._record = record

    async def rebuild(self, holder: Holder, context: Context) -> int | None:
        """Write everything `holder` should have, over whatever is there; the number of live documents.

        None for a person who is being erased: then there is no database. None as well for a database that some node
        of CouchDB knows, or may know: then it is not lost, and the next pass finds it.
        """
        witness = await Keeper(self._parts.database, self._parts.couch).store()
        beside = witness.name if witness else None
        if not await couch_copies.lost(self._parts.couch, holder.database, beside=beside):
            log.warning("a database is missing on a node of CouchDB only, or a node is away", person=holder.id)
            return None
        # Until it is whole again nothing is told of how complete it is; and if we do not live to end it, the next
        # pass begins anew, though the record says that everything is there.
        await asyncio.to_thread(self._parts.database.run, completeness.lost, [holder.id])
        if not await provision.make_again(self._parts.couch, self._parts.database, holder):
            return None
        try:
            return await self._fill(holder, context)
        except DatabaseMissing:
            # Somebody deleted it once more: the next pass sees whether the person is still there.
            return None

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
        as_of, lacking = should.as_of, bool(should.failed)
        # Once more, since the manifest names the last change, which may just have moved.
        should = await self._expected(holder, context)
        manifest = should.documents.get(MANIFEST)
        if manifest is not None:
            last = Change(MANIFEST, None, manifest, should.known.get(MANIFEST))
            await self._restore(holder, [last], should.as_of)
        lacking = lacking or manifest is None
        await asyncio.to_thread(self._parts.database.run, completeness.rebuilt, holder.id, as_of, lacking=lacking)
        return len(live) + (manifest is not None)

    async def _expected(self, holder: Holder, context: Context) -> Expected:
        return await expected(self._parts, holder, context)

    async def _restore(self, holder: Holder, changes: list[Change], as_of: datetime) -> None:
        written = await self._writer.restore(holder.database, holder.id, changes, as_of)
        await asyncio.to_thread(self._parts.database.run, self._record, written)
