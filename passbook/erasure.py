"""The end of a person: their database first, then their row with everything that refers to it."""

from __future__ import annotations

from sqlalchemy import delete

from passbook.audit.chain import WORKER, Actor, record
from passbook.audit.events import PersonErased
from passbook.couch import CouchClient
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person


async def erase(
    couch: CouchClient, database: ServiceDatabase, person_id: str, database_name: str, *, by: Actor = WORKER
) -> None:
    """Finish the deletion of a person whose state is `deleting`. Can be repeated after a crash at any point.

    The row goes last: as long as it stands, somebody knows which database is still to be deleted.
    """
    await couch.delete_database(database_name)
    with database.begin() as connection:
        gone = connection.execute(delete(person).where(person.c.id == person_id, person.c.state == "deleting"))
        if gone.rowcount:
            record(connection, by, PersonErased(person=person_id))
