"""Where devices keep how far they have come: `_local` documents, few for each device.

Each checkpoint is written down once, when it is new, in the service database; after that this process knows it,
and a `PUT` costs the database nothing. When a device has too many, its oldest are forgotten and their documents
removed. A device that comes with a checkpoint that was forgotten starts at the beginning, and fetches nothing that
it has.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from passbook.servicedb.tables import device, device_checkpoint
from sync_gateway.answers import Problem, unavailable
from sync_gateway.credentials import ANSWER_WITHIN, Principal, service_engine
from sync_gateway.outages import Outage
from sync_gateway.periodic import written

LONGEST_POSITION = 1_000  # characters; CouchDB's sequences have some hundred
POSITIONS_EVERY = 60.0  # seconds between two writings of positions
_CONNECTIONS = 5
_DEVICES_KNOWN = 20_000
_POSITIONS_WAITING = 50_000

log = structlog.get_logger()
#: Removes the `_local` documents of these checkpoints from a person's database.
Remove = Callable[[Principal, str], Awaitable[None]]


class Checkpoints:
    """The checkpoints of all devices, `most` for each."""

    def __init__(self, engine: AsyncEngine, *, most: int = 20) -> None:
        self._engine = engine
        self._most = most
        #: The checkpoints of a device that are written down, for those who came lately.
        self._known: OrderedDict[str, set[str]] = OrderedDict()
        #: Let through while the service database was away.
        self._unwritten: OrderedDict[str, set[str]] = OrderedDict()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._positions: dict[str, str] = {}
        #: Told what comes of asking; a gateway's parts share one.
        self.outage = Outage("service_database_unavailable", engine.url)

    @classmethod
    def at(cls, service_url: str, *, most: int = 20) -> Checkpoints:
        """For the service database with this address."""
        return cls(service_engine(service_url, _CONNECTIONS), most=most)

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def admitted(self, principal: Principal, checkpoint: str, remove: Remove) -> AsyncIterator[None]:
        """For as long as the device writes this checkpoint. Raises `Problem` (503) if it cannot be counted.

        One at a time for each device, or one could be written while it is being forgotten, and stay for good.
        """
        async with self._turns.setdefault(principal.device_id, asyncio.Lock()):
            if checkpoint not in self._known.get(principal.device_id, ()):
                for forgotten in await self._written_down(principal, checkpoint):
                    await _removed(principal, forgotten, remove)
            yield

    async def _written_down(self, principal: Principal, checkpoint: str) -> set[str]:
        """Write a checkpoint down; those that are forgotten for it."""
        name = principal.device_id
        try:
            async with asyncio.timeout(ANSWER_WITHIN), self._engine.begin() as connection:
                kept, forgotten = await _record(connection, principal, checkpoint, self._most)
        except (SQLAlchemyError, OSError) as error:
            self.outage.failed(error)
            let_through = self._unwritten.setdefault(name, set())
            let_through.add(checkpoint)
            _bound(self._unwritten, name)
            if len(let_through) > self._most:
                let_through.discard(checkpoint)
                raise unavailable() from None
            return set()
        # What another gateway forgot meanwhile may have been written here once more.
        forgotten |= self._known.get(name, set()) | self._unwritten.pop(name, set())
        self._known[name] = kept
        _bound(self._known, name)
        return forgotten - kept

    def position(self, device_id: str, last_seq: Any) -> str | None:
        """Note up to where the device has its database: the position as text, None if it is none."""
        if not isinstance(last_seq, str | int) or isinstance(last_seq, bool):
            return None
        text = str(last_seq)
        if len(text) > LONGEST_POSITION or "\0" in text:
            return None
        if device_id in self._positions or len(self._positions) < _POSITIONS_WAITING:
            self._positions[device_id] = text
        return text

    async def write_positions(self, within: float = ANSWER_WITHIN) -> None:
        """Write down what came since the last time: one statement for all devices."""
        noted, self._positions = self._positions, {}
        if not noted:
            return
        statement = (
            update(device)
            .where(device.c.id == bindparam("which"), device.c.revoked_at.is_(None))
            .values(position=bindparam("where"))
        )
        try:
            async with asyncio.timeout(within), self._engine.begin() as connection:
                # Always in the same order, so that two gateways never wait for each other.
                rows = [{"which": name, "where": where} for name, where in sorted(noted.items())]
                await connection.execute(statement, rows)
        except (SQLAlchemyError, OSError) as error:
            self.outage.failed(error)

    def writing_positions(self, every: float = POSITIONS_EVERY) -> AbstractAsyncContextManager[None]:
        """Write them down now and then until this ends, and once more then."""
        return written(self.write_positions, every)


def _bound(known: OrderedDict[str, set[str]], name: str) -> None:
    known.move_to_end(name)
    if len(known) > _DEVICES_KNOWN:
        known.popitem(last=False)


async def _record(
    connection: AsyncConnection, principal: Principal, checkpoint: str, most: int
) -> tuple[set[str], set[str]]:
    """Write a checkpoint down. Which the device has then, and whose documents are to go."""
    table = device_checkpoint
    own = select(table.c.checkpoint).where(table.c.device_id == principal.device_id)
    kept = {row[0] for row in await connection.execute(own)}
    if checkpoint in kept and len(kept) <= most:
        return kept, set()  # after a restart all come so, and nothing is to be written
    # The row of the device is the lock: two gateways must not count at the same time.
    lock = select(device.c.id).where(device.c.id == principal.device_id).with_for_update(key_share=True)
    await connection.execute(lock)
    new = insert(table).values(device_id=principal.device_id, checkpoint=checkpoint)
    await connection.execute(new.on_conflict_do_nothing())
    youngest = own.order_by((table.c.checkpoint == checkpoint).desc(), table.c.created_at.desc()).limit(most)
    kept = {row[0] for row in await connection.execute(youngest)}
    # With them go those of the person's devices that never come again.
    gone = select(device.c.id).where(
        device.c.person_id == principal.person_id,
        device.c.revoked_at.is_not(None) | (device.c.expires_at <= func.now()),
    )
    mine = (table.c.device_id == principal.device_id) & table.c.checkpoint.not_in(kept)
    dropped = delete(table).where(mine | table.c.device_id.in_(gone)).returning(table.c.checkpoint)
    forgotten = {row[0] for row in await connection.execute(dropped)}
    # One that another device of the person uses too stays, for that one.
    theirs = (
        select(table.c.checkpoint)
        .join(device, device.c.id == table.c.device_id)
        .where(device.c.person_id == principal.person_id, table.c.checkpoint.in_(forgotten))
    )
    if forgotten:
        forgotten -= {row[0] for row in await connection.execute(theirs)}
    return kept, forgotten


async def _removed(principal: Principal, checkpoint: str, remove: Remove) -> None:
    """Remove one document as well as may be: one that stays is a few kilobytes."""
    try:
        await remove(principal, checkpoint)
    except Problem as problem:
        if problem.status != 404:
            log.warning("checkpoint_not_removed", status=problem.status)
