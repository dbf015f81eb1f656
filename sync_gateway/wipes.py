"""Orders to throw a copy away: handed to the revoked device that comes, and its receipt taken."""

from __future__ import annotations

import hmac

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from passbook.audit.chain import PENDING, Actor, Pending, record
from passbook.audit.events import WipeConfirmed
from passbook.credentials import same_secret
from passbook.servicedb.tables import device, wipe_order

#: The secret of a device, if it was ever told to wipe: one read, before anything of a receipt is taken.
ORDERED = (
    select(device.c.secret_digest)
    .join(wipe_order, wipe_order.c.device_id == device.c.id)
    .where(device.c.id == bindparam("device"))
)


async def waiting(engine: AsyncEngine, device_id: str) -> str | None:
    """The signed order for a device, if one waits; from the first time on it counts as delivered."""
    async with engine.connect() as connection:
        row = (
            await connection.execute(
                select(wipe_order.c.statement, wipe_order.c.delivered_at).where(
                    wipe_order.c.device_id == device_id, wipe_order.c.received_at.is_(None)
                )
            )
        ).one_or_none()
        if row is None:
            return None
        if row.delivered_at is None:
            await connection.execute(
                update(wipe_order)
                .where(wipe_order.c.device_id == device_id, wipe_order.c.delivered_at.is_(None))
                .values(delivered_at=func.now())
            )
        return str(row.statement)


async def confirm(engine: AsyncEngine, device_id: str, secret: bytes, nonce: str) -> bool:
    """Take a device's receipt for the order with this nonce; False unless it is that device and that order.

    A receipt that comes again is one that got lost on its way back: it is as good as the first.
    """

    def note(connection: Connection) -> bool:
        pending = connection.info[PENDING] = Pending()
        row = connection.execute(
            select(device.c.person_id, device.c.secret_digest, wipe_order.c.nonce, wipe_order.c.received_at)
            .join(wipe_order, wipe_order.c.device_id == device.c.id)
            .where(device.c.id == device_id)
            .with_for_update(of=wipe_order)
        ).one_or_none()
        same = same_secret(secret, bytes(row.secret_digest) if row else None)
        if row is None or not same or not hmac.compare_digest(row.nonce.encode(), nonce.encode()):
            return False
        if row.received_at is None:
            connection.execute(
                update(wipe_order)
                .where(wipe_order.c.device_id == device_id)
                .values(received_at=func.now(), delivered_at=func.coalesce(wipe_order.c.delivered_at, func.now()))
            )
            by = Actor("person", row.person_id)
            record(connection, by, WipeConfirmed(person=row.person_id, device=device_id))
            pending.flush(connection)
        return True

    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            return await connection.run_sync(note)
