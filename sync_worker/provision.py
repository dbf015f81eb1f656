"""People's databases: made before anything is written, erased when their person goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import func, update

from passbook.couch import CouchClient
from passbook.credentials import principal
from passbook.erasure import erase
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person
from sync_worker.scopes import Holder, Leaver

#: Databases made between two commits: what a crash costs is repeating so many idempotent requests.
_CHUNK = 200


async def make_databases(couch: CouchClient, database: ServiceDatabase, holders: Sequence[Holder]) -> int:
    """Create the databases of those who have none yet, `_security` included; how many were made.

    `database_ready_at` is set only after both, and the gateway serves nobody before it is set.
    """
    missing = [holder for holder in holders if not holder.ready]
    for start in range(0, len(missing), _CHUNK):
        chunk = missing[start : start + _CHUNK]
        await asyncio.gather(*(couch.create_database(one.database, [principal(one.id)]) for one in chunk))
        await asyncio.to_thread(_mark_ready, database, [one.id for one in chunk])
    return len(missing)


def _mark_ready(database: ServiceDatabase, people: Sequence[str]) -> None:
    with database.begin() as connection:
        connection.execute(update(person).where(person.c.id.in_(people)).values(database_ready_at=func.now()))


async def erase_leavers(couch: CouchClient, database: ServiceDatabase, leavers: Sequence[Leaver]) -> None:
    """Finish deletions that somebody began and did not live to finish."""
    for leaver in leavers:
        await erase(couch, database, leaver.id, leaver.database)
