"""Proving who one is: the name and the password, the waits for those who guess, and the session that follows.

A name that nobody has costs the same work, the same waits and gets the same answer as a wrong password. The
password is hashed between two transactions, never inside one.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from sqlalchemy import Connection, func, select, update

from auth_service import installations, passwords, sessions
from auth_service.flights import Flights
from auth_service.hashing import Hashing
from auth_service.limits import Admission, Attempt, Audience, Limits
from auth_service.metrics import Metrics
from auth_service.tokens import ADMINISTRATORS, PEOPLE
from passbook.audit.chain import Actor, record
from passbook.audit.events import (
    AdministratorPasswordChanged,
    AdministratorSignedIn,
    Event,
    PasswordChanged,
    PasswordChangeRefused,
    PersonSignedIn,
    SignInFailed,
    SignInSlowed,
)
from passbook.errors import NotAuthenticated, NotPermitted, PassbookError, TooMany
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import administrator, device, person, tenant

_LONGEST_NAME = 200
#: Seconds that an attempt waits for others of its account to turn out well.
_PATIENCE = 10.0
#: Why somebody with the right password is not let in.
_REFUSALS = {
    **sessions.REFUSALS,
    "initial_password_expired": "This initial password was not changed in time, and is good no more: ask the "
    "institution for a new one, or for an activation code.",
}


@dataclass(frozen=True)
class _Account:
    """Whoever has the name that was typed; `id` None for nobody."""

    audience: Audience
    id: str | None
    password_hash: str
    state: str
    must_change_password: bool
    tenant_open: bool

    @property
    def person(self) -> str | None:
        return self.id if self.audience == PEOPLE else None

    @property
    def administrator(self) -> str | None:
        return self.id if self.audience == ADMINISTRATORS else None


@dataclass(frozen=True)
class _Proof:
    """An account that has proved itself, and the attempt as it was counted."""

    account: _Account
    attempt: Attempt
    admission: Admission


class SignIn:
    """Signs people and administrators in, and changes their own passwords."""

    def __init__(
        self,
        database: ServiceDatabase,
        hashing: Hashing,
        limits: Limits,
        metrics: Metrics,
        terms: tuple[sessions.Terms, sessions.Terms],
        initial_passwords_live: timedelta,
    ) -> None:
        self._database = database
        self._hashing = hashing
        self._limits = limits
        self._metrics = metrics
        self._terms = terms
        self._initial_passwords_live = initial_passwords_live
        self._flights = Flights()

    async def with_password(
        self,
        by: Actor,
        address: str,
        username: str,
        password: str,
        *,
        audience: Audience,
        installation_key: str | None = None,
    ) -> sessions.Opened:
        """A session for whoever has this name and password, on the phone that has the installation key.

        Raises `Refused` for a key that will not do, `NotAuthenticated` (code `unknown`) if nobody has this name and
        password, `NotPermitted` (`suspended`, `maintenance`, `initial_password_expired`) if they are kept out,
        `TooMany` when they must wait.
        """
        username = typed(username)
        if installation_key is not None:
            installations.checked_key(installation_key)
        async with self._proved(by, address, username, password, audience) as proof:
            renewed = await self._renewed(proof.account, password)
            opened = await asyncio.to_thread(self._open, by, username, proof, renewed, installation_key)
        if isinstance(opened, PassbookError):
            raise opened
        self._metrics.outcome("sign_in", "ok", audience)
        return opened

    async def change_password(
        self,
        by: Actor,
        address: str,
        username: str,
        current: str,
        new: str,
        *,
        audience: Audience,
        session: str,
        sign_out_others: bool,
        keep_device: str | None = None,
    ) -> tuple[int, int]:
        """Set one's own new password; how many other sessions were ended and devices revoked.

        Raises what `with_password` does for a wrong present password, `WeakPassword`, and `TooMany` while another
        change of the same account is under way.
        """
        async with (
            self._flights.alone(f"{audience} {username}"),
            self._proved(by, address, username, current, audience, changing=True) as proof,
        ):
            try:
                hashed = await self._hashing.hash(new, username=username)
            except PassbookError:
                # The present password was right; that the new one will not do is held against nobody.
                await self._withdraw(proof.attempt, proof.admission)
                raise

            def store() -> tuple[int, int]:
                with self._database.begin() as connection:
                    now = _account(connection, audience, username, lock="update")
                    if now.id is None or now.password_hash != proof.account.password_hash:
                        raise NotAuthenticated
                    self._limits.succeeded(connection, proof.attempt, proof.admission, now.id)
                    if audience == PEOPLE:
                        return _store_person(connection, by, now.id, hashed, session, sign_out_others, keep_device)
                    return _store_administrator(connection, by, now.id, hashed, session)

            return await asyncio.to_thread(store)

    @asynccontextmanager
    async def _proved(
        self, by: Actor, address: str, username: str, password: str, audience: Audience, *, changing: bool = False
    ) -> AsyncIterator[_Proof]:
        """The account whose password this is; else raises, with everything noted.

        As long as this lasts the attempt is under way, and others of the same account may wait for it.
        """
        attempt = Attempt.of(audience, username, address)
        account, admission = await self._admitted(by, attempt, username, audience)
        async with self._flights.under_way(attempt.account):
            try:
                right = await self._hashing.verify(account.password_hash, password, priority=admission.familiar)
            except TooMany as error:
                # Nobody looked at the password, so nothing is held against the account.
                await self._withdraw(attempt, admission)
                self._metrics.outcome("sign_in", f"slowed_{error.limit}", audience)
                raise
            if account.id is not None and right:
                yield _Proof(account, attempt, admission)
                return
            await asyncio.to_thread(self._note_failure, by, account, changing)
        self._metrics.outcome("sign_in", "unknown_name" if account.id is None else "wrong_password", audience)
        raise NotAuthenticated

    async def _admitted(
        self, by: Actor, attempt: Attempt, username: str, audience: Audience
    ) -> tuple[_Account, Admission]:
        """The account, once the limits let the attempt pass. Raises `TooMany`, noted if the wait begins with it."""
        clock = asyncio.get_running_loop().time
        patience, began = clock() + _PATIENCE, False
        while True:
            account, admission = await self._look(attempt, username, audience)
            refusal = admission.refusal
            if refusal is None:
                return account, admission
            began = began or refusal.began
            if refusal.limit == "account" and await self._flights.one_ends(attempt.account, patience - clock()):
                continue
            if began:
                await asyncio.to_thread(self._note_slowed, by, account, audience, refusal)
            self._metrics.outcome("sign_in", f"slowed_{refusal.limit}", audience)
            raise refusal

    async def _look(self, attempt: Attempt, username: str, audience: Audience) -> tuple[_Account, Admission]:
        try:
            self._limits.recall(attempt)
        except TooMany as refusal:
            return _nobody(audience), Admission(False, refusal)

        def admit() -> tuple[_Account, Admission]:
            with self._database.begin() as connection:
                account = _account(connection, audience, username)
                return account, self._limits.admit(connection, attempt, account.id)

        return await asyncio.to_thread(admit)

    async def _withdraw(self, attempt: Attempt, admission: Admission) -> None:
        await asyncio.to_thread(self._database.run, self._limits.withdraw, attempt, admission)

    async def _renewed(self, account: _Account, password: str) -> str | None:
        """A new hash of the password where the old one was made with other parameters than today's."""
        if not passwords.needs_rehash(account.password_hash):
            return None
        try:
            return await self._hashing.renew(password)
        except TooMany:
            return None  # the next sign-in will do

    def _note_slowed(self, by: Actor, account: _Account, audience: Audience, refusal: TooMany) -> None:
        slowed = SignInSlowed(
            audience=audience,
            limit=refusal.limit,
            seconds=refusal.retry_after,
            person=account.person,
            administrator=account.administrator,
        )
        with self._database.begin() as connection:
            record(connection, by, slowed)

    def _note_failure(self, by: Actor, account: _Account, changing: bool) -> None:
        event: Event = SignInFailed(
            audience=account.audience,
            why="unknown_name" if account.id is None else "wrong_password",
            person=account.person,
            administrator=account.administrator,
        )
        if changing:
            event = PasswordChangeRefused(person=account.person, administrator=account.administrator)
        with self._database.begin() as connection:
            record(connection, by, event)

    def _open(
        self, by: Actor, username: str, proof: _Proof, renewed: str | None, installation_key: str | None
    ) -> sessions.Opened | NotPermitted | NotAuthenticated:
        """A session for an account that has proved itself.

        Errors are returned and not raised: what was noted must be committed.
        """
        audience = proof.account.audience
        with self._database.begin() as connection:
            now = _account(connection, audience, username, lock="share" if renewed is None else "update")
            if now.id is None or now.id != proof.account.id or now.password_hash != proof.account.password_hash:
                return NotAuthenticated()  # changed while the password was hashed
            self._limits.succeeded(connection, proof.attempt, proof.admission, now.id)
            if renewed is not None:
                table = person if audience == PEOPLE else administrator
                connection.execute(update(table).where(table.c.id == now.id).values(password_hash=renewed))
            why = "" if now.state == "active" else "suspended"
            if not why and not now.tenant_open:
                why = "maintenance"
            if not why and now.must_change_password and self._too_old(connection, audience, now.id):
                why = "initial_password_expired"
            if why:
                failed = SignInFailed(
                    audience=audience, why=why, person=now.person, administrator=now.administrator
                )
                record(connection, by, failed)
                self._metrics.outcome("sign_in", why, audience)
                return NotPermitted(_REFUSALS[why], code=why)
            opened = sessions.start(
                connection,
                sessions.Principal(now.person, now.administrator),
                self._terms[audience == ADMINISTRATORS],
                installation=(
                    installations.of_key(now.person, installation_key) if now.person and installation_key else None
                ),
            )
            signed_in: Event
            if now.person is not None:
                signed_in = PersonSignedIn(person=now.person, session=opened.session)
            else:
                signed_in = AdministratorSignedIn(administrator=now.id, session=opened.session)
            record(connection, by, signed_in)
        return replace(opened, must_change_password=now.must_change_password)

    def _too_old(self, connection: Connection, audience: Audience, account: str) -> bool:
        """Whether a password that somebody else gave was never changed, and has waited too long for it."""
        table = person if audience == PEOPLE else administrator
        given = func.coalesce(table.c.password_changed_at, table.c.created_at)
        query = select(given <= func.now() - self._initial_passwords_live).where(table.c.id == account)
        return bool(connection.execute(query).scalar_one())


