"""What the service database tells: whose access changed, and whose database was written to.

Notices are a hurry-up, not the truth: one that was lost (the connection broke) shows as a gap, and whoever hears
of a gap asks the tables. A connection that dies in silence is found out within a few seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import psycopg

from passbook.database import database_url
from sync_gateway.outages import Outage

#: Seconds between two trials of the connection, and those the answer may take.
QUIET = 1.0
ANSWER_WITHIN = 2.0
_AGAIN_AFTER = 0.25
_LONGEST_PAUSE = 2.0
_CONNECT_WITHIN = 5


@dataclass(frozen=True)
class Access:
    """Access of a device, a person, or (`kind` is `tenant`) everybody may have changed."""

    kind: str
    id: str


@dataclass(frozen=True)
class Written:
    """Documents were written to these people's databases, by the transaction of this time."""

    at: datetime
    people: tuple[str, ...]


@dataclass(frozen=True)
class Lost:
    """Nothing is heard from here on: notices may have been lost already."""


@dataclass(frozen=True)
class Gap:
    """Notices may have been lost; from here on none is until the next `Lost`."""


Notice = Access | Written | Lost | Gap


def address(service_url: str) -> str:
    """The service database's address as psycopg takes it."""
    return database_url(service_url).set(drivername="postgresql").render_as_string(hide_password=False)


async def notices(service_url: str, outage: Outage) -> AsyncIterator[Notice]:
    """Everything that is told, for ever; the first is a `Gap`, and so is whatever follows a `Lost`.

    `outage` is told how the database answers.
    """
    pause = _AGAIN_AFTER
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                address(service_url), autocommit=True, connect_timeout=_CONNECT_WITHIN
            ) as connection:
                await connection.execute("LISTEN passbook_access")
                await connection.execute("LISTEN passbook_written")
                pause = _AGAIN_AFTER
                outage.answered()
                yield Gap()
                while True:
                    async for told in connection.notifies(timeout=QUIET, stop_after=1000):
                        yield _notice(told)
                    await _try_out(connection)
        except (psycopg.Error, OSError) as error:
            outage.failed(error)
            yield Lost()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


async def _try_out(connection: psycopg.AsyncConnection) -> None:
    """Is there anybody? Raises `TimeoutError` (an `OSError`) if not."""
    asking = asyncio.create_task(connection.execute("SELECT 1"))
    try:
        done, _ = await asyncio.wait({asking}, timeout=ANSWER_WITHIN)
        if not done:
            raise TimeoutError
        asking.result()
    finally:
        # Told once, psycopg asks the server to stop, which takes as long as the server is silent; told twice, it
        # gives up.
        while not asking.done():
            asking.cancel()
            await asyncio.wait({asking}, timeout=0.1)


def _notice(told: psycopg.Notify) -> Notice:
    first, _, rest = told.payload.partition(" ")
    if told.channel == "passbook_access":
        return Access(first, rest)
    try:
        return Written(datetime.fromisoformat(first), tuple(rest.split()))
    except ValueError:
        return Gap()  # whatever that was to say: the tables know
