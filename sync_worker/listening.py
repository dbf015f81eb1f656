"""Hearing of changes of scope the moment they are committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import structlog

from passbook.servicedb.engine import ServiceDatabase

log = structlog.get_logger()

_RECONNECT_SECONDS = 1.0
#: A connection on which nothing ever comes looks alive long after its other end is gone, unless TCP asks.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}


async def listen(database: ServiceDatabase, heard: Callable[[], object]) -> None:
    """Call `heard` for every change of scope and every begun deletion, and whenever one may have been missed.

    That is the case after each connecting. Never ends: a connection that is lost is made anew, for as long as it
    takes.
    """
    told = False

    def connected() -> None:
        nonlocal told
        told = False
        heard()

    while True:
        try:
            await _listen(database, connected, heard)
        except Exception as error:
            # Whatever it was: a worker that does not hear still finds out with its next full pass.
            if not told:
                log.warning("changes of scope are not heard of until reconnected", error=type(error).__name__)
            told = True
        await asyncio.sleep(_RECONNECT_SECONDS)


async def _listen(database: ServiceDatabase, connected: Callable[[], object], heard: Callable[[], object]) -> None:
    _, parameters = database.engine.dialect.create_connect_args(database.url)
    wanted: dict[str, Any] = {"connect_timeout": 5, **_KEEPALIVE, **parameters}
    async with await psycopg.AsyncConnection.connect(**wanted, autocommit=True) as connection:
        # What the triggers of the service database notify; the payload is a person's id.
        await connection.execute("LISTEN passbook_scope")
        connected()
        async for _ in connection.notifies():
            heard()
