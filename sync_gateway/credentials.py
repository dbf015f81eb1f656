"""Who is asking: looks the device up in the service database for every request, and keeps nothing.

So a device that has been revoked is refused with its next request, whichever gateway it reaches. When a device last
synchronised is written down now and then; with that its credential goes on being good.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import Executable, Text, any_, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from passbook import freshness
from passbook.audit.chain import Head
from passbook.credentials import same_secret
from passbook.database import async_sql_engine, database_url
from passbook.errors import OlderDatabase
from passbook.servicedb.memory import Memory
from passbook.servicedb.tables import audit_event, device, person, tenant, written
from sync_gateway import basic, wipes
from sync_gateway.answers import Problem, unauthorized, unavailable
from sync_gateway.known import Known
from sync_gateway.outages import Outage

CONNECT_WITHIN = 5  # seconds
ANSWER_WITHIN = 3.0  # seconds after which the service database counts as away
_AT_ONCE = 1000  # devices looked up in one query

log = structlog.get_logger()


@dataclass(frozen=True)
class Principal:
    """A device that may read, and the one database it may read."""

    device_id: str
    person_id: str
    database: str
    database_ready: bool
    expires_at: datetime
    #: Whether it is so long since this device was seen that it should be written down.
    unseen: bool = False
    #: When the database was last written to, as far as was known when this was found out.
    written: datetime | None = None
    #: Up to when the copy was known to be complete when this was found out (`passbook.freshness`).
    checked_at: datetime | None = None
    #: Of the database and of the credential: what changes when either is replaced under the same name.
    generation: int = 1
    digest: bytes = field(default=b"", repr=False)
    #: When the service database said so, on the monotonic clock.
    known_at: float = field(default=0.0, compare=False)

    def same(self, other: Principal) -> bool:
        """Whether what was begun as the one may go on as the other."""
        return (self.person_id, self.database, self.generation, self.digest) == (
            other.person_id,
            other.database,
            other.generation,
            other.digest,
        )


class Credentials(Protocol):
    """Tells who sends a request; raises `answers.Problem` (401, or 503 when it cannot be told)."""

    async def principal(self, authorization: list[str]) -> Principal: ...

    async def seen(self, device_id: str, position: str | None = None) -> None:
        """Note that the device synchronises now, and up to where."""
        ...

    async def ordered(self, authorization: list[str]) -> str:
        """The device that sends this, if it was ever told to wipe its copy; raises `Problem` otherwise."""
        ...

    async def confirm(self, authorization: list[str], nonce: str) -> None:
        """Take the receipt of a device that has wiped its copy; raises `Problem` unless it was told to."""
        ...

    async def standing(self, devices: Sequence[str]) -> dict[str, Standing]:
        """How each of these devices stands now. Raises `Problem` (503) when it cannot be told."""
        ...


@dataclass(frozen=True)
class Standing:
    """Whether a device may go on: as whom, or the code of the 401 that it gets."""

    principal: Principal | None = None
    refusal: str = "revoked"  # what has been deleted never comes back


#: A device that was not noted for so long is noted at once, which keeps its credential good; else `Sightings` does.
SEEN_EVERY = timedelta(minutes=5)

_LOOKUP = (
    select(
        device.c.id,
        device.c.secret_digest,
        device.c.revoked_at.is_not(None).label("revoked"),
        device.c.revoked_because,
        (device.c.expires_at <= func.now()).label("expired"),
        device.c.expires_at,
        person.c.id.label("person_id"),
        person.c.state,
        person.c.database_name,
        person.c.generation,
        person.c.database_ready_at.is_not(None).label("ready"),
        # Not joined: PostgreSQL, which cannot know that there is one row, would plan for hundreds of thousands.
        select(tenant.c.open).scalar_subquery().label("open"),
        written.c.at.label("written"),
        freshness.checked_at(person.c.id).label("checked_at"),
        (
            func.coalesce(device.c.last_synchronised_at, device.c.created_at - SEEN_EVERY) < func.now() - SEEN_EVERY
        ).label("unseen"),
    )
    .join(person, person.c.id == device.c.person_id)
    .outerjoin(written, written.c.person_id == person.c.id)
)
#: Some people with a database, whoever they are.
_ANYBODY = (
    select(person.c.id, person.c.database_name)
    .where(person.c.state == "active", person.c.database_ready_at.is_not(None))
    .limit(3)
)
# Made once: SQLAlchemy then knows them again without looking at what they are made of.
_ONE = _LOOKUP.where(device.c.id == bindparam("device"))
_NEWEST = select(audit_event.c.id, audit_event.c.hash).order_by(audit_event.c.id.desc()).limit(1)
_SOME = _LOOKUP.where(device.c.id == any_(bindparam("devices", type_=ARRAY(Text))))


def _refusal(found: Any) -> str | None:
    """Why the device may not, what is final first."""
    if found.revoked or found.state not in ("active", "suspended"):
        return "revoked"
    if found.state == "suspended":
        return "suspended"
    if found.expired:
        return "expired"
    return None if found.open else "maintenance"


def _principal(found: Any, asked_at: float) -> Principal:
    return Principal(
        found.id,
        found.person_id,
        found.database_name,
        found.ready,
        found.expires_at,
        unseen=found.unseen,
        written=found.written,
        checked_at=found.checked_at,
        generation=found.generation,
        digest=bytes(found.secret_digest),
        known_at=asked_at,
    )


_Result = TypeVar("_Result")


def service_engine(service_url: str, connections: int, **more: Any) -> AsyncEngine:
    """The service database, asked over at most so many connections, which stay open."""
    return async_sql_engine(
        database_url(service_url),
        pool_size=connections,
        max_overflow=0,  # what is over would be closed after each question, and made anew for the next
        pool_timeout=CONNECT_WITHIN,
        connect_args={"connect_timeout": CONNECT_WITHIN},
        **more,
    )


class DatabaseCredentials:
    """Devices and people as the service database has them.

    While the database is away, devices that were good within the last `grace` seconds are taken for good.
    """

    def __init__(self, engine: AsyncEngine, *, device_days: int, grace: float) -> None:
        self._engine = engine
        self._memory = Memory(engine.sync_engine)
        #: Set once an older database was found in the place of ours: nobody is served from it.
        self.older = asyncio.Event()
        #: Told by all who ask the service database for this gateway.
        self.outage = Outage("service_database_unavailable", engine.url)
        self._days = timedelta(days=device_days)
        self.grace = grace
        self.known = Known(grace)
        self._asking: set[asyncio.Task[Any]] = set()

    @classmethod
    def at(
        cls, service_url: str, *, device_days: int = 90, connections: int = 20, grace: float = 300.0
    ) -> DatabaseCredentials:
        """For the service database with this address; who synchronises may do so for `device_days` more."""
        return cls(
            # One read per request: no BEGIN, no ROLLBACK.
            service_engine(service_url, connections, isolation_level="AUTOCOMMIT"),
            device_days=device_days,
            grace=grace,
        )

    @property
    def engine(self) -> AsyncEngine:
        """What the service database is asked over, for others who ask it seldom."""
        return self._engine

    async def close(self) -> None:
        for asking in self._asking:
            asking.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._engine.dispose()

    async def principal(self, authorization: list[str]) -> Principal:
        if not authorization:
            raise unauthorized("credentials_missing")
        name, secret = basic.name_and_secret(authorization)
        asked_at = time.monotonic()
        try:
            found = (await self._rows(_ONE, {"device": name}) or [None])[0]
        except Problem:
            return self._remembered(name, secret)
        same = same_secret(secret, bytes(found.secret_digest) if found else None)
        if not found or not same:
            if not found:
                self.known.renew(name, None)
            raise unauthorized("unknown")
        refusal = _refusal(found)
        if refusal is not None:
            self.known.renew(name, None)
            if refusal == "revoked":
                raise unauthorized(refusal, because=found.revoked_because, wipe=await self._order(name))
            raise unauthorized(refusal)
        principal = _principal(found, asked_at)
        self.known.remember(principal)
        return principal

    async def ordered(self, authorization: list[str]) -> str:
        name, secret = basic.name_and_secret(authorization)
        found = (await self._rows(wipes.ORDERED, {"device": name}) or [None])[0]
        if not same_secret(secret, bytes(found.secret_digest) if found else None):
            raise unauthorized("unknown")
        return name

    async def confirm(self, authorization: list[str], nonce: str) -> None:
        name, secret = basic.name_and_secret(authorization)
        try:
            good = await self._answered(wipes.confirm(self._engine, name, secret, nonce))
        except (SQLAlchemyError, OSError, OlderDatabase) as error:
            self.outage.failed(error)
            raise unavailable() from error
        if not good:
            raise unauthorized("unknown")

    async def _order(self, device_id: str) -> str | None:
        try:
            return await self._answered(wipes.waiting(self._engine, device_id))
        except (SQLAlchemyError, OSError, Problem, OlderDatabase) as error:
            # It is revoked all the same; the order comes with the next answer.
            log.debug("wipe_order_unknown", error=type(error).__name__)
            return None

    async def seen(self, device_id: str, position: str | None = None) -> None:
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
                expires_at=func.greatest(
                    device.c.expires_at, func.least(func.now() + self._days, device.c.ends_at)
                ),
                **({} if position is None else {"position": position}),
            )
        )
        try:
            await self._answered(self._executed(statement))
        except Problem:
            # The device gets its data all the same; the next request notes it. The outage is told already.
            log.debug("device_not_noted")

    async def standing(self, devices: Sequence[str]) -> dict[str, Standing]:
        found: dict[str, Standing] = {name: Standing() for name in devices}
        for start in range(0, len(devices), _AT_ONCE):
            some = list(devices[start : start + _AT_ONCE])
            asked_at = time.monotonic()
            for row in await self._rows(_SOME, {"devices": some}):
                refusal = _refusal(row)
                found[row.id] = (
                    Standing(_principal(row, asked_at)) if refusal is None else Standing(refusal=refusal)
                )
        for name, one in found.items():
            self.known.renew(name, one.principal)
        return found

    async def anybody(self) -> list[Principal]:
        """A few people who may read, each as a principal without a device. Raises `Problem` (503)."""
        never = datetime.max.replace(tzinfo=UTC)
        return [Principal("", row.id, row.database_name, True, never) for row in await self._rows(_ANYBODY, {})]

    async def look(self) -> None:
        """Remember how far the audit log has come. Raises `Problem` (503) when it cannot be told."""
        for row in await self._rows(_NEWEST, {}):
            self._memory.note(Head(row.id, bytes(row.hash).hex()))
            log.debug("audit_log_seen", row=row.id)

    def forget(self, kind: str, name: str) -> None:
        """Access of a device, a person, or (`kind` is `tenant`) everybody may have changed."""
        self.known.tell(kind, name)

    def served_until(self) -> datetime | None:
        """Until when somebody is served if the service database is away from now on; None if nobody is."""
        return self.known.until()

    def _remembered(self, name: str, secret: bytes) -> Principal:
        """A device that was good a moment ago. Raises `Problem` (503) for all others: nothing is known of them."""
        principal = self.known.get(name)
        same = same_secret(secret, None if principal is None else principal.digest)
        if principal is None or not same or not self.known.still_good(principal):
            raise unavailable()
        return replace(principal, unseen=False, checked_at=None)  # what became of the copy nobody can tell

    async def _rows(self, query: Executable, parameters: Mapping[str, Any]) -> Sequence[Any]:
        return await self._answered(self._executed(query, parameters))

    async def _executed(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        for attempt in (1, 2):
            try:
                async with self._engine.connect() as connection:
                    result = await connection.execute(statement, parameters)
                    rows = result.all() if result.returns_rows else ()
                    self.outage.answered()
                    return rows
            except (SQLAlchemyError, OSError) as error:
                # A restart of the database breaks every idle connection of the pool; a fresh one may work.
                if attempt == 1 and isinstance(error, DBAPIError) and error.connection_invalidated:
                    continue
                self.outage.failed(error)
                raise unavailable() from error
            except OlderDatabase as error:
                log.error("older_service_database", problem=error.message, remedy=error.remedy)
                # Nobody can be told how they stand any more, whatever was known a moment ago.
                self.forget("tenant", "")
                self.older.set()
                raise unavailable() from error
        raise unavailable()

    async def _answered(self, asked: Coroutine[Any, Any, _Result]) -> _Result:
        """What the database answers. Raises `Problem` (503) if it does not, or not in time.

        A task of its own asks. Were it broken off whenever a device hangs up, so would be the connection it asks
        on, and whoever comes and goes quickly enough would keep the database busy with new ones.
        """
        asking = asyncio.create_task(asked)
        # Not the waiter ends it: that one may be gone by then.
        timer = asyncio.get_running_loop().call_later(ANSWER_WITHIN, asking.cancel)
        self._asking.add(asking)
        asking.add_done_callback(lambda one: self._asked(one, timer))
        await asyncio.wait({asking}, timeout=ANSWER_WITHIN)
        if not asking.done() or asking.cancelled():
            self.outage.failed()
            raise unavailable()
        return asking.result()

    def _asked(self, asking: asyncio.Task[Any], timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # for nobody, if the device has hung up
