"""The lock that a pass holds: one writer of documents at a time, over all workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import Connection, func, select

from passbook.servicedb.engine import ServiceDatabase

log = structlog.get_logger()

_KEY = 0x70617374


@asynccontextmanager
async def pass_lock(database: ServiceDatabase) -> AsyncIterator[None]:
    """Wait for the lock, and hold it. It ends with its session, so a killed process leaves none behind."""
    connection = await asyncio.to_thread(_take, database)
    try:
        yield
    finally:
        await asyncio.to_thread(_give_back, connection)


def _give_back(connection: Connection) -> None:
    # Told to unlock, since closing alone takes the server a moment to notice.
    connection.execute(select(func.pg_advisory_unlock(_KEY)))
    connection.close()


def _take(database: ServiceDatabase) -> Connection:
    with database.begin():
        pass  # an unreachable database is told as such
    connection = database.engine.connect()
    # Detached from the pool: closing it closes the session, and with it the lock.
    connection.detach()
    if not connection.execute(select(func.pg_try_advisory_lock(_KEY))).scalar():
        log.warning("another worker or a verification is at work; waiting for it")
        connection.execute(select(func.pg_advisory_lock(_KEY)))
    return connection
