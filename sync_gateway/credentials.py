"""Who is asking: looks the device up in the service database for every request, and keeps nothing.

So a device that has been revoked is refused with its next request, whichever gateway it reaches. When a device last
synchronised is written down now and then; with that its credential goes on being good.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from passbook.credentials import secret_digest
from passbook.database import database_url
from passbook.servicedb.tables import device, person, tenant
from sync_gateway.answers import unauthorized, unavailable

LONGEST_NAME = 200  # characters of a device id
LONGEST_HEADER = 2048  # characters of an Authorization header
CONNECT_WITHIN = 5  # seconds
NOBODY = b"\0" * 32  # compared with when there is no such device, so that this takes the same work

log = structlog.get_logger()


@dataclass(frozen=True)
class Principal:
    """A device that may read, and the one database it may read."""

    device_id: str
    person_id: str
    database: str
    database_ready: bool
    #: Whether it is so long since this device was seen that it should be written down.
    unseen: bool = False


class Credentials(Protocol):
    """Tells who sends a request; raises `answers.Problem` (401, or 503 when it cannot be told)."""

    async def principal(self, authorization: list[str]) -> Principal: ...

    async def seen(self, device_id: str) -> None:
        """Note that the device synchronises now."""
        ...


#: How often it is written down that a device synchronises: minutes are enough for whoever looks, and writes cost.
SEEN_EVERY = timedelta(minutes=5)

_LOOKUP = (
    select(
        device.c.secret_digest,
        device.c.revoked_at.is_not(None).label("revoked"),
        (device.c.expires_at <= func.now()).label("expired"),
        person.c.id.label("person_id"),
        person.c.state,
        person.c.database_name,
        person.c.database_ready_at.is_not(None).label("ready"),
        tenant.c.open,
        (
            func.coalesce(device.c.last_synchronised_at, device.c.created_at - SEEN_EVERY) < func.now() - SEEN_EVERY
        ).label("unseen"),
    )
    .join(person, person.c.id == device.c.person_id)
    .join(tenant, tenant.c.singleton)
    .limit(1)
)


class DatabaseCredentials:
    """Devices and people as the service database has them."""

    def __init__(self, engine: AsyncEngine, *, device_days: int) -> None:
        self._engine = engine
        self._days = timedelta(days=device_days)

    @classmethod
    def at(cls, service_url: str, *, device_days: int = 90, connections: int = 10) -> DatabaseCredentials:
        """For the service database with this address; who synchronises may do so for `device_days` more."""
        return cls(
            create_async_engine(
                database_url(service_url),
                hide_parameters=True,  # they would stand in logs
                isolation_level="AUTOCOMMIT",  # one read per request: no BEGIN, no ROLLBACK
                pool_size=connections,
                max_overflow=connections,
                pool_timeout=CONNECT_WITHIN,
                connect_args={"connect_timeout": CONNECT_WITHIN},
            ),
            device_days=device_days,
        )

    async def close(self) -> None:
        await self._engine.dispose()

    async def principal(self, authorization: list[str]) -> Principal:
        name, secret = _basic(authorization)
        found = await self._find(name)
        same = hmac.compare_digest(secret_digest(secret), bytes(found.secret_digest) if found else NOBODY)
        if not found or not same:
            raise unauthorized("unknown")
        if found.revoked or found.state not in ("active", "suspended"):
            raise unauthorized("revoked")
        if found.state == "suspended":
            raise unauthorized("suspended")
        if found.expired:
            raise unauthorized("expired")
        if not found.open:
            raise unauthorized("maintenance")
        return Principal(name, found.person_id, found.database_name, found.ready, found.unseen)

    async def seen(self, device_id: str) -> None:
        # Whoever else noted it meanwhile need not be overwritten; one that expired or was revoked stays so.
        now_good = (device.c.revoked_at.is_(None)) & (device.c.expires_at > func.now())
        statement = (
            update(device)
            .where(device.c.id == device_id, now_good)
            .where(
                device.c.last_synchronised_at.is_(None) | (device.c.last_synchronised_at < func.now() - SEEN_EVERY)
            )
            .values(
                last_synchronised_at=func.now(),
                expires_at=func.greatest(device.c.expires_at, func.now() + self._days),
            )
        )
        try:
            async with self._engine.connect() as connection:
                await connection.execute(statement)
        except (SQLAlchemyError, OSError) as error:
            # The device gets its data all the same; the next request notes it.
            log.warning("device_not_noted", error=type(error).__name__)

    async def _find(self, name: str):  # type: ignore[no-untyped-def]  # a row, whose type SQLAlchemy infers
        for attempt in (1, 2):
            try:
                async with self._engine.connect() as connection:
                    return (await connection.execute(_LOOKUP.where(device.c.id == name))).one_or_none()
            except (SQLAlchemyError, OSError) as error:
                # A restart of the database breaks every idle connection of the pool; a fresh one may work.
                if attempt == 1 and isinstance(error, DBAPIError) and error.connection_invalidated:
                    continue
                log.error("service_database_unavailable", error=type(error).__name__)
                raise unavailable() from error
        raise unavailable()


def _basic(authorization: list[str]) -> tuple[str, bytes]:
    """Name and secret; for anything malformed a name that no device has, so that it goes the same way."""
    nothing = "", b""
    if len(authorization) != 1 or len(authorization[0]) > LONGEST_HEADER:
        return nothing
    scheme, _, value = authorization[0].partition(" ")
    if scheme.lower() != "basic":
        return nothing
    try:
        name, colon, secret = base64.b64decode(value.strip(), validate=True).partition(b":")
        text = name.decode()
    except (binascii.Error, ValueError):
        return nothing
    if not colon or len(text) > LONGEST_NAME or not text.isprintable():
        return nothing
    return text, secret
