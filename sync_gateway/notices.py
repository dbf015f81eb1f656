"""What the service database tells: whose access changed, and whose database was written to.

Notices are a hurry-up, not the truth: one that was lost (the connection broke) shows as a gap, and whoever hears
of a gap asks the tables. A check of the connection notices one that died in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
import structlog

from passbook.database import database_url

log = structlog.get_logger()

#: Seconds without a notice after which the connection is tried out.
QUIET = 5.0
_AGAIN_AFTER = 0.5
_LONGEST_PAUSE = 10.0
_CONNECT_WITHIN = 5


@dataclass(frozen=True)
class Access:
    """Access of a device, a person, or (`kind` is `tenant`) everybody may have changed."""

    kind: str
    id: str


@dataclass(frozen=True)
class Written:
    """Documents were written to these people's databases."""

    people: tuple[str, ...]


@dataclass(frozen=True)
class Gap:
    """Notices may have been lost; from here on none is until the next gap."""


Notice = Access | Written | Gap


def address(service_url: str) -> str:
    """The service database's address as psycopg takes it."""
    return database_url(service_url).set(drivername="postgresql").render_as_string(hide_password=False)


async def notices(service_url: str) -> AsyncIterator[Notice]:
    """Everything that is told, for ever; the first is a `Gap`, and so is whatever follows a lost connection."""
    pause = _AGAIN_AFTER
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                address(service_url), autocommit=True, connect_timeout=_CONNECT_WITHIN
            ) as connection:
                await connection.execute("LISTEN passbook_access")
                await connection.execute("LISTEN passbook_written")
                pause = _AGAIN_AFTER
                yield Gap()
                while True:
                    async for told in connection.notifies(timeout=QUIET, stop_after=1000):
                        yield _notice(told)
                    # Nothing for a while: is there anybody?
                    async with asyncio.timeout(QUIET):
                        await connection.execute("SELECT 1")
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("notices_lost", error=type(error).__name__)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _notice(told: psycopg.Notify) -> Notice:
    if told.channel == "passbook_written":
        return Written(tuple(told.payload.split()))
    kind, _, row = told.payload.partition(" ")
    return Access(kind, row)
