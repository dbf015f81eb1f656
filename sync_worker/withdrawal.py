"""The end of a withdrawal: old bodies of what left a scope are thrown away, on every node, and seen to be gone.

A tombstone takes a document from the devices; its old body can still be asked for by revision until CouchDB has
compacted the database. Compaction is ordered, its end waited for and old revisions looked for, in each copy on its
own; only then is `compaction_due` cleared and are the person's changes of scope done. All of it goes in rounds that
wait for nothing, beside the passes and without their lock. Nothing but the flag is kept: a crash repeats a round.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import ARRAY, Connection, Text, any_, func, literal, select, update

from passbook import couch_copies
from passbook.couch import CouchClient, DatabaseMissing
from passbook.couch_copies import Copy, Membership
from passbook.errors import PassbookError
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person, projected_document, scope_change
from sync_worker.concurrency import each
from sync_worker.state import MANIFESTS

log = structlog.get_logger()

#: Documents of one person that must be what is on record in a copy before its compaction counts.
_MOST_DOCUMENTS = 2_000
#: Old bodies that are looked for in each copy: the newest, and others from all over.
_LOOKS = 10
#: Old bodies that `verify` looks for in each copy.
VERIFY_LOOKS = 50
#: Seconds between two rounds: the first, and the longest to which it grows while nothing gets done.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
#: Seconds between two looks whether anything is due that nobody told of: another worker may have died over it.
_IDLE_PAUSE = 30.0
#: People seen to at the same time: passes need CouchDB as well.
_AT_ONCE = 4
#: After so many people who could not be seen to, the rest of a round is not tried.
_MOST_PROBLEMS = 3


@dataclass(frozen=True)
class Superseded:
    """A document that was written over, with the revision whose body must go."""

    document: str
    revision: str
    old: str


@dataclass(frozen=True)
class Due:
    """Somebody whose database has bodies to lose."""

    id: str
    database_name: str
    #: When something was withdrawn last; None for what an earlier release left.
    withdrawn_at: datetime | None
    nodes_outstanding: int | None


@dataclass
class Round:
    """What a round came to, in people."""

    done: int = 0
    #: Compaction is under way, or copies are behind: another round soon.
    waiting: int = 0
    #: Nothing is left to do but on nodes that are away.
    outstanding: int = 0
    #: People whose database is not there at all: the next pass rebuilds it.
    missing: list[str] = field(default_factory=list)


class Withdrawals:
    """Sees to everybody whose `compaction_due` is set. Any number of workers may do so at once."""

    def __init__(self, couch: CouchClient, database: ServiceDatabase) -> None:
        self._couch = couch
        self._database = database
        #: By copy, the sequence up to which it must be compacted: until then it is left to go on.
        self._ordered: dict[Copy, int] = {}
        #: By person, when something was withdrawn last, and the nodes that have nothing left of it.
        self._clean: dict[str, tuple[datetime | None, set[str]]] = {}
        #: Set by whoever wrote tombstones.
        self.due = asyncio.Event()

    async def run(self) -> None:
        """Round after round, for ever: at once when something is due, ever more rarely while nothing gets done."""
        pause = _FIRST_PAUSE
        while True:
            self.due.clear()
            found = Round(waiting=1)
            try:
                found = await self.round()
            except PassbookError as error:
                log.warning("old bodies are not seen to", problem=error.message)
            except Exception:
                # A defect must not end the worker, and what is due stays due.
                log.exception("old bodies are not seen to")
            pause = _FIRST_PAUSE if found.done else min(pause * 1.5, _LONGEST_PAUSE)
            idle = not (found.waiting or found.outstanding or found.missing)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.due.wait(), _IDLE_PAUSE if idle else pause)
                pause = _FIRST_PAUSE

    async def settle(self, within: float, only: Collection[str] | None = None) -> Round:
        """Rounds until nothing is left that can be done now, for at most `within` seconds; what the last came to.

        For commands that end: whatever is left then is seen to by the next worker.
        """
        end, pause = time.monotonic() + within, _FIRST_PAUSE
        while True:
            found = await self.round(only)
            if not found.waiting or time.monotonic() > end:
                return found
            await asyncio.sleep(min(pause, max(end - time.monotonic(), 0)))
            pause = min(pause * 1.5, 1.0)

    async def begin(self, people: Collection[str]) -> list[str]:
        """Order compaction for those of `people` who became due since this was last asked; those with no database.

        For passes: at most a few requests for each of them, once.
        """
        due = await asyncio.to_thread(self._database.run, _due, people)
        new = [row.id for row in due if row.id not in self._clean or self._clean[row.id][0] != row.withdrawn_at]
        return (await self.round(new)).missing if new else []

    async def round(self, only: Collection[str] | None = None) -> Round:
        """See to everybody who is due (of `only` these ids), as far as it goes without waiting.

        Raises `Unavailable` or `Refused` for a CouchDB that cannot be asked.
        """
        found = Round()
        due = await asyncio.to_thread(self._database.run, _due, only)
        if not due:
            if only is None:
                self._ordered.clear()
                self._clean.clear()
            return found
        nodes = await couch_copies.membership(self._couch)
        problems: list[PassbookError] = []

        async def see(row: Due) -> None:
            try:
                unready = await self._unready(row, nodes)
            except DatabaseMissing:
                self._clean.pop(row.id, None)
                found.missing.append(row.id)
                return
            except PassbookError as error:
                problems.append(error)
                if len(problems) >= _MOST_PROBLEMS:
                    raise
                found.waiting += 1
                return
            if not unready and nodes.whole:
                if await asyncio.to_thread(self._database.run, _clear, row.id, row.withdrawn_at):
                    found.done += 1
                    self._clean.pop(row.id, None)
                else:
                    found.waiting += 1  # more was withdrawn meanwhile
                return
            found.waiting += bool(unready)
            found.outstanding += not unready
            missing = len(unready.union(nodes.away))
            if row.nodes_outstanding != missing:
                await asyncio.to_thread(self._database.run, _outstanding, row.id, missing)

        await each(_AT_ONCE, due, see)
        return found

    async def _unready(self, row: Due, nodes: Membership) -> set[str]:
        """The nodes that are there and may still have old bodies of one person; order what it takes."""
        if row.id not in self._clean or self._clean[row.id][0] != row.withdrawn_at:
            self._clean[row.id] = (row.withdrawn_at, set())
        clean = self._clean[row.id][1]
        if clean and clean.issuperset(nodes.there):
            return set()
        old = await asyncio.to_thread(self._database.run, superseded, row.id, _MOST_DOCUMENTS)
        unready = set()
        for copy in await couch_copies.copies(self._couch, row.database_name, nodes):
            if copy.node not in clean and not await self._gone_from(copy, old):
                unready.add(copy.node)
        clean.update(node for node in nodes.there if node not in unready)
        return unready

    async def _gone_from(self, copy: Copy, old: list[Superseded]) -> bool:
        stands = await couch_copies.progress(self._couch, copy)
        wanted = self._ordered.get(copy)
        if wanted is None:
            if not await self._has_tombstones(copy, old):
                # Its node was away: the others tell it in a while. Compacting before would keep what must go.
                return False
            wanted = self._ordered[copy] = stands.sequence
        # The second: a database that was lost meanwhile begins anew.
        if stands.compacted < min(wanted, stands.sequence):
            if not stands.compacting:
                await couch_copies.compact(self._couch, copy)
            return False
        self._ordered.pop(copy, None)
        found = await readable(self._couch, copy, old, _LOOKS)
        if found:
            log.warning("old bodies are there after compaction", node=copy.node, document=found[0].document)
        return not found

    async def _has_tombstones(self, copy: Copy, old: list[Superseded]) -> bool:
        """Whether every document of `old` has gone on in this copy as far as is on record."""
        there = await couch_copies.revisions(self._couch, copy, [one.document for one in old])
        return all(
            one.document in there and _generation(there[one.document]) >= _generation(one.revision) for one in old
        )


async def readable(couch: CouchClient, copy: Copy, old: list[Superseded], looks: int) -> list[Superseded]:
    """Those of at most `looks` of `old` whose body can still be read in a copy."""
    # The newest half of them, and the rest evenly from all others.
    newest, others = old[: looks // 2], old[looks // 2 :]
    step = max(1, -(-len(others) // max(1, looks - len(newest))))
    return [
        one for one in newest + others[::step] if await couch_copies.readable(couch, copy, one.document, one.old)
    ]


async def old_bodies(
    couch: CouchClient, database: ServiceDatabase, person_id: str, name: str, nodes: Membership
) -> list[tuple[str, str]]:
    """For `verify`: document and detail of what left a person's scope and can be read, or could not be looked at.

    Raises `DatabaseMissing`.
    """
    due, old = await asyncio.to_thread(database.run, _to_look_for, person_id)
    found = []
    if due:
        found = [("", f"old bodies may be on node {node}, which is away") for node in nodes.away]
    for copy in await couch_copies.copies(couch, name, nodes) if old else ():
        for one in await readable(couch, copy, old, VERIFY_LOOKS):
            found.append((one.document, f"revision {one.old} can still be read on node {copy.node}"))
    return found


def mark(connection: Connection, people: Collection[str]) -> None:
    """Note, in the transaction that records the tombstones, that these people's databases have bodies to lose."""
    if people:
        connection.execute(
            update(person)
            .where(person.c.id.in_(people))
            .values(compaction_due=True, withdrawn_at=func.clock_timestamp(), nodes_outstanding=None)
        )


