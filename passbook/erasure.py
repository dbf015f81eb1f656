"""The end of a person: their database first, on every node, then their row with everything that refers to it."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import delete

from passbook import couch_copies
from passbook.audit.chain import WORKER, Actor, record
from passbook.audit.events import PersonErased
from passbook.couch import CouchClient
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person

log = structlog.get_logger()

#: A cluster answers before every node has deleted its file: so often it is looked again.
_LOOKS = 5
_PAUSE_SECONDS = 0.2


async def erase(
    couch: CouchClient, database: ServiceDatabase, person_id: str, database_name: str, *, by: Actor = WORKER
) -> bool:
    """Finish the deletion of a person whose state is `deleting`. Can be repeated after a crash at any point.

    False as long as a node of CouchDB is away, or still has a file of theirs: then the worker goes on later. The
    row goes last: as long as it stands, somebody knows which database is still to be deleted.
    """
    await couch.delete_database(database_name)
    if not await _gone_everywhere(couch, database_name):
        return False
    with database.begin() as connection:
        gone = connection.execute(delete(person).where(person.c.id == person_id, person.c.state == "deleting"))
        if gone.rowcount:
            record(connection, by, PersonErased(person=person_id))
    return True


async def _gone_everywhere(couch: CouchClient, name: str) -> bool:
    """Delete what nodes that were away kept of the database; whether no node has anything, as seen at one look."""
    nodes = await couch_copies.membership(couch)
    if nodes.away:
        log.warning("erasure waits for nodes of CouchDB", nodes=list(nodes.away))
        return False
    if len(nodes.there) == 1:
        return True  # a server by itself: what it deletes is gone
    for _ in range(_LOOKS):
        left = (await couch_copies.leftovers(couch, [name], nodes)).get(name, [])
        if not left:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
        for copy in left:
            await couch_copies.delete(couch, copy)
            log.warning("a node had kept the database of somebody erased", node=copy.node)
    return not left
