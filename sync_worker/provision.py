"""People's databases: made before anything is written, erased when their person goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, update

from passbook.couch import CouchClient
from passbook.credentials import principal
from passbook.erasure import erase
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person
from sync_worker.concurrency import each
from sync_worker.scopes import Holder, Leaver

#: Databases made between two commits: what a crash costs is repeating so many idempotent requests.
_CHUNK = 200
_LOOKS_AT_ONCE = 4


async def make_databases(couch: CouchClient, database: ServiceDatabase, holders: Sequence[Holder]) -> int:
    """Create the databases of those who have none yet, `_security` included; how many were made.

    `database_ready_at` is set only after both, and the gateway serves nobody before it is set.
    """
    missing = [holder for holder in holders if not holder.ready]
    for start in range(0, len(missing), _CHUNK):
        chunk = missing[start : start + _CHUNK]
        await asyncio.gather(*(couch.create_database(one.database, [principal(one.id)]) for one in chunk))
        ready = await asyncio.to_thread(database.run, _mark_ready, [one.id for one in chunk])
        for one in chunk:
            if one.id not in ready:
                await couch.delete_database(one.database)
    return len(missing)


async def missing(couch: CouchClient, holders: Iterable[Holder]) -> list[str]:
    """Those of the people whose database is not there. One request, unless some are."""
    there = set(await couch.databases())
    doubtful = [holder for holder in holders if holder.database not in there]

    async def look(holder: Holder) -> str | None:
        return None if await couch.database_exists(holder.database) else holder.id

    return sorted(filter(None, await each(_LOOKS_AT_ONCE, doubtful, look)))


async def make_again(couch: CouchClient, database: ServiceDatabase, holder: Holder) -> bool:
    """Create a database that was lost. False if its person is being erased: then there must be none."""
    await couch.create_database(holder.database, [principal(holder.id)])
    if await asyncio.to_thread(database.run, _mark_ready, [holder.id]):
        return True
    await couch.delete_database(holder.database)
    return False


def _mark_ready(connection: Connection, people: Sequence[str]) -> set[str]:
    """Note that the databases of `people` exist; those of them who are still to have one.

    Asked *after* the database was made: whoever erases a person changes the state first and deletes the database
    then, so either we see the new state here, or they delete what we made.
    """
    marked = connection.execute(
        update(person)
        .where(person.c.id.in_(people), person.c.state != "deleting")
        .values(database_ready_at=func.now())
        .returning(person.c.id)
    )
    return set(marked.scalars())


async def erase_leavers(couch: CouchClient, database: ServiceDatabase, leavers: Sequence[Leaver]) -> None:
    """Finish deletions that somebody began and did not live to finish."""
    for leaver in leavers:
        await erase(couch, database, leaver.id, leaver.database)
