"""One full pass: read every client in scope once, project, and write to each person's database what differs.

Whoever holds a client, the client is read once. A batch of clients, its documents and their state are all that
is in memory, and the next batch is read from the ledger while this one is written.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, select, update

from passbook.couch import CouchClient, DatabaseMissing
from passbook.progress import Reporter
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person
from passbook.settings import Settings
from projections.context import Context
from sync_worker import failures, manifests, provision, scopes, state
from sync_worker.concurrency import each, each_of
from sync_worker.ledger.reader import Batch, Failure, LedgerReader, Lookups
from sync_worker.manifests import Contents, kind_of
from sync_worker.passlock import pass_lock
from sync_worker.projecting import BatchProjection
from sync_worker.reading import batches
from sync_worker.rebuild import Rebuilder
from sync_worker.scopes import Holder
from sync_worker.state import MANIFEST, Copies, Written
from sync_worker.verifying import Verifier
from sync_worker.writer import Change, Writer, difference

log = structlog.get_logger()

#: While one batch is noted in the service database, another keeps CouchDB busy.
_BATCHES_AT_ONCE = 2


@dataclass
class Summary:
    """What a pass did."""

    persons: int = 0
    clients: int = 0
    documents_written: int = 0
    documents_deleted: int = 0
    documents_unchanged: int = 0
    failures: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass
class _Pass:
    """What one pass carries from batch to batch."""

    holders: dict[str, Holder]
    #: When it began, by the ledger's clock: the time of what no single batch can date.
    as_of: datetime
    context: Context
    summary: Summary
    contents: dict[str, Contents]
    #: Clients still to be read, per person; at zero the manifest is due.
    waiting: dict[str, int]
    holders_of: dict[int, list[Holder]]
    failures: list[Failure] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)


class Worker:
    """Keeps every person's database equal to the ledger."""

    def __init__(
        self, settings: Settings, reader: LedgerReader, couch: CouchClient, database: ServiceDatabase
    ) -> None:
        self._settings = settings
        self.reader = reader
        self.couch = couch
        self._database = database
        self._writer = Writer(
            couch,
            database,
            most_documents=settings.couchdb_bulk_documents,
            most_bytes=settings.couchdb_bulk_bytes,
        )
        self.failed: list[Failure] = []
        #: Unknown codes that were logged already: once is enough for a worker that runs for months.
        self._told: set[tuple[str, int]] = set()

    def verifier(self) -> Verifier:
        """A verifier on the same servers."""
        return Verifier(self._settings, self.reader, self.couch, self._database)

    async def run_pass(self, reporter: Reporter) -> Summary:
        """Do one full pass. Raises `Unavailable` or `Refused`; what was written until then stands."""
        started = time.monotonic()
        async with pass_lock(self._database):
            summary = await self._pass(reporter)
        summary.seconds = round(time.monotonic() - started, 3)
        return summary

    async def _pass(self, reporter: Reporter) -> Summary:
        today = datetime.now(self._settings.tenant_timezone).date()
        # The ledger may have been upgraded since the last pass.
        await asyncio.to_thread(self.reader.prepare)
        lookups = await asyncio.to_thread(self.reader.lookups)
        with self._database.begin() as connection:
            everybody, leavers = scopes.load(connection, today)
            troubled = failures.clients(connection)
        await provision.erase_leavers(self.couch, self._database, leavers)
        await provision.make_databases(self.couch, self._database, everybody)
        run = _begin(everybody, lookups)
        await self._take_back(run)
        clients = sorted(run.holders_of)
        done = 0
        reporter.update(0, len(clients))

        async def work(item: tuple[Sequence[int], Batch]) -> None:
            nonlocal done
            ids, batch = item
            await self._batch(run, ids, BatchProjection(batch, run.context))
            done += len(ids)
            reporter.update(done, len(clients))

        incoming = batches(
            self.reader,
            clients,
            size=self._settings.ledger_batch,
            per_second=self._settings.ledger_clients_per_second,
        )
        async with aclosing(incoming):
            await each_of(_BATCHES_AT_ONCE, incoming, work)
        await self._manifests(run, [holder for holder in everybody if not holder.scope.clients])
        await self._rebuild_lost(run)
        await self._compact(run)
        for column, code in sorted(run.context.unknown - self._told):
            log.warning("unknown code in the ledger", column=column, code=code)
        self._told |= run.context.unknown
        self.failed = run.failures
        recovered = troubled - {failure.client_id for failure in run.failures}
        if run.failures or recovered:
            await asyncio.to_thread(self._database.run, failures.record, run.failures, recovered)
        run.summary.clients = len(clients)
        run.summary.failures = len(run.failures)
        return run.summary

    async def _take_back(self, run: _Pass) -> None:
        """Tombstones for every client that a person no longer has, before anything new is written."""
        holdings = await asyncio.to_thread(self._database.run, state.holdings)
        gone: dict[str, set[int]] = defaultdict(set)
        for person_id, client_id in holdings:
            holder = run.holders.get(person_id)
            if holder and client_id not in holder.scope.clients:
                gone[person_id].add(client_id)
        if not gone:
            return

        async def take(item: tuple[str, set[int]]) -> list[Written]:
            person_id, clients = item
            copies = await asyncio.to_thread(self._database.run, state.of_person, person_id)
            mine = {key: copy for key, copy in copies.items() if copy.client_id in clients}
            changes, _ = difference([], mine)
            return await self._write(run, run.holders[person_id], changes, run.as_of)

        written = await each(self._settings.couchdb_connections, gone.items(), take)
        await self._record(run, [document for part in written for document in part])

    async def _batch(self, run: _Pass, ids: Sequence[int], projection: BatchProjection) -> None:
        share: dict[str, list[int]] = defaultdict(list)
        for client_id in ids:
            for holder in run.holders_of[client_id]:
                share[holder.id].append(client_id)
        known = await asyncio.to_thread(self._database.run, state.of_clients, ids)

        async def copy(item: tuple[str, list[int]]) -> list[Written]:
            person_id, clients = item
            holder = run.holders[person_id]
            changes = self._changes(run, holder, clients, projection, known.get(person_id, {}))
            return await self._write(run, holder, changes, projection.as_of)

        written = await each(self._settings.couchdb_connections, share.items(), copy)
        await self._record(run, [document for part in written for document in part])
        run.failures.extend(projection.failures.values())
        finished = []
        for person_id, clients in share.items():
            run.waiting[person_id] -= len(clients)
            if not run.waiting[person_id]:
                finished.append(run.holders[person_id])
        await self._manifests(run, finished)

    def _changes(
        self, run: _Pass, holder: Holder, clients: Sequence[int], projection: BatchProjection, known: Copies
    ) -> list[Change]:
        contents = run.contents[holder.id]
        wanted = []
        for client_id in clients:
            documents = projection.documents(client_id, holder.scope)
            if not projection.usable(client_id):
                contents.failed.add(client_id)
                continue
            wanted.extend(documents)
            name = projection.name(client_id)
            if name is not None:
                contents.names[client_id] = name
        mine: Copies = {}
        for key, copy in known.items():
            if copy.client_id in contents.failed:
                if not copy.deleted:
                    contents.counts[kind_of(key)] += 1
            elif copy.client_id in holder.scope.clients:
                mine[key] = copy
        contents.counts.update(document.type for document in wanted)
        changes, unchanged = difference(wanted, mine)
        run.summary.documents_unchanged += unchanged
        return changes

    async def _write(self, run: _Pass, holder: Holder, changes: Sequence[Change], as_of: datetime) -> list[Written]:
        if not changes or holder.id in run.lost:
            return []
        try:
            written = await self._writer.write(holder.database, holder.id, changes, as_of)
        except DatabaseMissing:
            run.lost.add(holder.id)
            return []
        for document in written:
            if document.deleted:
                run.summary.documents_deleted += 1
            else:
                run.summary.documents_written += 1
        return written

    async def _manifests(self, run: _Pass, holders: Sequence[Holder]) -> None:
        """Write the manifests of people all of whose clients were seen."""
        holders = [holder for holder in holders if holder.id not in run.lost]
        if not holders:
            return
        people = [holder.id for holder in holders]
        known = await asyncio.to_thread(self._database.run, state.manifests, people)
        changed = await asyncio.to_thread(self._database.run, state.last_changes, people)

        async def write(holder: Holder) -> list[Written]:
            copy = known.get(holder.id)
            as_of = changed.get(holder.id) or (copy.as_of if copy else run.as_of)
            await self._remember_failed(run.contents[holder.id], holder, copy is not None)
            manifest = manifests.build(holder, run.contents[holder.id], as_of)
            changes, unchanged = difference([manifest], {MANIFEST: copy} if copy else {})
            run.summary.documents_unchanged += unchanged
            return await self._write(run, holder, changes, as_of)

        written = await each(self._settings.couchdb_connections, holders, write)
        await self._record(run, [document for part in written for document in part])

    async def _remember_failed(self, contents: Contents, holder: Holder, has_manifest: bool) -> None:
        """Clients that failed keep their place in the manifest: their documents are still on the devices."""
        if not contents.failed or not has_manifest:
            return
        leaf = (await self.couch.leaves(holder.database, [MANIFEST]))[MANIFEST]
        for entry in (leaf.body or {}).get("clients", ()):
            if entry["id"] in contents.failed:
                contents.names[entry["id"]] = entry["display_name"]

    async def _record(self, run: _Pass, written: Sequence[Written]) -> None:
        if written:
            await asyncio.to_thread(self._database.run, _note, written)

    async def _rebuild_lost(self, run: _Pass) -> None:
        """Databases that turned out to be gone come back from the ledger, revision for revision.

        Unless they are gone because their person was erased while the pass ran.
        """
        rebuilder = Rebuilder(self._settings, self.reader, self.couch, self._database, self._writer)
        for person_id in sorted(run.lost):
            written = await rebuilder.rebuild(run.holders[person_id], run.context)
            if written:
                log.warning("a person's database was lost and is rebuilt", person=person_id)
            run.summary.documents_written += written

    async def _compact(self, run: _Pass) -> None:
        """Throw away the bodies under tombstones: an old revision can be asked for until then."""
        with self._database.begin() as connection:
            due = list(connection.execute(select(person.c.id).where(person.c.compaction_due)).scalars())
        due = [person_id for person_id in due if person_id in run.holders]

        async def compact(person_id: str) -> None:
            await self.couch.compact(run.holders[person_id].database)

        await each(self._settings.couchdb_connections, due, compact)
        if due:
            with self._database.begin() as connection:
                connection.execute(update(person).where(person.c.id.in_(due)).values(compaction_due=False))


def _note(connection: Connection, written: Sequence[Written]) -> None:
    """Record what was written, and in the same transaction whose database has bodies to throw away."""
    state.record(connection, written)
    tombstoned = {document.person_id for document in written if document.deleted}
    if tombstoned:
        connection.execute(update(person).where(person.c.id.in_(tombstoned)).values(compaction_due=True))


def _begin(everybody: Sequence[Holder], lookups: Lookups) -> _Pass:
    holders_of: dict[int, list[Holder]] = defaultdict(list)
    for holder in everybody:
        for client_id in holder.scope.clients:
            holders_of[client_id].append(holder)
    return _Pass(
        holders={holder.id: holder for holder in everybody},
        as_of=lookups.as_of,
        context=Context(lookups.currencies, lookups.rounding),
        summary=Summary(persons=len(everybody)),
        contents={holder.id: Contents() for holder in everybody},
        waiting={holder.id: len(holder.scope.clients) for holder in everybody},
        holders_of=dict(holders_of),
    )
