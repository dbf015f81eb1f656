"""When devices last synchronised, written down once a minute for all of them in one statement.

A device that only listens is there with each heartbeat it takes. That is noted in memory, and costs the database
one row a minute, however often its heart beats and however many requests it sends.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from sqlalchemy import Float, Text, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from passbook.errors import OlderDatabase
from sync_gateway.credentials import ANSWER_WITHIN
from sync_gateway.outages import Outage
from sync_gateway.periodic import written

EVERY = 60.0  # seconds between two writings
_AT_ONCE = 5_000
_WAITING = 100_000


def _noting() -> TextClause:
    """The statement. A device that another gateway writes at this moment is skipped: it was seen there, too."""
    return text(
        """
        WITH seen AS (
            SELECT device.id, sighting.age FROM device
            JOIN unnest(:devices, :ages) AS sighting (id, age) ON sighting.id = device.id
            WHERE device.revoked_at IS NULL AND device.expires_at > now()
            FOR NO KEY UPDATE OF device SKIP LOCKED
        )
        UPDATE device SET
            last_synchronised_at = greatest(device.last_synchronised_at, now() - make_interval(secs => seen.age)),
            expires_at = greatest(device.expires_at, least(now() + :days, device.ends_at))
        FROM seen WHERE device.id = seen.id
        """
    ).bindparams(bindparam("devices", type_=ARRAY(Text)), bindparam("ages", type_=ARRAY(Float)))


class Sightings:
    """The devices that were seen since the last writing. Belongs to one event loop."""

    def __init__(self, engine: AsyncEngine, outage: Outage, *, device_days: int = 90) -> None:
        self._engine = engine
        self._outage = outage
        self._days = timedelta(days=device_days)
        self._seen: dict[str, float] = {}

    def note(self, device_id: str) -> None:
        """The device synchronises now. Costs nothing."""
        if device_id in self._seen or len(self._seen) < _WAITING:
            self._seen[device_id] = time.monotonic()

    async def write(self, within: float = ANSWER_WITHIN) -> None:
        """Write down what came since the last time; what cannot be written now is next time."""
        noted, self._seen = self._seen, {}
        names = sorted(noted)
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            now = time.monotonic()
            values = {"devices": some, "ages": [now - noted[name] for name in some], "days": self._days}
            try:
                async with asyncio.timeout(within), self._engine.begin() as connection:
                    await connection.execute(_noting(), values)
            except (SQLAlchemyError, OSError, OlderDatabase) as error:
                self._outage.failed(error)
                self._seen = {name: noted[name] for name in names[start:]} | self._seen
                return

    def writing(self, every: float = EVERY) -> AbstractAsyncContextManager[None]:
        """Write them down now and then until this ends, and once more then."""
        return written(self.write, every)
