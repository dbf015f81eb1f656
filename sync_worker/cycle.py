"""A pass: read clients, project, and write to each person's database what differs.

A full pass is about everybody: whoever holds a client, the client is read once. A pass over changes of scope is the
same for a few people and their clients; nobody else's database is touched. A batch of clients, its documents and
their state are all that is in memory, and the next batch is read from the ledger while this one is written.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import date, datetime
from functools import partial

import structlog
from sqlalchemy import Connection

from passbook.couch import CouchClient, DatabaseMissing
from passbook.progress import Reporter, Silent
from passbook.scope import type_of
from sync_worker import completeness, failures, manifests, noting, provision, scope_changes, state
from sync_worker.concurrency import each, each_of
from sync_worker.doubts import Doubts
from sync_worker.ledger.reader import Batch, Failure, LedgerReader
from sync_worker.manifests import Contents, OnRecord
from sync_worker.parts import Parts
from sync_worker.passlock import pass_lock
from sync_worker.projecting import BatchProjection
from sync_worker.reading import Pace, batches
from sync_worker.rebuild import Rebuilder
from sync_worker.run import People, Run, Summary
from sync_worker.scopes import Holder
from sync_worker.state import Copies, Written
from sync_worker.upkeep import Upkeep
from sync_worker.verifying import Verifier
from sync_worker.withdrawal import Withdrawals
from sync_worker.writer import Change, difference

log = structlog.get_logger()

#: While one batch is noted in the service database, another keeps CouchDB busy.
_BATCHES_AT_ONCE = 2


class Worker:
    """Keeps every person's database equal to the ledger."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._database = parts.database
        self._writer = parts.writer
        self.failed: list[Failure] = []
        #: Set by whoever hears of a change of scope. A full pass under way gives way to it.
        self.hurry = asyncio.Event()
        #: See to the old bodies of what was taken away, until they are gone.
        self.withdrawals = Withdrawals(parts.couch, parts.database)
        #: Looks whether CouchDB still lets in whom it should.
        self.upkeep = Upkeep(parts)
        #: Looks whether all nodes of CouchDB have what was written while some were away.
        self.doubts = Doubts(parts)
        #: Unknown codes that were logged already: once is enough for a worker that runs for months.
        self._told: set[tuple[str, int]] = set()

    @property
    def reader(self) -> LedgerReader:
        """Reads the ledger."""
        return self._parts.reader

    @property
    def couch(self) -> CouchClient:
        """Speaks to CouchDB."""
        return self._parts.couch

    def verifier(self) -> Verifier:
        """A verifier on the same servers."""
        return Verifier(self._parts)

    async def run_pass(self, reporter: Reporter) -> Summary:
        """Do one full pass. Raises `Unavailable` or `Refused`; what was written until then stands."""
        started = time.monotonic()
        async with pass_lock(self._database):
            run = await self._pass(await self._people(People.everybody), self._pace(), reporter)
        run.summary.seconds = round(time.monotonic() - started, 3)
        return run.summary

    async def run_changes(self) -> Summary | None:
        """Carry out pending changes of scope, finish deletions; None, and no word to the ledger, if nothing is due.

        Errors as of `run_pass`: what was not carried out stays pending. `hurry` is set afterwards if the pass
        failed, or if so many changes are pending that another should follow.
        """
        started = time.monotonic()
        with self._looking():
            if not await asyncio.to_thread(self._database.run, scope_changes.any_waiting):
                return None
            async with pass_lock(self._database):
                run = await self._carry_out(self._pace())
        if run is None:
            return None
        run.summary.seconds = round(time.monotonic() - started, 3)
        return run.summary

    @contextmanager
    def _looking(self) -> Iterator[None]:
        # Cleared before the look: what is heard of from then on is for the next time.
        self.hurry.clear()
        try:
            yield
        except BaseException:
            self.hurry.set()
            raise

    def _pace(self) -> Pace:
        return Pace(self._parts.settings.ledger_clients_per_second)

    async def _people(self, load: Callable[[Connection, date], People]) -> People:
        people = await asyncio.to_thread(self._database.run, load, self._parts.today())
        await provision.erase_leavers(self.couch, self._database, people.leavers)
        return people

    async def _carry_out(self, pace: Pace, interrupted: Run | None = None) -> Run | None:
        """A pass over changes of scope, in the midst of the `interrupted` one if there is one.

        The interrupted pass knows older scopes of these people. It must not write to their databases any more,
        or it would bring back what was just taken away.
        """
        with self._looking():
            people = await self._people(People.changed)
            if interrupted:
                interrupted.forget(people.ids)
            run = await self._pass(people, pace, Silent()) if people.holders else None
        if people.more:
            self.hurry.set()
        return run

    async def _pass(self, people: People, pace: Pace, reporter: Reporter) -> Run:
        # The ledger may have been upgraded since the last pass.
        await asyncio.to_thread(self.reader.prepare)
        run = Run.of(people, await asyncio.to_thread(self.reader.lookups), pace)
        troubled = await asyncio.to_thread(self._database.run, failures.clients)
        await provision.make_databases(self.couch, self._database, people.holders)
        await self._find_lost(run)
        await self._take_back(run)
        clients = sorted(run.holders_of)
        await self._copy(run, clients, reporter)
        without = [holder for holder in run.holders.values() if not holder.scope.clients]
        await self._manifests(run, without, await self._on_record([holder.id for holder in without]))
        await self._compact(run)
        run.lost |= run.lacking - run.troubled()
        await self._rebuild_lost(run)
        for column, code in sorted(run.context.unknown - self._told):
            log.warning("unknown code in the ledger", column=column, code=code)
        self._told |= run.context.unknown
        self.failed = list(run.failures.values())
        # Of clients that were not read nobody knows; those that nobody holds any more are nobody's trouble.
        recovered = (troubled if run.all else troubled.intersection(clients)) - run.failures.keys()
        if self.failed or recovered:
            await asyncio.to_thread(self._database.run, failures.record, self.failed, recovered)
        # Before the changes of scope count as carried out: until then nothing is told of these people.
        await asyncio.to_thread(self._database.run, completeness.note, run)
        await self._finish(run)
        run.summary.clients = len(clients)
        run.summary.failures = len(run.failures)
        return run

    async def _find_lost(self, run: Run) -> None:
        """Databases to rebuild. A full pass looks which are there: one that never changes would not be missed."""
        run.lost, run.lacking = await asyncio.to_thread(
            self._database.run, completeness.to_rebuild, list(run.holders)
        )
        gone = await provision.missing(self.couch, run.holders.values()) if run.all else []
        if gone:
            await asyncio.to_thread(self._database.run, completeness.lost, gone)
        run.lost |= set(gone)

    async def _take_back(self, run: Run) -> None:
        """Tombstones for what people may no longer have, before anything new is written.

        For everybody by client; for those whose scope changed by type of document as well, since a client that
        cannot be read now must not keep documents on devices that may not have them.
        """
        only = None if run.all else list(run.holders)
        holdings = await asyncio.to_thread(self._database.run, state.holdings, only)
        losing = {
            person_id
            for person_id, client_id in holdings
            if (holder := run.holders.get(person_id))
            and (client_id not in holder.scope.clients or person_id in run.pending)
        }

        async def take(person_id: str) -> list[Written]:
            holder = run.holders[person_id]
            copies = await asyncio.to_thread(self._database.run, state.of_person, person_id)
            gone = {
                key: copy
                for key, copy in copies.items()
                if copy.client_id is not None and not holder.scope.allows(copy.client_id, type_of(key))
            }
            changes, _ = difference([], gone)
            return await self._write(run, holder, changes, run.as_of)

        written = await each(self._parts.settings.couchdb_connections, sorted(losing), take)
        await self._record(run, [document for part in written for document in part])

    async def _copy(self, run: Run, clients: Sequence[int], reporter: Reporter) -> None:
        """Read clients and write what differs, a full pass with a look for changes of scope before each batch."""
        done = 0
        reporter.update(0, len(clients))
        hands = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def work(item: tuple[Sequence[int], Batch]) -> None:
            nonlocal done
            ids, batch = item
            async with hands:
                await self._batch(run, ids, BatchProjection(batch, run.context))
            done += len(ids)
            reporter.update(done, len(clients))

        async def giving_way(
            incoming: AsyncGenerator[tuple[Sequence[int], Batch], None],
        ) -> AsyncGenerator[tuple[Sequence[int], Batch], None]:
            async for item in incoming:
                if run.all and self.hurry.is_set():
                    # All hands: while it lasts, nothing of this pass may be on its way to CouchDB.
                    for _ in range(_BATCHES_AT_ONCE):
                        await hands.acquire()
                    await self._give_way(run)
                    for _ in range(_BATCHES_AT_ONCE):
                        hands.release()
                yield item

        size = self._parts.settings.ledger_batch
        async with (
            aclosing(batches(self.reader, clients, size=size, pace=run.pace)) as incoming,
            aclosing(giving_way(incoming)) as items,
        ):
            await each_of(_BATCHES_AT_ONCE, items, work)

    async def _give_way(self, run: Run) -> None:
        other = await self._carry_out(run.pace, run)
        if other:
            run.summary.add(other.summary)
            run.failures |= other.failures

    async def _batch(self, run: Run, ids: Sequence[int], projection: BatchProjection) -> None:
        share: dict[str, list[int]] = defaultdict(list)
        for client_id in ids:
            for holder in run.holders_of[client_id]:
                share[holder.id].append(client_id)
        only = None if run.all else list(share)
        known = await asyncio.to_thread(self._database.run, state.of_clients, ids, only)

        # Of these people all other clients are written and noted: the manifest can go with what this batch brings.
        ending = [person_id for person_id, clients in share.items() if run.waiting[person_id] == len(clients)]
        on_record = await self._on_record(ending)
        told: set[str] = set()

        async def copy(item: tuple[str, list[int]]) -> list[Written]:
            person_id, clients = item
            holder = run.holders[person_id]
            changes = self._changes(run, holder, clients, projection, known.get(person_id, {}))
            stands = on_record.get(person_id)
            if changes and stands and (stands.changed is None or stands.changed <= projection.as_of):
                changes += await self._manifest(run, holder, stands, projection.as_of)
                told.add(person_id)
            return await self._write(run, holder, changes, projection.as_of)

        written = await each(self._parts.settings.couchdb_connections, share.items(), copy)
        await self._record(run, [document for part in written for document in part])
        run.failures |= projection.failures
        finished = []
        for person_id, clients in share.items():
            run.waiting[person_id] -= len(clients)
            if not run.waiting[person_id] and person_id not in told:
                finished.append(run.holders[person_id])
        later = [holder.id for holder in finished if holder.id not in on_record]
        await self._manifests(run, finished, on_record | await self._on_record(later))

    def _changes(
        self, run: Run, holder: Holder, clients: Sequence[int], projection: BatchProjection, known: Copies
    ) -> list[Change]:
        contents = run.contents[holder.id]
        wanted = []
        for client_id in clients:
            documents = projection.documents(client_id, holder.scope)
            contents.left_out += client_id in projection.failures
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
                    contents.counts[type_of(key)] += 1
            elif copy.client_id in holder.scope.clients:
                mine[key] = copy
        contents.counts.update(document.type for document in wanted)
        changes, unchanged = difference(wanted, mine)
        run.summary.documents_unchanged += unchanged
        return changes

    async def _write(self, run: Run, holder: Holder, changes: Sequence[Change], as_of: datetime) -> list[Written]:
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

    async def _on_record(self, people: Sequence[str]) -> dict[str, OnRecord]:
        if not people:
            return {}
        known = await asyncio.to_thread(self._database.run, state.manifests, people)
        changed = await asyncio.to_thread(self._database.run, state.last_changes, people)
        return {one: OnRecord(known.get(one, {}), changed.get(one)) for one in people}

    async def _manifests(self, run: Run, holders: Sequence[Holder], on_record: Mapping[str, OnRecord]) -> None:
        """Write the manifests of people all of whose documents stand."""

        async def write(holder: Holder) -> list[Written]:
            stands = on_record[holder.id]
            as_of = stands.as_of(run.as_of)
            return await self._write(run, holder, await self._manifest(run, holder, stands, as_of), as_of)

        written = await each(self._parts.settings.couchdb_connections, holders, write)
        await self._record(run, [document for part in written for document in part])

    async def _manifest(self, run: Run, holder: Holder, stands: OnRecord, as_of: datetime) -> list[Change]:
        """What to write so that the person's manifest is right, and the only one."""
        if holder.id in run.lost:
            return []
        try:
            await self._remember_failed(run.contents[holder.id], holder, stands.stored)
        except DatabaseMissing:
            run.lost.add(holder.id)
            return []
        told = manifests.institution(self._parts.settings, run.context.business_date)
        manifest = manifests.build(holder, run.contents[holder.id], told, as_of)
        changes, unchanged = difference([manifest], stands.manifests)
        run.summary.documents_unchanged += unchanged
        return changes

    async def _remember_failed(self, contents: Contents, holder: Holder, stored: str | None) -> None:
        """Clients that failed keep their place in the manifest: their documents are still on the devices."""
        if not contents.failed or not stored:
            return
        leaf = (await self.couch.leaves(holder.database, [stored]))[stored]
        for entry in (leaf.body or {}).get("clients", ()):
            if entry["id"] in contents.failed:
                contents.names[entry["id"]] = entry["display_name"]

    async def _record(self, run: Run, written: Sequence[Written]) -> None:
        if written:
            await asyncio.to_thread(self._database.run, noting.note, written, run.counting)

    async def _compact(self, run: Run) -> None:
        """Begin to throw away the bodies under tombstones; `withdrawals` see to the end of it beside the passes."""
        run.lost |= set(await self.withdrawals.begin(run.holders))
        self.withdrawals.due.set()

    async def _rebuild_lost(self, run: Run) -> None:
        """Databases that turned out to be gone come back from the ledger, revision for revision.

        Unless they are gone because their person was erased while the pass ran.
        """
        rebuilder = Rebuilder(self._parts, partial(noting.note, counting=run.counting))
        for person_id in sorted(run.lost):
            written = await rebuilder.rebuild(run.holders[person_id], run.context)
            if written is None:
                run.pending.pop(person_id, None)
                continue
            log.warning("a person's database was lost and is rebuilt", person=person_id)
            run.summary.documents_written += written

    async def _finish(self, run: Run) -> None:
        """Mark the changes of scope as carried out; as done, too, unless old bodies are still to be thrown away."""
        if run.pending:
            failed = {person_id: run.contents[person_id].left_out for person_id in run.pending}
            await asyncio.to_thread(self._database.run, scope_changes.finish, run.pending, failed)