def typed(username: str) -> str:
    """A user name as it was typed, in the form in which names are kept and counted."""
    return unicodedata.normalize("NFKC", username).strip().replace("\0", "\ufffd")[:_LONGEST_NAME]


def _nobody(audience: Audience) -> _Account:
    return _Account(audience, None, passwords.DUMMY_HASH, "active", False, True)


def _account(
    connection: Connection, audience: Audience, username: str, *, lock: Literal["share", "update"] | None = None
) -> _Account:
    """Who has this name; for nobody, an account that no password opens."""
    table = person if audience == PEOPLE else administrator
    columns = (table.c.id, table.c.password_hash, table.c.state, table.c.must_change_password)
    query = (
        select(*columns, tenant.c.open)
        .join(tenant, tenant.c.singleton)
        .where(func.lower(table.c.username) == func.lower(username), table.c.state != "deleting")
    )
    if lock is not None:
        query = query.with_for_update(of=table, read=lock == "share")
    row = connection.execute(query).one_or_none()
    if row is None:
        return _nobody(audience)
    # The switch is for people; administrators must come in to turn it again.
    return _Account(audience, *row[:-1], tenant_open=row.open or audience == ADMINISTRATORS)


def _store_person(
    connection: Connection,
    by: Actor,
    person_id: str,
    hashed: str,
    session: str,
    sign_out_others: bool,
    keep_device: str | None,
) -> tuple[int, int]:
    connection.execute(
        update(person)
        .where(person.c.id == person_id)
        .values(
            password_hash=hashed,
            must_change_password=False,
            password_changed_at=func.now(),
            changed_at=func.now(),
            version=person.c.version + 1,
        )
    )
    ended = revoked = 0
    if sign_out_others:
        ended = sessions.end_all(connection, "password_changed", person_id=person_id, but=[session])
        revoked = connection.execute(
            update(device)
            .where(
                device.c.person_id == person_id,
                device.c.revoked_at.is_(None),
                device.c.id != (keep_device or ""),
            )
            .values(revoked_at=func.now(), revoked_because="password_changed", sealed_secret=None)
        ).rowcount
    record(connection, by, PasswordChanged(person=person_id, sessions_ended=ended, devices_revoked=revoked))
    return ended, revoked


def _store_administrator(
    connection: Connection, by: Actor, administrator_id: str, hashed: str, session: str
) -> tuple[int, int]:
    connection.execute(
        update(administrator)
        .where(administrator.c.id == administrator_id)
        .values(
            password_hash=hashed,
            must_change_password=False,
            password_changed_at=func.now(),
            changed_at=func.now(),
            version=administrator.c.version + 1,
        )
    )
    ended = sessions.end_all(connection, "password_changed", administrator_id=administrator_id, but=[session])
    record(connection, by, AdministratorPasswordChanged(administrator=administrator_id))
    return ended, 0
