"""Whatever administrators and people do, in any order: access, scope, log and versions are what a model says."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from auth_service import administrators, devices, granting, installations, leaving, people, sessions, tenant
from auth_service.scopes import Window
from passbook.audit import chain
from passbook.audit.chain import record
from passbook.audit.events import PersonErased, SessionRefreshed
from passbook.errors import Conflict, NotFound, Refused
from passbook.scope import NEEDS, PERMISSIONS, Scope
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.credentials import DatabaseCredentials
from sync_worker.scopes import load
from tests.support.actors import TESTER
from tests.support.api import HASH, Crowd
from tests.support.databases import Postgres
from tests.support.truth import events, gateway_tells

TODAY = date(2026, 7, 20)
WINDOWS = (Window(), Window(since=date(2026, 2, 15)), Window(months=3))
_SINCE = (None, date(2026, 2, 15), date(2026, 4, 1))
DEVICES = devices.Terms("http://127.0.0.1:8710", days=90, most=3)
SESSIONS = sessions.Terms(timedelta(days=30), timedelta(days=365), timedelta(minutes=10), timedelta(days=7))
KEYS = tuple(f"a key that came with request {number}" for number in range(2))
CLIENTS = (11, 12, 13, 14, 15)

#: An event as it is expected: its name, and the ids and facts that it must tell.
Told = tuple[str, dict[str, Any]]


@dataclass
class Soul:
    """A person as the model has them."""

    id: str
    username: str
    kind: str = "customer"
    clients: set[int] = field(default_factory=set)
    permissions: set[str] = field(default_factory=lambda: set(PERMISSIONS))
    window: int = 0
    suspended: bool = False
    version: int = 1
    changes: list[str] = field(default_factory=lambda: ["created"])

    def changed(self, what: str | None = None) -> None:
        self.version += 1
        if what is not None:
            self.changes.append(what)

    @property
    def scope(self) -> Scope:
        types = frozenset(kind for kind, needed in NEEDS.items() if needed <= self.permissions)
        return Scope(frozenset(self.clients), frozenset(self.permissions), types, _SINCE[self.window])


@dataclass
class Gadget:
    """A device as the model has it, with the secret that only its owner knows."""

    id: str
    secret: str
    owner: Soul
    key: str | None
    #: The phone that it is on.
    phone: Any
    #: When it was registered, in acts.
    born: int
    #: Why it was revoked.
    revoked: str = ""
    expired: bool = False

    @property
    def active(self) -> bool:
        return not (self.revoked or self.expired)


@dataclass
class Visit:
    """A session, on the phone that it has shown to be on."""

    id: str
    owner: Soul
    #: When it was begun, in acts.
    born: int
    phone: Any = None
    #: Why it has ended, and when.
    ended: str = ""
    ended_at: int = 0


@dataclass
class Ticket:
    """A refresh token: unspent, spent a moment ago (`fresh`), some days ago (`recent`), or long ago."""

    text: str
    visit: Visit
    parent: Ticket | None
    access_id: str
    spent: bool = False
    fresh: bool = False
    recent: bool = False
    #: Whether its access token was used.
    arrived: bool = False


class World:
    """The service database and the model of it, side by side: every act is done to both."""

    def __init__(self, database: ServiceDatabase, gateway: DatabaseCredentials, runner: asyncio.Runner) -> None:
        self.database = database
        self.gateway = gateway
        self.runner = runner
        self.open = True
        self.souls: list[Soul] = []
        self.gone: set[str] = set()
        self.leaving: list[str] = []
        self.gadgets: list[Gadget] = []
        self.visits: list[Visit] = []
        self.tickets: list[Ticket] = []
        self.told: list[Told] = []
        self.refreshes: Counter[str] = Counter()
        self.acts = 0
        self._seen = 0
        self._numbers = itertools.count(1)
        for number in range(3):
            self.create(number)
        self.check()

    # Acts. Each returns nothing; what it must have done is in the model, and the events in `told`.

    def create(self, number: int) -> None:
        """Somebody new at this place; the user name of whoever was deleted there is free again."""
        username = f"somebody {number}"
        if any(soul.username == username and soul.id not in self.gone for soul in self.souls):
            with pytest.raises(Conflict), self.database.begin() as connection:
                people.add(
                    connection, TESTER, username=username.upper(), kind="agent", clients=(), password_hash=HASH
                )
            return
        with self.database.begin() as connection:
            made = people.add(
                connection,
                TESTER,
                username=username,
                kind="customer",
                clients=CLIENTS[:2],
                password_hash=HASH,
            )
        soul = Soul(made.person, username, clients=set(CLIENTS[:2]))
        self.souls = [*self.souls[:number], soul, *self.souls[number + 1 :]]
        self._tell("PersonCreated", soul, kind="customer", clients=list(CLIENTS[:2]), permissions=list(PERMISSIONS))

    def link(self, number: int, clients: set[int]) -> None:
        with self._somebody(number) as (soul, connection):
            granting.link(connection, TESTER, soul.username, clients)
            if new := sorted(clients - soul.clients):
                soul.clients |= clients
                soul.changed("clients")
                self._tell("ClientsLinked", soul, clients=new)

    def unlink(self, number: int, clients: set[int]) -> None:
        with self._somebody(number) as (soul, connection):
            if clients - soul.clients and soul.id not in self.gone:
                with pytest.raises(Refused, match="not linked"):
                    granting.unlink(connection, TESTER, soul.id, clients)
                return
            granting.unlink(connection, TESTER, soul.id, clients)
            if clients:
                soul.clients -= clients
                soul.changed("clients")
                self._tell("ClientsUnlinked", soul, clients=sorted(clients))

    def permit(self, number: int, permissions: set[str], window: int | None) -> None:
        with self._somebody(number) as (soul, connection):
            granting.permit(
                connection,
                TESTER,
                soul.id,
                only=tuple(permissions),
                window=None if window is None else WINDOWS[window],
            )
            wanted = soul.window if window is None else window
            if permissions != soul.permissions or wanted != soul.window:
                before, soul.permissions, soul.window = _facts(soul), permissions, wanted
                soul.changed("permissions")
                self._tell("PermissionsChanged", soul, before=before, after=_facts(soul))

    def rename(self, number: int, kind: str) -> None:
        with self._somebody(number) as (soul, connection):
            people.change(connection, TESTER, soul.id, username=soul.username, kind=kind, version=soul.version)
            if kind != soul.kind:
                soul.kind = kind
                soul.changed("permissions")
                self._tell("PersonChanged", soul, changed=["kind"])

    def suspend(self, number: int) -> None:
        with self._somebody(number) as (soul, connection):
            people.suspend(connection, TESTER, soul.username.upper())
            if not soul.suspended:
                soul.suspended = True
                soul.changed()
                self._tell("PersonSuspended", soul)

    def restore(self, number: int) -> None:
        with self._somebody(number) as (soul, connection):
            people.restore(connection, TESTER, soul.id)
            if soul.suspended:
                soul.suspended = False
                soul.changed()
                self._tell("PersonRestored", soul)

    def register(self, number: int, key: str | None, with_session: int | None = None) -> None:
        going = [one for one in self.visits if one.owner is self.souls[number] and not one.ended]
        visit = None if with_session is None else _pick(going, with_session)
        register = partial(
            devices.add, terms=DEVICES, idempotency_key=key, session=visit.id if visit is not None else None
        )
        with self._somebody(number) as (soul, connection):
            before = next((one for one in self.gadgets if key and (one.owner, one.key) == (soul, key)), None)
            active = [one for one in self.gadgets if one.owner is soul and one.active]
            refusal = (
                "suspended"
                if soul.suspended
                else "idempotency_key_used"
                if before and before.revoked
                else "too_many_devices"
                if not before and len(active) >= DEVICES.most
                else ""
            )
            if refusal and soul.id not in self.gone:
                with pytest.raises(Refused) as refused:
                    register(connection, TESTER, soul.id)
                assert refused.value.code == refusal
                return
            made = register(connection, TESTER, soul.id)
            if visit is not None and visit.phone is None:
                visit.phone = object()
            if before is not None:
                assert (made.device, made.password) == (before.id, before.secret)
                if visit is not None:
                    self._are_one(soul, before.phone, visit.phone)
                return
            phone = visit.phone if visit else object()
            self.gadgets.append(Gadget(made.device, made.password, soul, key, phone, self.acts))
            self._tell("DeviceRegistered", soul, device=made.device)

    def revoke(self, which: int, by_its_person: int | None, with_session: int | None = None) -> None:
        gadget = _pick(self.gadgets, which)
        if gadget is None:
            return
        mine = None if by_its_person is None else self.souls[by_its_person]
        with self.database.begin() as connection:
            if gadget.owner.id in self.gone or (mine is not None and mine is not gadget.owner):
                with pytest.raises(NotFound):
                    devices.revoke(connection, TESTER, gadget.id, person_id=mine.id if mine else None)
                return
            going = [one for one in self.visits if one.owner is mine and not one.ended]
            visit = None if with_session is None else _pick(going, with_session)
            devices.revoke(
                connection,
                TESTER,
                gadget.id,
                person_id=mine.id if mine else None,
                session=visit.id if visit else None,
            )
        because = "institution"
        if visit is not None:
            because = "signed_out" if visit.phone == gadget.phone else "other_device"
        self._revoked([gadget], because)

    def revoke_many(self, which: set[int]) -> None:
        there = [one for one in self.gadgets if one.owner.id not in self.gone]
        chosen = {one.id: one for one in (_pick(there, number) for number in which) if one is not None}
        with self.database.begin() as connection:
            devices.revoke_many(connection, TESTER, list(chosen), reason="")
        self._revoked(list(chosen.values()), "institution")

    def expire(self, which: int) -> None:
        gadget = _pick(self.gadgets, which)
        if gadget is not None:
            gadget.expired = True
            long_ago = datetime.now(UTC) - timedelta(seconds=1)
            with self.database.begin() as connection:
                connection.execute(
                    update(tables.device).where(tables.device.c.id == gadget.id).values(expires_at=long_ago)
                )

    def sign_in(self, number: int, key: str | None = None) -> None:
        """A session, as a right password gives it, on the phone that has this installation key."""
        soul = self.souls[number]
        if soul.id in self.gone or soul.suspended or not self.open:
            return
        with self.database.begin() as connection:
            opened = sessions.start(
                connection,
                sessions.Principal(person=soul.id),
                SESSIONS,
                installation=installations.of_key(soul.id, key) if key else None,
            )
        visit = Visit(opened.session, soul, self.acts, (soul.id, key) if key else None)
        self.visits.append(visit)
        self.tickets.append(Ticket(opened.refresh_token, visit, None, opened.access_id))

    def refresh(self, which: int) -> None:
        ticket = _pick(self.tickets, which)
        if ticket is None:
            return
        with self.database.begin() as connection:
            result = sessions.refresh(connection, TESTER, ticket.text, SESSIONS, administrators=False)
        expected = self._refusal(ticket)
        assert (result.code if isinstance(result, sessions.Ended) else "") == expected
        if not isinstance(result, sessions.Ended):
            if not ticket.spent:
                ticket.spent = ticket.fresh = ticket.recent = True
                for other in self.tickets:
                    if other is not ticket and ticket.parent and other.parent is ticket.parent and not other.spent:
                        other.spent = True
            self.tickets.append(Ticket(result.refresh_token, ticket.visit, ticket, result.access_id))
            self.refreshes[ticket.visit.owner.id] += 1
            if self.refreshes[ticket.visit.owner.id] <= (SessionRefreshed.in_full or 0):  # more are counted
                self._tell("SessionRefreshed", ticket.visit.owner, session=ticket.visit.id)
        elif expected == "session_ended" and not ticket.visit.ended and ticket.visit.owner.id not in self.gone:
            assert result.because == "token_reused"
            self._over(ticket.visit, "token_reused")  # a spent token that comes again was stolen
            self._tell("RefreshTokenReused", ticket.visit.owner, session=ticket.visit.id)

    def arrive(self, which: int) -> None:
        """The access token that came with a refresh token is used."""
        ticket = _pick(self.tickets, which)
        if ticket is not None:
            sessions.arrived(self.database, ticket.access_id)
            ticket.arrived = True

    def depart(self, which: int, with_device: int | None = None) -> None:
        """Sign out the phone of a session, with any of its tokens; the device may be named too."""
        ticket = _pick(self.tickets, which)
        if ticket is None:
            return
        visit = ticket.visit
        soul = visit.owner
        own = [one for one in self.gadgets if one.owner is soul]
        gadget = None if with_device is None else _pick(own, with_device)
        phones = [phone for phone in (visit.phone, gadget.phone if gadget else None) if phone is not None]
        elsewhere = gadget is not None and gadget.phone != visit.phone and not gadget.revoked
        with self.database.begin() as connection:
            if soul.id in self.gone or (visit.ended and elsewhere):
                with pytest.raises(sessions.Ended):
                    leaving.sign_out(connection, TESTER, visit.id, device_id=gadget.id if gadget else None)
                return
            done = leaving.sign_out(connection, TESTER, visit.id, device_id=gadget.id if gadget else None)
        until = visit.ended_at if visit.ended else self.acts
        gone = [one for one in own if one.phone in phones and not one.revoked and one.born <= until]
        over = [
            one
            for one in self.visits
            if one.owner is soul and not one.ended and (one is visit or one.phone in phones) and one.born <= until
        ]
        assert done == (len(over), len(gone))
        for left in gone:
            left.revoked = "signed_out"
        for ended in over:
            self._over(ended, "signed_out")
        for number, name in enumerate(sorted(one.id for one in gone)):
            self._tell("DeviceRevoked", soul, device=name, sessions_ended=0 if number else len(over))
        for name in sorted(one.id for one in over) if not gone else ():
            self._tell("SessionEnded", soul, session=name)

    def leave(self, which: int) -> None:
        """End the session of a refresh token, whatever became of it."""
        ticket = _pick(self.tickets, which)
        if ticket is None:
            return
        with self.database.begin() as connection:
            sessions.sign_out(connection, TESTER, ticket.text, administrators=False)
        if not ticket.visit.ended and ticket.visit.owner.id not in self.gone:
            self._over(ticket.visit, "signed_out")
            self._tell("SessionEnded", ticket.visit.owner, session=ticket.visit.id)

    def wait(self, for_days: bool = False) -> None:
        """The time passes in which a refresh is repeated; with `for_days` also if its answer was never used."""
        for ticket in self.tickets:
            ticket.fresh = False
            ticket.recent = ticket.recent and not for_days
        token = tables.refresh_token
        passed = SESSIONS.lost if for_days else SESSIONS.grace
        with self.database.begin() as connection:
            spent = token.c.spent_at.is_not(None)
            connection.execute(update(token).where(spent).values(spent_at=token.c.spent_at - passed))

    def reset_password(self, number: int, revoke_devices: bool) -> None:
        with self._somebody(number) as (soul, connection):
            changed = people.reset_password(connection, TESTER, soul.id, HASH, revoke_devices=revoke_devices)
            assert changed.must_change_password
            soul.changed()
            self._all_out("PasswordReset", soul, revoke_devices, "password_changed")

    def sign_out(self, number: int, revoke_devices: bool) -> None:
        with self._somebody(number) as (soul, connection):
            people.sign_out(connection, TESTER, soul.id, revoke_devices=revoke_devices)
            self._all_out("PersonSignedOut", soul, revoke_devices, "institution")

    def switch(self, to_open: bool) -> None:
        with self.database.begin() as connection:
            assert tenant.switch(connection, TESTER, to_open=to_open, reason="").open == to_open
        if to_open != self.open:
            self.open = to_open
            self.told.append(("TenantOpened" if to_open else "TenantClosed", {"person": None, "device": None}))

    def delete(self, number: int) -> None:
        with self._somebody(number) as (soul, connection):
            people.begin_deletion(connection, TESTER, soul.username)
            self.gone.add(soul.id)
            self.leaving.append(soul.id)
            self._tell("PersonDeleted", soul)

    def finish(self) -> None:
        """What the worker does with those on the way out, once their databases are gone."""
        for person_id in self.leaving:
            with self.database.begin() as connection:
                connection.execute(delete(tables.person).where(tables.person.c.id == person_id))
                record(connection, TESTER, PersonErased(person=person_id))
            self.told.append(("PersonErased", {"person": person_id, "device": None}))
        self.leaving = []

    # What must hold after every act.

    def check(self) -> None:
        """Assert that the database is as the model says."""
        self.acts += 1
        self._check_log()
        self._check_people()
        self._check_tokens()
        self.runner.run(self._check_credentials())

    def _check_log(self) -> None:
        rows = events(self.database, self._seen)
        facts = [{"person": row.person, "device": row.device, **row.detail} for row in rows]
        for one in facts:
            assert one.pop("administrator", None) is None
        assert list(zip([row.event for row in rows], facts, strict=True)) == self.told
        self._seen, self.told = self._seen + len(rows), []
        with self.database.begin() as connection:
            verdict = chain.verify(connection)
        assert verdict.ok, verdict

    def _check_people(self) -> None:
        change = tables.scope_change
        there = [soul for soul in self.souls if soul.id not in self.gone]
        with self.database.begin() as connection:
            holders, leavers = load(connection, TODAY)
            shown = {soul.id: people.show(connection, soul.username) for soul in there}
            pending: dict[str, list[str]] = {}
            for row in connection.execute(select(change).where(change.c.done_at.is_(None)).order_by(change.c.id)):
                pending.setdefault(row.person_id, []).append(row.what)
        assert {one.id: (one.kind, one.scope) for one in holders} == {
            soul.id: (soul.kind, soul.scope) for soul in there
        }
        assert sorted(one.id for one in leavers) == sorted(self.leaving)
        assert pending == {soul.id: soul.changes for soul in there}
        for soul in there:
            found = shown[soul.id]
            assert found.version == soul.version
            assert found.state == ("suspended" if soul.suspended else "active")
            assert found.pending_changes == len(soul.changes)
            assert found.devices == sum(one.active for one in self.gadgets if one.owner is soul)

    def _check_tokens(self) -> None:
        for ticket in self.tickets:
            refusal = self._refusal(ticket)
            there = ticket.visit.owner.id not in self.gone
            because = ticket.visit.ended or "token_reused" if refusal == "session_ended" and there else None
            assert self._would_refresh(ticket) == (refusal, because), ticket

    def _would_refresh(self, ticket: Ticket) -> tuple[str, str | None]:
        """What became of an exchange, which is then taken back."""
        with self.database.engine.connect() as connection:
            connection.info[chain.PENDING] = chain.Pending()
            result = sessions.refresh(connection, TESTER, ticket.text, SESSIONS, administrators=False)
            connection.rollback()
        return (result.code, result.because) if isinstance(result, sessions.Ended) else ("", None)

    async def _check_credentials(self) -> None:
        for gadget in self.gadgets:
            answer = self._answer(gadget)
            because = gadget.revoked if answer == "revoked" else None
            assert await gateway_tells(self.gateway, gadget.id, gadget.secret) == (answer, because)
            # Who has not the secret learns nothing.
            wrong = f"{gadget.secret[:-1]}!"
            assert await gateway_tells(self.gateway, gadget.id, wrong) == ("unknown", None)
        for gadget, other in itertools.pairwise(self.gadgets):
            assert await gateway_tells(self.gateway, gadget.id, other.secret) == ("unknown", None)

    def _answer(self, gadget: Gadget) -> str:
        if gadget.owner.id in self.gone:
            return "unknown"
        if gadget.revoked:
            return "revoked"
        if gadget.owner.suspended:
            return "suspended"
        if gadget.expired:
            return "expired"
        return gadget.owner.id if self.open else "maintenance"

    def _refusal(self, ticket: Ticket) -> str:
        if ticket.visit.ended or ticket.visit.owner.id in self.gone:
            return "session_ended"
        if not self.open:
            return "maintenance"
        if ticket.visit.owner.suspended:
            return "suspended"
        succeeded = any(other.spent for other in self.tickets if other.parent is ticket)
        arrived = any(other.arrived for other in self.tickets if other.parent is ticket)
        again = ticket.fresh or (ticket.recent and not arrived)
        return "session_ended" if ticket.spent and (succeeded or not again) else ""

    @contextmanager
    def _somebody(self, number: int) -> Iterator[tuple[Soul, Any]]:
        """The person at this place, and a transaction; for one who was deleted, nothing may be found."""
        soul = self.souls[number]
        with self.database.begin() as connection:
            if soul.id in self.gone:
                with pytest.raises(NotFound):
                    yield soul, connection
            else:
                yield soul, connection

    def _are_one(self, soul: Soul, phone: Any, other: Any) -> None:
        """Two phones of somebody turn out to be one."""
        for one in (*self.gadgets, *self.visits):
            if one.owner is soul and one.phone == phone:
                one.phone = other

    def _over(self, visit: Visit, because: str) -> None:
        visit.ended, visit.ended_at = because, self.acts

    def _revoked(self, chosen: list[Gadget], because: str) -> None:
        """These devices are revoked, and with each all that was begun on its phone or nobody knows where."""
        phones = [(one.owner.id, one.phone) for one in chosen if not one.revoked]
        gone = [one for one in self.gadgets if not one.revoked and (one.owner.id, one.phone) in phones]
        for gadget in gone:
            gadget.revoked = because
        ended: dict[str, int] = {}
        for soul in {one.owner.id: one.owner for one in gone}.values():
            elsewhere = [one.phone for one in self.gadgets if one.owner is soul and not one.revoked]
            over = [
                one for one in self.visits if one.owner is soul and not one.ended and one.phone not in elsewhere
            ]
            for ending in over:
                self._over(ending, because)
            ended[soul.id] = len(over)
        for gadget in sorted(gone, key=lambda one: one.id):
            sessions_ended = ended.pop(gadget.owner.id, 0)
            self._tell("DeviceRevoked", gadget.owner, device=gadget.id, sessions_ended=sessions_ended)

    def _end_sessions(self, soul: Soul, because: str) -> int:
        going = [visit for visit in self.visits if visit.owner is soul and not visit.ended]
        for visit in going:
            self._over(visit, because)
        return len(going)

    def _all_out(self, event: str, soul: Soul, revoke_devices: bool, because: str) -> None:
        ended, revoked = self._end_sessions(soul, because), 0
        if revoke_devices:
            active = [one for one in self.gadgets if one.owner is soul and not one.revoked]
            revoked = len(active)
            for gadget in active:
                gadget.revoked = because
        self._tell(event, soul, sessions_ended=ended, devices_revoked=revoked)

    def _tell(self, event: str, soul: Soul, **facts: Any) -> None:
        self.told.append((event, {"person": soul.id, "device": None, **facts}))


def _facts(soul: Soul) -> dict[str, Any]:
    window = WINDOWS[soul.window]
    return {
        "permissions": [one for one in PERMISSIONS if one in soul.permissions],
        "history_from": window.since.isoformat() if window.since else None,
        "history_months": window.months,
    }


def _pick(things: list[Any], which: int) -> Any:
    return things[which % len(things)] if things else None


_WHO = st.integers(0, 2)
_WHICH = st.integers(0, 8)
_SOME_CLIENTS = st.sets(st.sampled_from(CLIENTS), max_size=3)
_ACTS = st.one_of(
    st.tuples(st.just("register"), _WHO, st.none() | st.sampled_from(KEYS), st.none() | _WHICH),
    st.tuples(st.just("register"), _WHO, st.sampled_from(KEYS)),
    st.tuples(st.just("sign_in"), _WHO, st.none() | st.sampled_from(KEYS)),
    st.tuples(st.just("refresh"), _WHICH),
    st.tuples(st.just("refresh"), st.integers(-2, -1)),
    st.tuples(st.just("wait"), st.booleans()),
    st.tuples(st.just("arrive"), _WHICH),
    st.tuples(st.just("leave"), _WHICH),
    st.tuples(st.just("depart"), _WHICH, st.none() | _WHICH),
    st.tuples(st.just("revoke"), _WHICH, st.none() | _WHO, st.none() | _WHICH),
    st.tuples(st.just("revoke_many"), st.sets(_WHICH, max_size=3)),
    st.tuples(st.just("expire"), _WHICH),
    st.tuples(st.just("link"), _WHO, _SOME_CLIENTS),
    st.tuples(st.just("unlink"), _WHO, _SOME_CLIENTS),
    st.tuples(st.just("permit"), _WHO, st.sets(st.sampled_from(PERMISSIONS)), st.none() | st.integers(0, 2)),
    st.tuples(st.just("rename"), _WHO, st.sampled_from(people.KINDS)),
    st.tuples(st.just("suspend"), _WHO),
    st.tuples(st.just("restore"), _WHO),
    st.tuples(st.just("reset_password"), _WHO, st.booleans()),
    st.tuples(st.just("sign_out"), _WHO, st.booleans()),
    st.tuples(st.just("switch"), st.booleans()),
    st.tuples(st.just("delete"), _WHO),
    st.tuples(st.just("create"), _WHO),
    st.tuples(st.just("finish")),
)


@contextmanager
def world(pg: Postgres, migrated: str) -> Iterator[World]:
    """A world of its own, with three people in it."""
    with pg.database(migrated) as url, asyncio.Runner() as runner:
        database = ServiceDatabase(url)
        gateway = DatabaseCredentials.at(url)
        try:
            yield World(database, gateway, runner)
        finally:
            runner.run(gateway.close())
            database.dispose()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(history=st.lists(_ACTS, min_size=8, max_size=25))
def test_any_history_ends_in_what_the_model_says(pg: Postgres, migrated: str, history: list[Any]) -> None:
    with world(pg, migrated) as one:
        for name, *arguments in history:
            getattr(one, name)(*arguments)
            one.check()


#: Histories that matter and that chance may not find.
_LIVES: dict[str, list[Any]] = {
    "a stolen refresh token": [("sign_in", 0), ("refresh", 0), ("refresh", 1), ("refresh", 0), ("refresh", 2)],
    "a lost answer": [("sign_in", 0), ("refresh", 0), ("refresh", 0), ("refresh", 2), ("refresh", 1)],
    "an answer lost for days": [("sign_in", 0), ("refresh", 0), ("wait",), ("refresh", 0), ("refresh", 1)],
    "a late repetition": [("sign_in", 0), ("refresh", 0), ("wait", True), ("refresh", 0), ("refresh", 1)],
    "a late repetition though the answer arrived": [
        ("sign_in", 0),
        ("refresh", 0),
        ("arrive", 1),
        ("refresh", 0),
        ("wait",),
        ("refresh", 0),
        ("refresh", 1),
    ],
    "signed out, and in again": [
        ("sign_in", 0, KEYS[0]),
        ("register", 0, None, 0),
        ("sign_in", 0, KEYS[0]),
        ("sign_in", 0),
        ("sign_in", 0, KEYS[1]),
        ("register", 0, None, 3),
        ("depart", 0),
        ("depart", 0),
        ("sign_in", 0, KEYS[0]),
        ("register", 0, None, 2),
        ("depart", 0),
        ("depart", 1),
        ("depart", 2, 1),
        ("depart", 2, 2),
        ("depart", 4),
    ],
    "signed out with a token of a session that is over": [
        ("sign_in", 0, KEYS[0]),
        ("register", 0, None, 0),
        ("reset_password", 0, False),
        ("sign_in", 0, KEYS[0]),
        ("depart", 0),
        ("depart", 0),
        ("suspend", 0),
        ("depart", 1),
        ("delete", 0),
        ("depart", 1),
    ],
    "suspended and back": [
        ("sign_in", 0),
        ("register", 0, KEYS[0]),
        ("suspend", 0),
        ("register", 0, KEYS[0]),
        ("refresh", 0),
        ("restore", 0),
        ("refresh", 0),
        ("register", 0, KEYS[0]),
        ("suspend", 0),
        ("suspend", 0),
        ("delete", 0),
        ("create", 0),
        ("finish",),
        ("register", 0, KEYS[0]),
    ],
    "a key used again": [
        ("register", 0, KEYS[0]),
        ("register", 1, KEYS[0]),
        ("register", 0, KEYS[0]),
        ("revoke", 0, 1),
        ("revoke", 0, 0),
        ("register", 0, KEYS[0]),
        ("register", 0, KEYS[1]),
        ("reset_password", 0, True),
        ("register", 0, KEYS[1]),
    ],
    "too many devices": [
        *[("register", 2, None)] * 4,
        ("expire", 0),
        ("register", 2, KEYS[0]),
        ("register", 2, None),
        ("register", 2, KEYS[0]),
        ("revoke", 1, None),
        ("register", 2, None),
        ("sign_out", 2, True),
        ("register", 2, None),
    ],
    "a stolen phone": [
        ("sign_in", 0),
        ("sign_in", 0),
        ("register", 0, KEYS[0], 1),
        ("refresh", 1),
        ("register", 0, KEYS[0], 1),
        ("register", 0, None),
        ("revoke", 1, None),
        ("revoke", 0, None),
        ("refresh", 0),
        ("refresh", 2),
        ("register", 0, None, 0),
        ("revoke", 0, None),
    ],
    "a stolen phone among two": [
        ("sign_in", 0, KEYS[0]),
        ("register", 0, None, 0),
        ("sign_in", 0, KEYS[1]),
        ("register", 0, None, 1),
        ("sign_in", 0, KEYS[0]),
        ("sign_in", 0),
        ("register", 0, None, 2),
        ("revoke", 0, 0),
        *[("refresh", one) for one in range(4)],
        ("register", 0, None, 0),
    ],
    "two phones that are one": [
        ("sign_in", 0, KEYS[0]),
        ("sign_in", 0, KEYS[1]),
        ("register", 0, KEYS[0], 0),
        ("register", 0, None, 1),
        ("register", 0, KEYS[0], 1),
        ("revoke_many", {1}),
        ("refresh", 0),
    ],
    "what changes nothing": [
        ("link", 0, {11, 12}),
        ("link", 0, set()),
        ("unlink", 0, {13}),
        ("unlink", 0, set()),
        ("permit", 0, set(PERMISSIONS), 0),
        ("permit", 0, set(PERMISSIONS), None),
        ("rename", 0, "customer"),
        ("restore", 0),
        ("create", 0),
        ("switch", True),
        ("finish",),
    ],
    "what a person may see": [
        ("link", 0, {12, 13}),
        ("unlink", 0, {11, 13}),
        ("permit", 0, {"profile", "transactions"}, 1),
        ("permit", 0, {"profile", "transactions"}, 2),
        ("suspend", 0),
        ("permit", 0, set(), None),
        ("rename", 0, "agent"),
        ("unlink", 0, {12}),
        ("delete", 0),
        ("create", 0),
    ],
    "access switched off and on": [
        ("sign_in", 1),
        ("register", 1, None),
        ("switch", True),
        ("switch", False),
        ("switch", False),
        ("refresh", 0),
        ("suspend", 1),
        ("switch", True),
        ("restore", 1),
    ],
}


@pytest.mark.parametrize("name", _LIVES)
def test_lives_worth_telling(pg: Postgres, migrated: str, name: str) -> None:
    with world(pg, migrated) as one:
        for act, *arguments in _LIVES[name]:
            getattr(one, act)(*arguments)
            one.check()


def test_nobody_is_named_as_somebody_elses_id(database: ServiceDatabase, crowd: Crowd) -> None:
    """People are found by name or id: with such a name, one would be taken for the other."""
    amina, olga = crowd.person("amina"), crowd.administrator("olga", "owner")
    baraka = crowd.person("baraka")
    for name in (amina, amina.upper(), f" {amina}\u2003", olga, "person-" + "0" * 32):
        for act in (
            lambda connection, name=name: people.change(connection, TESTER, baraka, username=name),
            lambda connection, name=name: people.add(
                connection, TESTER, username=name, kind="agent", clients=(), password_hash=HASH
            ),
            lambda connection, name=name: administrators.add(
                connection, TESTER, username=name, role="owner", password_hash=HASH
            ),
        ):
            with pytest.raises(Refused, match="looks like an id"):
                database.run(act)
    crowd.person("person-1")
    assert database.run(people.show, amina).username == "amina"
