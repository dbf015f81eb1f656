"""Comparing the service database with its witness, and keeping the witness up to date.

Whoever has CouchDB's administrator and runs for long does so: the worker, and the administrators' side of the auth
service. What took something away is in the witness within a second or so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy import Connection, select

from passbook.audit.chain import Head
from passbook.couch import CouchClient
from passbook.errors import OlderDatabase, PassbookError, Unavailable, WitnessLost
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import audit_event
from passbook.witness import entries, note
from passbook.witness.entries import AT_ONCE, Entry
from passbook.witness.store import Store

#: Seconds between two looks at the log.
LOOK_EVERY = 1.0
#: Seconds between two comparisons, each of which is noted in the service database.
COMPARE_EVERY = 60.0
#: Seconds after which the newest row is noted though none that the witness keeps was added.
_HEAD_EVERY = 30.0

log = structlog.get_logger()


class Keeper:
    """Keeps the witness of one service database."""

    def __init__(self, database: ServiceDatabase, couch: CouchClient) -> None:
        self._database = database
        self._couch = couch
        #: Up to where the witness has been written, once that is known.
        self._kept: Head | None = None
        self._head_at = float("-inf")
        self._compared_at = float("-inf")

    async def store(self) -> Store | None:
        """The witness of this database's log; None while the log is empty."""
        first = await asyncio.to_thread(self._database.run, _hash_of, 1)
        return Store(self._couch, first) if first is not None else None

    async def compare(self) -> None:
        """See that the database has what the witness has, note it, and write on.

        Raises `OlderDatabase`, after access was switched off, and `WitnessLost`; and what the servers raise.
        """
        before = await asyncio.to_thread(self._database.run, note.read)
        if before.lacks is not None:
            before.check()
        store = await self.store()
        if store is None:
            if before.anchor is not None:
                await self._older(before.anchor)
            await asyncio.to_thread(self._database.run, note.write, None)
            self._compared_at = time.monotonic()
            return
        head = await store.head()
        if head is None and before.anchor is not None:
            if await store.lost():
                raise WitnessLost
            raise Unavailable("A node of CouchDB has no witness yet that others have.")
        if head is not None and await asyncio.to_thread(self._database.run, _hash_of, head.id) != head.hash:
            await self._older(head)
        await self._write_on(store, head)
        await asyncio.to_thread(self._database.run, note.write, self._kept)
        self._compared_at = time.monotonic()

    async def keep(self) -> None:
        """Write on if there is something to write; compare now and then. Raises as `compare`."""
        if time.monotonic() - self._compared_at >= COMPARE_EVERY:
            await self.compare()
            return
        head = await asyncio.to_thread(self._database.look)
        if head is None or head == self._kept:
            return
        if self._kept is None:
            await self.compare()
            return
        some = await asyncio.to_thread(self._database.run, entries.after, self._kept.id, head.id)
        if some or time.monotonic() - self._head_at >= _HEAD_EVERY:
            store = await self.store()
            if store is not None:
                await self._write_on(store, self._kept)

    async def run(self, refused: Callable[[PassbookError], None]) -> None:
        """Keep the witness until cancelled.

        When the database turns out to be older, or the witness to be lost, `refused` is told, and this ends.
        """
        told = False
        while True:
            try:
                await self.keep()
                told = False
            except OlderDatabase as error:
                await self._note_memory()
                refused(error)
                return
            except WitnessLost as error:
                refused(error)
                return
            except Exception as error:
                # It comes again; CouchDB or the service database may be away for a while.
                if not told:
                    log.warning("witness not written", problem=getattr(error, "message", type(error).__name__))
                told = True
            await asyncio.sleep(LOOK_EVERY)

    async def renew(self, store: Store, *, after: int = 0) -> None:
        """Take this database's log, from the row `after` on, for the true one: into the witness with it."""
        await store.make()
        await self._write_on(store, Head(after, ""))
        await asyncio.to_thread(self._database.run, note.write, self._kept)

    async def _write_on(self, store: Store, kept: Head | None) -> None:
        """Write what the log has after `kept`; the newest row last, so that it never tells of what is not there."""
        if kept is None:
            await store.make()
        until = await asyncio.to_thread(self._database.look)
        if until is None:
            return
        row = kept.id if kept else 0
        while True:
            some: list[Entry] = await asyncio.to_thread(self._database.run, entries.after, row, until.id)
            if some:
                await store.add(some)
                row = some[-1].row
            if len(some) < AT_ONCE:
                break
        await store.put_head(until)
        self._kept, self._head_at = until, time.monotonic()

    async def _older(self, lacks: Head) -> None:
        await asyncio.to_thread(self._database.run, note.write_older, lacks)
        raise OlderDatabase(f"The service database lacks row {lacks.id} of the audit log, which its witness has.")

    async def _note_memory(self) -> None:
        """Note in a database that was put in the place of ours what it lacks: others start on it, too."""
        head = self._database.memory.head
        if head is None:
            return
        other = ServiceDatabase(self._database.url.render_as_string(hide_password=False), connections=1)
        try:
            if await asyncio.to_thread(other.run, _hash_of, head.id) != head.hash:
                await asyncio.to_thread(other.run, note.write_older, head)
        except PassbookError as error:
            log.warning("older database not noted", problem=error.message)
        finally:
            other.dispose()


