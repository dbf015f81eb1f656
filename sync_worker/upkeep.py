"""What access to CouchDB rests on, looked at again and again: who each database lets in, and the gateway's key.

Both can be changed behind Passbook's back, by hand or with a container made anew. The worker has the rights to put
them right, so nobody has to run a command first.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from sqlalchemy import Connection, Row, select

from passbook import couch_access
from passbook.audit.chain import WORKER, record
from passbook.audit.events import DatabaseClosed
from passbook.couch import DatabaseMissing, lets_in_only
from passbook.credentials import principal
from passbook.errors import PassbookError
from passbook.servicedb.tables import person
from sync_worker.concurrency import each
from sync_worker.parts import Parts

log = structlog.get_logger()

#: Databases looked at in a row, and seconds between two rows: ten requests a second at most, whatever their number.
LOOKS = 50
_PAUSE_SECONDS = 5.0
#: Seconds that a look at all of them takes at the least.
_ROUND_SECONDS = 60.0
#: Seconds between two looks at the key, and before the first: `passbook init` has seen to it.
KEY_SECONDS = 30.0
_AT_ONCE = 4


class Upkeep:
    """Looks and repairs for as long as a worker runs. Any number of workers may do so."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        #: The person up to whom databases were looked at.
        self._after = ""

    async def run(self) -> None:
        """For ever; what goes wrong is logged and tried again."""
        await asyncio.gather(self._databases(), self._key())

    async def _databases(self) -> None:
        began = time.monotonic()
        while True:
            try:
                more = await self.look()
            except PassbookError as error:
                log.warning("databases are not looked at", problem=error.message)
                more = True
            except Exception:
                log.exception("databases are not looked at")
                more = True
            left = 0.0 if more else _ROUND_SECONDS - (time.monotonic() - began)
            await asyncio.sleep(max(_PAUSE_SECONDS, left))
            if not more:
                began = time.monotonic()

    async def _key(self) -> None:
        while True:
            await asyncio.sleep(KEY_SECONDS)
            try:
                await self.keep_key()
            except PassbookError as error:
                log.warning("the gateway's key is not looked at", problem=error.message)
            except Exception:
                log.exception("the gateway's key is not looked at")

    async def look(self) -> bool:
        """Look at the next databases, and close those that let in others than their person; whether more follow.

        Raises `Unavailable` or `Refused` for a CouchDB that cannot be asked; those are looked at again.
        """
        people = await asyncio.to_thread(self._parts.database.run, _next, self._after)
        await each(_AT_ONCE, people, self._see)
        more = len(people) == LOOKS
        self._after = people[-1].id if more else ""
        return more

    async def _see(self, row: Row[Any]) -> None:
        names = [principal(row.id)]
        couch = self._parts.couch
        try:
            if lets_in_only(await couch.security(row.database_name), names):
                return
            await couch.close_database(row.database_name, names)
        except DatabaseMissing:
            return  # the next pass that writes to it rebuilds it
        log.error("a database let in others than its person; it is closed again", person=row.id)
        await asyncio.to_thread(self._parts.database.run, _tell, row.id)

    async def keep_key(self) -> list[str]:
        """See to it that every node takes the gateway's tokens; what had to be done for it.

        The key is the one of PASSBOOK_COUCHDB_JWT_KEY, else the newest that Passbook put into CouchDB, on whichever
        node it still is, else a new one, which gateways with credentials take up by themselves.
        """
        settings = self._parts.settings
        done = await couch_access.keep(
            self._parts.couch.url, connect_seconds=settings.connect_seconds, key=settings.couchdb_jwt_key
        )
        if done:
            log.error("CouchDB did not take the gateway's tokens; it was put right", done=done)
        return done


def _next(connection: Connection, after: str) -> list[Row[Any]]:
    query = select(person.c.id, person.c.database_name).where(
        person.c.id > after, person.c.database_ready_at.is_not(None), person.c.state != "deleting"
    )
    return list(connection.execute(query.order_by(person.c.id).limit(LOOKS)))


def _tell(connection: Connection, person_id: str) -> None:
    record(connection, WORKER, DatabaseClosed(person=person_id))
