"""Writes that too few nodes of CouchDB took: looked at again once the cluster is whole, until every node agrees.

CouchDB answers 202 instead of 201 when fewer nodes than a quorum have a write. If those then go and others come,
what is written next may follow an older revision; and when all are back, CouchDB chooses between the two by chance.
Who was written to like that is marked, in the transaction that records the writes. When every node is there and
answers, each copy is compared with what is on record; what differs is put right as `passbook verify --repair` does
it, and the mark goes once nothing differs on any node. Nothing but the mark is kept: a crash repeats a look.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row, select, update

from passbook import couch_copies
from passbook.couch import DatabaseMissing
from passbook.couch_copies import Copy, Membership
from passbook.errors import PassbookError
from passbook.servicedb.tables import person
from sync_worker import state
from sync_worker.concurrency import each
from sync_worker.parts import Parts
from sync_worker.state import Copies
from sync_worker.verifying import Verifier

log = structlog.get_logger()

#: Seconds between two looks whether anybody is marked.
LOOK_EVERY = 10.0
#: Seconds after which a person whose copies differ is seen to again: the first time, and at the longest.
_AGAIN = 2.0
_AGAIN_AT_MOST = 300.0
#: People whose copies are compared at the same time: passes need CouchDB as well.
_AT_ONCE = 4
_PAGE = 500


class Doubts:
    """Sees to it that nodes agree. Any number of workers may do so."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        #: When people whose copies differ are seen to again, and the pause before that.
        self._again: dict[str, tuple[float, float]] = {}

    async def run(self, passing: asyncio.Lock) -> None:
        """For ever; `passing` is held while something is put right, as by a pass."""
        while True:
            pause = LOOK_EVERY
            try:
                for person_id in await self.look():
                    async with passing:
                        await self.put_right(person_id)
                    pause = _AGAIN
            except PassbookError as error:
                log.warning("nodes of CouchDB are not compared", problem=error.message)
            except Exception:
                # A defect must not end the worker, and the marks stay.
                log.exception("nodes of CouchDB are not compared")
            await asyncio.sleep(pause)

    async def settle(self, within: float) -> int:
        """Look and put right until nothing differs, a node is away or `within` seconds are over; who is left."""
        end = time.monotonic() + within
        while differing := await self.look(every=True):
            for person_id in differing:
                await self.put_right(person_id)
            if time.monotonic() > end:
                break
            await asyncio.sleep(_AGAIN / 4)
        return len(await asyncio.to_thread(self._parts.database.run, _marked))

    async def look(self, *, every: bool = False) -> list[str]:
        """Compare the copies of who is marked, take the mark from those whose copies agree; whose differ.

        Nobody's while a node is away. Without `every`, only those whose time has come. Raises `Unavailable`.
        """
        marked = await asyncio.to_thread(self._parts.database.run, _marked)
        if not marked:
            self._again.clear()
            return []
        nodes = await couch_copies.membership(self._parts.couch)
        if not nodes.whole or nodes.strangers:
            return []
        now = time.monotonic()
        due = [row for row in marked if every or self._again.get(row.id, (0.0, 0.0))[0] <= now]
        differing: list[str] = []

        async def see(row: Row[Any]) -> None:
            try:
                agree = await self._agree(row, nodes)
            except DatabaseMissing:
                return  # the next pass that writes to it rebuilds it
            if agree:
                await asyncio.to_thread(self._parts.database.run, _clear, row.id, row.doubtful_at)
                self._again.pop(row.id, None)
            else:
                differing.append(row.id)

        await each(_AT_ONCE, due, see)
        return sorted(differing)

    async def put_right(self, person_id: str) -> None:
        """Repair what can be seen to differ. Raises `Unavailable` or `Refused`."""
        found = await Verifier(self._parts).put_right(person_id)
        if found:
            kinds = sorted({finding.kind for finding in found})
            log.warning("nodes of CouchDB differed", person=person_id, documents=len(found), kinds=kinds)
        pause = min(2 * self._again.get(person_id, (0.0, _AGAIN / 2))[1], _AGAIN_AT_MOST)
        self._again[person_id] = (time.monotonic() + pause, pause)

    async def _agree(self, row: Row[Any], nodes: Membership) -> bool:
        """Whether every copy has what is on record, and nothing else."""
        known = await asyncio.to_thread(self._parts.database.run, state.of_person, row.id)
        copies = await couch_copies.copies(self._parts.couch, row.database_name, nodes)
        for copy in copies:
            if not await self._as_recorded(copy, known):
                return False
        return True

    async def _as_recorded(self, copy: Copy, known: Copies) -> bool:
        wanted = {key: one.revision for key, one in known.items() if not one.deleted}
        found: dict[str, str | None] = {}
        after: str | None = None
        while True:
            page = await self._parts.couch.all_leaves(copy.path.lstrip("/"), after, _PAGE)
            for leaf in page:
                if (leaf.body or {}).get("_conflicts"):
                    return False
                found[leaf.id] = leaf.revision
            if len(page) < _PAGE:
                return found == wanted
            after = page[-1].id


def _marked(connection: Connection) -> list[Row[Any]]:
    query = select(person.c.id, person.c.database_name, person.c.doubtful_at).where(
        person.c.doubtful_at.is_not(None), person.c.state != "deleting", person.c.database_ready_at.is_not(None)
    )
    return list(connection.execute(query.order_by(person.c.doubtful_at)))


def _clear(connection: Connection, person_id: str, seen: datetime) -> None:
    """Take the mark away, unless another write was doubtful since."""
    connection.execute(
        update(person).where(person.c.id == person_id, person.c.doubtful_at == seen).values(doubtful_at=None)
    )