@asynccontextmanager
async def keeping(database: ServiceDatabase, couch: CouchClient, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Keep the witness meanwhile. If that comes to a bad end, sets `stopping`, and raises why once this is left."""
    async with _until_refused(Keeper(database, couch).run, stopping):
        yield


@asynccontextmanager
async def looking(database: ServiceDatabase, stopping: asyncio.Event) -> AsyncIterator[None]:
    """As `keeping`, for who has no CouchDB: look now and then whether the database is still the one it was."""

    async def look(refused: Callable[[PassbookError], None]) -> None:
        while True:
            try:
                await asyncio.to_thread(database.look)
            except OlderDatabase as error:
                refused(error)
                return
            except Exception as error:
                log.debug("not looked", problem=type(error).__name__)  # requests tell of it
            await asyncio.sleep(LOOK_EVERY)

    async with _until_refused(look, stopping):
        yield


@asynccontextmanager
async def _until_refused(
    work: Callable[[Callable[[PassbookError], None]], Coroutine[Any, Any, None]], stopping: asyncio.Event
) -> AsyncIterator[None]:
    refusals: list[PassbookError] = []

    def refused(error: PassbookError) -> None:
        log.error("stopping", problem=error.message, remedy=error.remedy)
        refusals.append(error)
        stopping.set()

    task = asyncio.create_task(work(refused))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if refusals:
        raise refusals[0]


async def compare(database: ServiceDatabase, couchdb_url: str, *, connect_seconds: float) -> None:
    """Compare once. Raises as `Keeper.compare`."""
    async with CouchClient(couchdb_url, connections=1, connect_seconds=connect_seconds) as couch:
        await Keeper(database, couch).compare()


async def require(database: ServiceDatabase, couchdb_url: str, *, connect_seconds: float) -> None:
    """Let a process start, or raise `OlderDatabase`, `WitnessLost`, `NotWitnessed`.

    Goes by a note that is young; without one compares, if `couchdb_url` has credentials and the note may be
    written, or waits for who can.
    """
    found = await asyncio.to_thread(database.run, note.read)
    if found.lacks is None and found.here and found.young:
        return
    if "@" in couchdb_url and await asyncio.to_thread(database.run, note.may_be_written):
        try:
            await compare(database, couchdb_url, connect_seconds=connect_seconds)
        except (OlderDatabase, WitnessLost):
            raise
        except Unavailable as error:
            log.warning("the service database was not compared with its witness", problem=error.message)
        else:
            return
    await asyncio.to_thread(note.wait_for_comparison, database)


def _hash_of(connection: Connection, row: int) -> str | None:
    """The hash of a row of the audit log, hexadecimal; None if there is no such row."""
    found = connection.execute(select(audit_event.c.hash).where(audit_event.c.id == row)).scalar()
    return bytes(found).hex() if found is not None else None
