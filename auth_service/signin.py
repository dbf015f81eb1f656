"""Proving who one is: the name and the password, the waits for those who guess, and the session that follows.

A name that nobody has costs the same work, the same waits and gets the same answer as a wrong password. The
password is hashed between two transactions, never inside one.
"""

from __future__ import annotations

import asyncio
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, func, select, update

from auth_service import passwords, sessions
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
    ) -> None:
        self._database = database
        self._hashing = hashing
        self._limits = limits
        self._metrics = metrics
        self._terms = terms

    async def with_password(
        self, by: Actor, address: str, username: str, password: str, *, audience: Audience
    ) -> sessions.Opened:
        """A session for whoever has this name and password.

        Raises `NotAuthenticated` (code `unknown`) if nobody has, `NotPermitted` (`suspended`, `maintenance`) if
        they are kept out, `TooMany` when they must wait.
        """
        username = typed(username)
        proof = await self._prove(by, address, username, password, audience)
        opened = await asyncio.to_thread(self._open, by, username, proof)
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

        Raises what `with_password` does for a wrong present password, and `WeakPassword`.
        """
        proof = await self._prove(by, address, username, current, audience, changing=True)
        try:
            hashed = await self._hashing.hash(new, username=username)
        except PassbookError:
            # The present password was right; that the new one will not do is held against nobody.
            await asyncio.to_thread(self._database.run, self._limits.withdraw, proof.attempt, proof.admission)
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

    async def _prove(
        self, by: Actor, address: str, username: str, password: str, audience: Audience, *, changing: bool = False
    ) -> _Proof:
        """The account whose password this is; else raises, with everything noted."""
        attempt = Attempt.of(audience, username, address)
        try:
            self._limits.recall(attempt)
            account, admission = await asyncio.to_thread(self._admit, by, attempt, username, audience)
            try:
                right = await self._hashing.verify(account.password_hash, password, priority=admission.familiar)
            except TooMany:
                # Nobody looked at the password, so nothing is held against the account.
                await asyncio.to_thread(self._database.run, self._limits.withdraw, attempt, admission)
                raise
        except TooMany as error:
            self._metrics.outcome("sign_in", f"slowed_{error.limit}", audience)
            raise
        if account.id is not None and right:
            return _Proof(account, attempt, admission)
        await asyncio.to_thread(self._note_failure, by, account, changing)
        self._metrics.outcome("sign_in", "unknown_name" if account.id is None else "wrong_password", audience)
        raise NotAuthenticated

    def _admit(self, by: Actor, attempt: Attempt, username: str, audience: Audience) -> tuple[_Account, Admission]:
        with self._database.begin() as connection:
            account = _account(connection, audience, username)
            admission = self._limits.admit(connection, attempt, account.id)
            if admission.refusal is not None and admission.refusal.began:
                slowed = SignInSlowed(
                    audience=audience,
                    limit=admission.refusal.limit,
                    seconds=admission.refusal.retry_after,
                    person=account.person,
                    administrator=account.administrator,
                )
                record(connection, by, slowed)
        if admission.refusal is not None:
            raise admission.refusal
        return account, admission

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

    def _open(self, by: Actor, username: str, proof: _Proof) -> sessions.Opened | NotPermitted | NotAuthenticated:
        """A session for an account that has proved itself.

        Errors are returned and not raised: what was noted must be committed.
        """
        audience = proof.account.audience
        with self._database.begin() as connection:
            now = _account(connection, audience, username, lock="share")
            if now.id is None or now.id != proof.account.id or now.password_hash != proof.account.password_hash:
                return NotAuthenticated()  # changed while the password was hashed
            self._limits.succeeded(connection, proof.attempt, proof.admission, now.id)
            why = "" if now.state == "active" else "suspended"
            if not why and not now.tenant_open:
                why = "maintenance"
            if why:
                failed = SignInFailed(
                    audience=audience, why=why, person=now.person, administrator=now.administrator
                )
                record(connection, by, failed)
                self._metrics.outcome("sign_in", why, audience)
                return NotPermitted(sessions.REFUSALS[why], code=why)
            opened = sessions.start(
                connection,
                sessions.Principal(now.person, now.administrator),
                self._terms[audience == ADMINISTRATORS],
            )
            signed_in: Event
            if now.person is not None:
                signed_in = PersonSignedIn(person=now.person, session=opened.session)
            else:
                signed_in = AdministratorSignedIn(administrator=now.id, session=opened.session)
            record(connection, by, signed_in)
        return replace(opened, must_change_password=now.must_change_password)


def typed(username: str) -> str:
    """A user name as it was typed, in the form in which names are kept and counted."""
    return unicodedata.normalize("NFKC", username).strip().replace("\0", "\ufffd")[:_LONGEST_NAME]


def _account(
    connection: Connection, audience: Audience, username: str, *, lock: Literal["share", "update"] | None = None
) -> _Account:
    """Who has this name; for nobody, an account that no password opens."""
    table = person if audience == PEOPLE else administrator
    columns = (table.c.id, table.c.password_hash, table.c.state, table.c.must_change_password)
    query = select(*columns, tenant.c.open).join(tenant, tenant.c.singleton)
    query = query.where(func.lower(table.c.username) == func.lower(username), table.c.state != "deleting")
    if lock is not None:
        query = query.with_for_update(of=table, read=lock == "share")
    row = connection.execute(query).one_or_none()
    if row is None:
        return _Account(audience, None, passwords.DUMMY_HASH, "active", False, True)
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
        ended = sessions.end_all(connection, person_id=person_id, but=[session])
        revoked = connection.execute(
            update(device)
            .where(
                device.c.person_id == person_id,
                device.c.revoked_at.is_(None),
                device.c.id != (keep_device or ""),
            )
            .values(revoked_at=func.now(), sealed_secret=None)
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
            changed_at=func.now(),
            version=administrator.c.version + 1,
        )
    )
    ended = sessions.end_all(connection, administrator_id=administrator_id, but=[session])
    record(connection, by, AdministratorPasswordChanged(administrator=administrator_id))
    return ended, 0