def superseded(connection: Connection, person_id: str, most: int, *, withdrawn: bool = False) -> list[Superseded]:
    """What was written over in a person's database, tombstones first and the newest first; or tombstones alone."""
    documents = projected_document.c
    query = (
        select(documents.document_id, documents.revision, documents.ancestors[1].label("parent"))
        .where(documents.person_id == person_id, func.cardinality(documents.ancestors) > 0)
        .order_by(documents.deleted.desc(), documents.as_of.desc(), documents.document_id)
        .limit(most)
    )
    if withdrawn:
        # Where a manifest ended, as that of schema 1 did when it moved, nothing was withdrawn.
        query = query.where(documents.deleted, documents.document_id.not_in(MANIFESTS))
    return [
        Superseded(row.document_id, row.revision, f"{_generation(row.revision) - 1}-{row.parent}")
        for row in connection.execute(query)
    ]


def _to_look_for(connection: Connection, person_id: str) -> tuple[bool, list[Superseded]]:
    due = connection.execute(select(person.c.compaction_due).where(person.c.id == person_id)).scalar()
    return bool(due), superseded(connection, person_id, _MOST_DOCUMENTS, withdrawn=True)


def _due(connection: Connection, only: Collection[str] | None) -> list[Due]:
    query = select(person.c.id, person.c.database_name, person.c.withdrawn_at, person.c.nodes_outstanding).where(
        person.c.compaction_due, person.c.state != "deleting", person.c.database_ready_at.is_not(None)
    )
    if only is not None:
        query = query.where(person.c.id == any_(literal(list(only), ARRAY(Text))))
    return [Due(*row) for row in connection.execute(query.order_by(person.c.withdrawn_at))]


def _outstanding(connection: Connection, person_id: str, nodes: int) -> None:
    connection.execute(
        update(person)
        .where(person.c.id == person_id, person.c.nodes_outstanding.is_distinct_from(nodes))
        .values(nodes_outstanding=nodes)
    )


def _clear(connection: Connection, person_id: str, seen: datetime | None) -> bool:
    """Note that nothing is left of what was withdrawn up to `seen`; False if more was withdrawn since.

    The person's row first: a pass that carries out a change holds it while it asks whether anything is due.
    """
    cleared = connection.execute(
        update(person)
        .where(person.c.id == person_id, person.c.withdrawn_at.is_not_distinct_from(seen))
        .values(compaction_due=False, nodes_outstanding=None)
    )
    if not cleared.rowcount:
        return False
    connection.execute(
        update(scope_change)
        .where(
            scope_change.c.person_id == person_id,
            scope_change.c.carried_out_at.is_not(None),
            scope_change.c.done_at.is_(None),
        )
        .values(done_at=func.now())
    )
    return True


def _generation(revision: str) -> int:
    return int(revision.partition("-")[0])
