"""Activation codes: how somebody comes to a password of their own that nobody else has read.

A code is good once and for a short while, and for one person or administrator. Whoever has it chooses the password.
Only its digest is kept, and of each person only the last code. A wrong code, and a name that nobody has, cost the
same statements and count as failed attempts to sign in. To the right code that comes too late the answer is the
truth: that it was used already tells its owner that somebody else has seen it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from auth_service import sessions
from auth_service.hashing import Hashing
from auth_service.limits import Attempt, Audience, Limits
from auth_service.metrics import Metrics
from auth_service.signin import typed
from auth_service.tokens import ADMINISTRATORS, PEOPLE
from passbook.audit.chain import Actor, record
from passbook.audit.events import (
    ActivationCodeMade,
    ActivationRefused,
    AdministratorActivated,
    Event,
    PersonActivated,
    SignInSlowed,
)
from passbook.credentials import same_secret, secret_digest
from passbook.errors import Conflict, NotAuthenticated, NotPermitted, PassbookError
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import activation, administrator, person, tenant

#: The limits that hold for the right code as well. Those of the account would let whoever guesses at a name keep
#: its owner out, and a code is too long to be guessed.
_BY_PLACE = ("address", "everybody")
#: As the alphabet of initial passwords: nothing that is mistaken for something else when read out.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _IN_GROUP = 4, 4
_LEFT_OUT = re.compile(r"[\s-]+")

#: The hash of somebody who has no password yet: none matches it.
NO_PASSWORD = "-"  # noqa: S105


@dataclass(frozen=True)
class Code:
    """A code as it was made: 79 random bits in four groups, to be told once."""

    text: str = field(repr=False)
    expires_at: datetime


class WrongCode(NotAuthenticated):
    """Name or code is incorrect."""

    code = "unknown"


def issue(
    connection: Connection, by: Actor, *, lives: timedelta, person_id: str = "", administrator_id: str = ""
) -> Code:
    """A new code for a person or an administrator; one made before is good no more."""
    text = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_IN_GROUP)) for _ in range(_GROUPS))
    values = {
        "principal": person_id or administrator_id,
        "person_id": person_id or None,
        "administrator_id": administrator_id or None,
        "digest": secret_digest(_plain(text)),
        "made_at": func.now(),
        "expires_at": func.now() + lives,
        "used_at": None,
    }
    expires_at = connection.execute(
        insert(activation)
        .values(values)
        .on_conflict_do_update(index_elements=[activation.c.principal], set_=values)
        .returning(activation.c.expires_at)
    ).scalar_one()
    record(
        connection,
        by,
        ActivationCodeMade(person=person_id or None, administrator=administrator_id or None),
    )
    return Code(text, expires_at)


def withdraw(connection: Connection, principal: str) -> None:
    """Make the code of a person or an administrator good no more, if there is one."""
    connection.execute(delete(activation).where(activation.c.principal == principal))


class Activations:
    """Exchanges codes for passwords."""

    def __init__(self, database: ServiceDatabase, hashing: Hashing, limits: Limits, metrics: Metrics) -> None:
        self._database = database
        self._hashing = hashing
        self._limits = limits
        self._metrics = metrics

    async def redeem(
        self, by: Actor, address: str, username: str, code: str, password: str, *, audience: Audience
    ) -> None:
        """Give whoever has this name and code the password they chose.

        Raises `WrongCode`, `TooMany` when they must wait, `WeakPassword` (the code stays good), `Conflict`
        (`code_used`, `code_expired`) for the right code too late, `NotPermitted` (`suspended`, `maintenance`).
        """
        username = typed(username)
        attempt = Attempt.of(audience, username, address)
        self._limits.recall(attempt, place_alone=True)
        problem = await asyncio.to_thread(self._look, by, attempt, username, code, audience)
        if problem is None:
            # Among strangers: a code is good until a password will do, so it could be hashed again and again.
            hashed = await self._hashing.hash(password, username=username, priority=False)
            problem = await asyncio.to_thread(self._store, by, username, code, hashed, audience)
        self._metrics.outcome("activation", "ok" if problem is None else problem.code, audience)
        if problem is not None:
            raise problem

    def _look(
        self, by: Actor, attempt: Attempt, username: str, code: str, audience: Audience
    ) -> PassbookError | None:
        """Why this code is not taken. Returned and not raised: what was noted must be committed."""
        with self._database.begin() as connection:
            found = _find(connection, audience, username)
            admission = self._limits.admit(connection, attempt, found.id)
            refusal = admission.refusal
            problem = found.problem(code)
            if refusal is not None and (refusal.limit in _BY_PLACE or isinstance(problem, WrongCode)):
                if refusal.began:
                    slowed = SignInSlowed(
                        audience=audience,
                        limit=refusal.limit,
                        seconds=refusal.retry_after,
                        person=found.person,
                        administrator=found.administrator,
                    )
                    record(connection, by, slowed)
                return refusal
            if problem is None:
                # Whoever has the code is no guesser; that the password will not do is held against nobody.
                self._limits.withdraw(connection, attempt, admission)
                return None
            why = "wrong_code" if isinstance(problem, WrongCode) else problem.code
            refused = ActivationRefused(
                audience=audience, why=why, person=found.person, administrator=found.administrator
            )
            record(connection, by, refused)
            return problem

    def _store(self, by: Actor, username: str, code: str, hashed: str, audience: Audience) -> PassbookError | None:
        with self._database.begin() as connection:
            found = _find(connection, audience, username, lock=True)
            problem = found.problem(code)
            if problem is not None or found.id is None:
                return problem or WrongCode()
            connection.execute(
                update(activation).where(activation.c.principal == found.id).values(used_at=func.now())
            )
            table = person if audience == PEOPLE else administrator
            connection.execute(
                update(table)
                .where(table.c.id == found.id)
                .values(
                    password_hash=hashed,
                    must_change_password=False,
                    password_changed_at=func.now(),
                    changed_at=func.now(),
                    version=table.c.version + 1,
                )
            )
            event: Event = (
                PersonActivated(person=found.id)
                if audience == PEOPLE
                else AdministratorActivated(administrator=found.id)
            )
            record(connection, by, event)
        return None


@dataclass(frozen=True)
class _Found:
    """Whoever has the name that was typed, with their code; `id` None for nobody."""

    audience: Audience
    id: str | None
    state: str
    open: bool
    digest: bytes | None
    used_at: datetime | None
    late: bool

    @property
    def person(self) -> str | None:
        return self.id if self.audience == PEOPLE else None

    @property
    def administrator(self) -> str | None:
        return self.id if self.audience == ADMINISTRATORS else None

    def problem(self, code: str) -> PassbookError | None:
        """Why the code is not taken; None if it is."""
        if not same_secret(_plain(code), self.digest):
            return WrongCode()
        if self.used_at is not None:
            return Conflict(
                f"This code was used on {self.used_at.astimezone(UTC):%Y-%m-%d at %H:%M} UTC. If that was not you, "
                "somebody else has chosen your password: tell the institution at once.",
                code="code_used",
            )
        if self.late:
            return Conflict("This code is too old: ask the institution for a new one.", code="code_expired")
        if self.state != "active":
            return NotPermitted(sessions.REFUSALS["suspended"], code="suspended")
        if not self.open:
            return NotPermitted(sessions.REFUSALS["maintenance"], code="maintenance")
        return None


def _plain(code: str) -> bytes:
    """A code as it is compared, however it was typed."""
    return f"activation {_LEFT_OUT.sub('', code).lower()}".encode("utf-8", "surrogatepass")


def _find(connection: Connection, audience: Audience, username: str, *, lock: bool = False) -> _Found:
    """Who has this name, and the code they were given last."""
    table = person if audience == PEOPLE else administrator
    named = (func.lower(table.c.username) == func.lower(username)) & (table.c.state != "deleting")
    if lock:
        # A statement of its own: the next one sees what the last holder of the lock did.
        connection.execute(select(table.c.id).where(named).with_for_update())
    row = connection.execute(
        select(
            table.c.id,
            table.c.state,
            tenant.c.open,
            activation.c.digest,
            activation.c.used_at,
            func.coalesce(activation.c.expires_at <= func.clock_timestamp(), False).label("late"),
        )
        .select_from(table)
        .join(tenant, tenant.c.singleton)
        .outerjoin(activation, activation.c.principal == table.c.id)
        .where(named)
    ).one_or_none()
    if row is None:
        return _Found(audience, None, "active", True, None, None, False)
    digest = None if row.digest is None else bytes(row.digest)
    # The switch is for people; administrators must come in to turn it again.
    return _Found(
        audience, row.id, row.state, row.open or audience == ADMINISTRATORS, digest, row.used_at, row.late
    )
