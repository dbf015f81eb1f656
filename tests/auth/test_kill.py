"""SIGKILL at any moment of any write: all of it is done or nothing, and asking again makes it good.

A real process is killed when it sends a certain message to PostgreSQL: before PostgreSQL gets it, or when it has
carried it out and the answer is on its way. Then another process is asked the same.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aiohttp
import pytest
from sqlalchemy import delete, select

from auth_service import devices, keys, passwords, people, tenant
from passbook.couch import CouchClient
from passbook.erasure import erase
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.credentials import DatabaseCredentials
from tests.support import truth
from tests.support.actors import TESTER
from tests.support.api import PASSWORD, SECRET, Answer, Api, Crowd
from tests.support.postgres_door import Door, Victim, command, door, victim

NEW = "seven blue boats sail south"
REASON = {"reason": "a test that kills"}
ANY = {"If-Match": "*"}


class Theatre:
    """A service database, the door to it, and the auth service of the moment."""

    def __init__(
        self,
        service_url: str,
        door: Door,
        session: aiohttp.ClientSession,
        settings: dict[str, str],
        couchdb_url: str,
    ) -> None:
        self.database = ServiceDatabase(service_url)
        self.gateway = DatabaseCredentials.at(service_url)
        self.crowd = Crowd(self.database)
        self.door = door
        self.couchdb_url = couchdb_url
        self._session = session
        self._settings = settings
        self._victim: Victim | None = None
        self._numbers = itertools.count(1)
        self.api = Api("", session)
        self.olga = self.omar = ""

    async def begin(self) -> None:
        """Two owners, signed in."""
        self.database.run(keys.ensure, TESTER, SECRET)
        for name in ("olga", "omar"):
            self.crowd.administrator(name, "owner")
        await self.another()
        self.olga, self.omar = [await self.api.token(name, administrator=True) for name in ("olga", "omar")]

    async def another(self) -> None:
        """Another auth service, in the place of the one before."""
        await self.end()
        self._victim = await victim(self.door, self._settings, couchdb_url=self.couchdb_url)
        self.api = Api(self._victim.url, self._session)

    async def end(self) -> None:
        if self._victim is not None:
            await self._victim.stop()
            self._victim = None

    async def killed(self, request: Awaitable[Answer]) -> bool:
        """Send the request; whether its process was killed. One that was not has answered well."""
        try:
            answer = await request
        except aiohttp.ClientError:
            assert self.door.killed
            assert self._victim is not None
            assert await self._victim.died()
            return True
        assert not self.door.killed
        self.door.disarm()
        assert answer.status < 300, answer.body
        return False

    def name(self) -> str:
        return f"somebody {next(self._numbers)}"

    def forgive(self) -> None:
        """Forget attempts to sign in: those that were killed count as failures, as they should."""
        with self.database.begin() as connection:
            connection.execute(delete(tables.sign_in_counter))

    def events(self, person: str) -> list[str]:
        return [row.event for row in truth.events(self.database) if row.person == person]

    def one(self, query: Any) -> Any:
        with self.database.begin() as connection:
            return connection.execute(query).one()

    async def says(self, credential: Answer) -> str:
        """What the gateway says to a device."""
        return await truth.gateway_says(self.gateway, credential["username"], credential["password"])


@dataclass
class Scene:
    """One request with what it is about. A subclass for every way to write."""

    theatre: Theatre
    person: str = ""
    name: str = ""
    token: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    #: For the auth service of this scene.
    settings: ClassVar = {"PASSBOOK_DEVICES_PER_PERSON": "100"}

    async def prepare(self) -> None:
        """What must be there before."""
        self.name = self.theatre.name()
        self.person = self.theatre.crowd.person(self.name, clients=(1, 2))

    async def signed_in(self) -> Answer:
        self.theatre.forgive()
        answer = await self.theatre.api.sign_in(self.name)
        assert answer.status == 200, answer.body
        self.token = answer["access_token"]
        return answer

    async def registered(self) -> Answer:
        answer = await self.theatre.api.call("POST", "/devices", {}, token=self.token)
        assert answer.status == 201
        return answer

    def ask(self) -> Awaitable[Answer]:
        """The request under test."""
        raise NotImplementedError

    def happened(self) -> bool:
        """Whether it had its effect, all of it; asserts that it is not a part of it."""
        raise NotImplementedError

    async def again(self, happened: bool) -> None:
        """The same request once more, to another process."""
        answer = await self.ask()
        assert answer.status < 300, answer.body
        assert self.happened()

    def admin(self, method: str, path: str, body: Any = None, **headers: str) -> Awaitable[Answer]:
        return self.theatre.api.call(method, f"/admin{path}", body, token=self.theatre.olga, headers=headers)

    def row(self) -> Any:
        return self.theatre.one(select(tables.person).where(tables.person.c.id == self.person))

    def devices(self) -> list[devices.Device]:
        with self.theatre.database.begin() as connection:
            return devices.of_person(connection, self.person)


class SignIn(Scene):
    async def prepare(self) -> None:
        await super().prepare()
        self.theatre.forgive()

    def ask(self) -> Awaitable[Answer]:
        return self.theatre.api.sign_in(self.name)

    def happened(self) -> bool:
        return "PersonSignedIn" in self.theatre.events(self.person)

    async def again(self, happened: bool) -> None:
        await super().again(happened)
        # The session whose tokens nobody has got can be ended like any other.
        with self.theatre.database.begin() as connection:
            ended, _ = people.sign_out(connection, TESTER, self.person, revoke_devices=False)
        assert ended == 1 + happened


class AdministratorSignIn(Scene):
    async def prepare(self) -> None:
        self.theatre.forgive()
        self.facts = {"before": self.signed_in_so_far()}

    def ask(self) -> Awaitable[Answer]:
        return self.theatre.api.sign_in("omar", administrator=True)

    def happened(self) -> bool:
        return self.signed_in_so_far() > self.facts["before"]

    def signed_in_so_far(self) -> int:
        return [row.event for row in truth.events(self.theatre.database)].count("AdministratorSignedIn")


class Refresh(Scene):
    async def prepare(self) -> None:
        await super().prepare()
        self.facts = {"token": (await self.signed_in())["refresh_token"]}

    def ask(self) -> Awaitable[Answer]:
        return self.theatre.api.refresh(self.facts["token"])

    def happened(self) -> bool:
        return "SessionRefreshed" in self.theatre.events(self.person)

    async def again(self, happened: bool) -> None:
        answer = await self.ask()
        assert answer.status == 200, "an answer that was lost can be had again"
        next_one = await self.theatre.api.refresh(answer["refresh_token"])
        assert next_one.status == 200
        assert (await self.theatre.api.call("GET", "/me", token=next_one["access_token"])).status == 200
        assert self.theatre.events(self.person).count("SessionRefreshed") == 2 + happened


class SignOut(Refresh):
    def ask(self) -> Awaitable[Answer]:
        return self.theatre.api.call("POST", "/oauth/revoke", form={"token": self.facts["token"]})

    def happened(self) -> bool:
        return "SessionEnded" in self.theatre.events(self.person)

    async def again(self, happened: bool) -> None:
        await Scene.again(self, happened)
        assert (await self.theatre.api.call("GET", "/me", token=self.token)).code == "session_ended"


class Register(Scene):
    async def prepare(self) -> None:
        await super().prepare()
        await self.signed_in()
        self.facts = {"Idempotency-Key": f"a key at random for {self.name}".replace(" ", "-")}

    def ask(self) -> Awaitable[Answer]:
        return self.theatre.api.call("POST", "/devices", {"name": "phone"}, token=self.token, headers=self.facts)

    def happened(self) -> bool:
        return len(self.devices()) > 0

    async def again(self, happened: bool) -> None:
        before = [one.device for one in self.devices()]
        answer, repeated = await self.ask(), await self.ask()
        assert answer.status == 201
        assert answer.raw == repeated.raw
        (one,) = self.devices()
        assert one.device == answer["device"]
        assert before in ([], [one.device]), "the device of the first request is the one that is answered"
        assert await self.theatre.says(answer) == self.person
        assert self.theatre.events(self.person).count("DeviceRegistered") == 1


class RegisterWithoutKey(Register):
    async def prepare(self) -> None:
        await super().prepare()
        self.facts = {}

    async def again(self, happened: bool) -> None:
        answer = await self.ask()
        assert len(self.devices()) == 1 + happened
        listed = await self.theatre.api.call("GET", "/devices", token=self.token)
        assert {one["device"] for one in listed["items"]} == {one.device for one in self.devices()}
        for one in listed["items"]:
            gone = await self.admin("POST", f"/devices/{one['device']}/revoke", REASON)
            assert gone["state"] == "revoked", "what nobody has got can be revoked"
        assert await self.theatre.says(answer) == "revoked"


class WithDevice(Scene):
    """About somebody with a device."""

    async def prepare(self) -> None:
        await super().prepare()
        await self.signed_in()
        self.facts = {"credential": await self.registered()}

    def happened(self) -> bool:
        device = self.devices()[0]
        with self.theatre.database.begin() as connection:
            ended = tables.session.c.ended_at.is_(None)
            going = connection.execute(
                select(tables.session).where(tables.session.c.person_id == self.person, ended)
            )
            assert (device.state == "revoked") == (not going.all()), "the sign-in of a device ends with it"
        return device.state == "revoked"


class Revoke(WithDevice):
    def ask(self) -> Awaitable[Answer]:
        return self.theatre.api.call("DELETE", f"/devices/{self.facts['credential']['device']}", token=self.token)

    async def again(self, happened: bool) -> None:
        said = await self.theatre.says(self.facts["credential"])
        assert said == ("revoked" if happened else self.person)
        answer = await self.ask()
        assert answer.status == (401 if happened else 200)
        assert self.happened()
        assert await self.theatre.says(self.facts["credential"]) == "revoked"
        assert self.theatre.events(self.person).count("DeviceRevoked") == 1


class AdministratorRevokes(WithDevice):
    def ask(self) -> Awaitable[Answer]:
        return self.admin("POST", f"/devices/{self.facts['credential']['device']}/revoke", REASON)

    async def again(self, happened: bool) -> None:
        await super().again(happened)
        assert await self.theatre.says(self.facts["credential"]) == "revoked"
        assert self.theatre.events(self.person).count("DeviceRevoked") == 1


class ChangePassword(WithDevice):
    def ask(self) -> Awaitable[Answer]:
        body = {"current": PASSWORD, "new": NEW, "sign_out_others": True}
        return self.theatre.api.call("POST", "/password", body, token=self.token)

    def happened(self) -> bool:
        hashed = self.row().password_hash
        new = passwords.verify(hashed, NEW)
        assert passwords.verify(hashed, PASSWORD) != new, "one of the two opens, and only one"
        assert (self.devices()[0].state == "revoked") == new
        return new

    async def again(self, happened: bool) -> None:
        self.theatre.forgive()
        answer = await self.ask()
        assert answer.status == (401 if happened else 200)
        assert self.happened()
        assert (await self.theatre.api.sign_in(self.name, NEW)).status == 200
        assert await self.theatre.says(self.facts["credential"]) == "revoked"


class Create(Scene):
    async def prepare(self) -> None:
        self.name = self.theatre.name()

    def ask(self) -> Awaitable[Answer]:
        return self.admin("POST", "/people", {"username": self.name, "clients": [7], "password": PASSWORD})

    def happened(self) -> bool:
        with self.theatre.database.begin() as connection:
            query = select(tables.person.c.id).where(tables.person.c.username == self.name)
            return connection.execute(query).scalar() is not None

    async def again(self, happened: bool) -> None:
        answer = await self.ask()
        assert answer.status == (409 if happened else 201)
        assert (await self.theatre.api.sign_in(self.name)).status == 200


class Link(Scene):
    def ask(self) -> Awaitable[Answer]:
        headers = {"If-Match": '"1"'}
        return self.admin("POST", f"/people/{self.person}/clients", {"clients": [2, 3, 4]}, **headers)

    def happened(self) -> bool:
        with self.theatre.database.begin() as connection:
            clients = people.show(connection, self.person).clients
        assert clients in ([1, 2], [1, 2, 3, 4])
        return len(clients) == 4

    async def again(self, happened: bool) -> None:
        answer = await self.ask()
        assert answer.status == (412 if happened else 200)
        assert self.happened()
        assert self.row().version == 2


class Unlink(Scene):
    def ask(self) -> Awaitable[Answer]:
        return self.admin("DELETE", f"/people/{self.person}/clients/2", **ANY)

    def happened(self) -> bool:
        with self.theatre.database.begin() as connection:
            return people.show(connection, self.person).clients == [1]

    async def again(self, happened: bool) -> None:
        answer = await self.ask()
        assert (answer.status, answer.code if happened else "") == ((400, "not_linked") if happened else (200, ""))
        assert self.happened()


class Permit(Scene):
    def ask(self) -> Awaitable[Answer]:
        body = {"permissions": ["profile", "loans"], "history_months": 6}
        return self.admin("PUT", f"/people/{self.person}/permissions", body, **ANY)

    def happened(self) -> bool:
        row = self.row()
        assert (len(row.permissions), row.history_months) in ((7, None), (2, 6))
        return row.history_months == 6


class Change(Scene):
    def ask(self) -> Awaitable[Answer]:
        return self.admin(
            "PATCH", f"/people/{self.person}", {"kind": "customer", "username": f"{self.name}!"}, **ANY
        )

    def happened(self) -> bool:
        row = self.row()
        assert (row.kind, row.username) in (("agent", self.name), ("customer", f"{self.name}!"))
        return str(row.kind) == "customer"


class Suspend(WithDevice):
    def ask(self) -> Awaitable[Answer]:
        return self.admin("POST", f"/people/{self.person}/suspend", REASON)

    def happened(self) -> bool:
        suspended = self.row().state == "suspended"
        session = self.theatre.one(select(tables.session).where(tables.session.c.person_id == self.person))
        assert session.ended_at is None  # what is suspended goes on when it is restored
        return suspended

    async def again(self, happened: bool) -> None:
        said = await self.theatre.says(self.facts["credential"])
        assert said == ("suspended" if happened else self.person)
        await Scene.again(self, happened)
        assert await self.theatre.says(self.facts["credential"]) == "suspended"


class Restore(Scene):
    async def prepare(self) -> None:
        await super().prepare()
        self.theatre.database.run(people.suspend, TESTER, self.person)

    def ask(self) -> Awaitable[Answer]:
        return self.admin("POST", f"/people/{self.person}/restore", REASON)

    def happened(self) -> bool:
        return bool(self.row().state == "active")


class ResetPassword(WithDevice):
    def ask(self) -> Awaitable[Answer]:
        return self.admin("POST", f"/people/{self.person}/reset-password", {"revoke_devices": True})

    def happened(self) -> bool:
        new = not passwords.verify(self.row().password_hash, PASSWORD)
        assert self.row().must_change_password == new
        assert (self.devices()[0].state == "revoked") == new
        return new

    async def again(self, happened: bool) -> None:
        answer = await self.ask()
        # The code that was lost opens nothing any more.
        chosen = {"username": self.name, "code": answer["activation"]["code"], "password": PASSWORD}
        assert (await self.theatre.api.call("POST", "/activation", chosen)).status == 204
        assert (await self.theatre.api.sign_in(self.name)).status == 200
        assert await self.theatre.says(self.facts["credential"]) == "revoked"


class EverythingOut(WithDevice):
    def ask(self) -> Awaitable[Answer]:
        return self.admin("POST", f"/people/{self.person}/sign-out", {**REASON, "revoke_devices": True})

    async def again(self, happened: bool) -> None:
        await Scene.again(self, happened)
        assert await self.theatre.says(self.facts["credential"]) == "revoked"
        assert (await self.theatre.api.call("GET", "/me", token=self.token)).code == "session_ended"


class Erase(WithDevice):
    def ask(self) -> Awaitable[Answer]:
        return self.admin("POST", f"/people/{self.person}/erase", REASON)

    def happened(self) -> bool:
        with self.theatre.database.begin() as connection:
            query = select(tables.person.c.state).where(tables.person.c.id == self.person)
            return connection.execute(query).scalar() in (None, "deleting")

    async def again(self, happened: bool) -> None:
        said = await self.theatre.says(self.facts["credential"])
        assert said == ("unknown" if happened else self.person)
        answer = await self.ask()
        assert answer.status == (404 if happened else 200)
        # The worker finishes what was begun.
        async with CouchClient(self.theatre.couchdb_url, connections=1) as couch:
            with self.theatre.database.begin() as connection:
                left = connection.execute(select(tables.person).where(tables.person.c.state == "deleting")).all()
            for row in left:
                await erase(couch, self.theatre.database, row.id, row.database_name)
        assert self.theatre.events(self.person)[-2:] == ["PersonDeleted", "PersonErased"]


class Switch(Scene):
    async def prepare(self) -> None:
        self.theatre.database.run(tenant.switch, TESTER, to_open=True, reason="")

    def ask(self) -> Awaitable[Answer]:
        return self.admin("PUT", "/tenant", {"open": False, **REASON})

    def happened(self) -> bool:
        return not self.theatre.database.run(tenant.show).open


class CreateAdministrator(Create):
    settings: ClassVar = {"PASSBOOK_HOURLY_ACTS": "add_administrator=50", **Scene.settings}

    def ask(self) -> Awaitable[Answer]:
        return self.admin("POST", "/administrators", {"username": self.name, "role": "owner", "password": PASSWORD})

    def happened(self) -> bool:
        with self.theatre.database.begin() as connection:
            query = select(tables.administrator.c.id).where(tables.administrator.c.username == self.name)
            return connection.execute(query).scalar() is not None

    async def again(self, happened: bool) -> None:
        answer = await self.ask()
        assert answer.status == (409 if happened else 201)
        assert (await self.theatre.api.sign_in(self.name, administrator=True)).status == 200


class Approve(WithDevice):
    settings: ClassVar = {"PASSBOOK_SECOND_APPROVER": "true", **Scene.settings}

    async def prepare(self) -> None:
        await super().prepare()
        asked = await self.admin("POST", "/devices/revoke", {"devices": [self.devices()[0].device], **REASON})
        assert asked.status == 202
        self.facts["approval"] = asked["approval"]["approval"]

    def ask(self) -> Awaitable[Answer]:
        path = f"/admin/approvals/{self.facts['approval']}/approve"
        return self.theatre.api.call("POST", path, token=self.theatre.omar)

    def happened(self) -> bool:
        row = self.theatre.one(select(tables.approval).where(tables.approval.c.id == self.facts["approval"]))
        assert (row.decision == "approved") == (self.devices()[0].state == "revoked")
        return row.decision is not None

    async def again(self, happened: bool) -> None:
        answer = await self.ask()
        assert answer.status == (409 if happened else 200)
        assert await self.theatre.says(self.facts["credential"]) == "revoked"


@asynccontextmanager
async def theatre(service_url: str, settings: dict[str, str], *, couchdb_url: str = "") -> AsyncIterator[Theatre]:
    """A theatre with two owners in it."""
    async with door(service_url) as gate, aiohttp.ClientSession() as session:
        one = Theatre(service_url, gate, session, settings, couchdb_url)
        try:
            await one.begin()
            yield one
        finally:
            await one.end()
            await one.gateway.close()
            one.database.dispose()


async def play(one: Theatre, kind: Callable[[Theatre], Scene], *, after: bool, only: str) -> list[bool]:
    """Kill at the first message, at the second, … until the request gets through. Whether each had its effect."""
    effects: list[bool] = []
    for number in itertools.count(1):
        scene = kind(one)
        await scene.prepare()
        one.door.arm(number, after=after, only=only)
        if not await one.killed(scene.ask()):
            assert scene.happened()
            truth.check(one.database)
            return effects
        truth.check(one.database)
        happened = scene.happened()
        effects.append(happened)
        await one.another()
        await scene.again(happened)
        truth.check(one.database)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("kind", [Register, Refresh, ChangePassword], ids=lambda kind: kind.__name__)
async def test_killed_at_any_message(service_url: str, kind: type[Scene]) -> None:
    async with theatre(service_url, kind.settings) as one:
        effects = await play(one, kind, after=False, only="")
        # What PostgreSQL did not get a commit of did not happen.
        assert len(effects) > 5
        assert not any(effects)


AT_COMMIT: list[type[Scene]] = [
    SignIn,
    AdministratorSignIn,
    Refresh,
    SignOut,
    Register,
    RegisterWithoutKey,
    Revoke,
    AdministratorRevokes,
    ChangePassword,
    Create,
    Link,
    Unlink,
    Permit,
    Change,
    Suspend,
    Restore,
    ResetPassword,
    EverythingOut,
    Erase,
    Switch,
    CreateAdministrator,
    Approve,
]


@pytest.mark.parametrize("kind", AT_COMMIT, ids=lambda kind: kind.__name__)
async def test_killed_at_the_commit(service_url: str, couchdb_url: str, kind: type[Scene]) -> None:
    async with theatre(service_url, kind.settings, couchdb_url=couchdb_url if kind is Erase else "") as one:
        before = await play(one, kind, after=False, only="COMMIT")
        after = await play(one, kind, after=True, only="COMMIT")
    assert len(before) == len(after) >= 1
    # It happens with the last commit, but that the erasure of the database follows in a transaction of its own.
    last = len(after) - (2 if kind is Erase else 1)
    assert before == [number > last for number in range(len(before))]
    assert after == [number >= last for number in range(len(after))]


async def test_the_command_itself_killed_between_the_commit_and_the_answer(service_url: str) -> None:
    database = ServiceDatabase(service_url)
    amina = Crowd(database).person("amina")
    gateway = DatabaseCredentials.at(service_url)
    headers = {"Idempotency-Key": "6f1c9f52-1d0b-4b5e-9f0e-0c8f6f1a2b3c"}
    async with door(service_url) as gate, aiohttp.ClientSession() as session:
        environment = {
            "PASSBOOK_SERVICE_DB_URL": gate.url.replace("+psycopg", ""),
            "PASSBOOK_COUCHDB_URL": "http://a:b@127.0.0.1:1",
        }
        first = await command(environment)
        gate.expect(first.process.pid)
        api = Api(first.url, session)
        token = await api.token("amina")
        await gate.quiet(1)
        gate.arm(1, after=True, only="COMMIT")
        with pytest.raises(aiohttp.ClientError):
            await api.call("POST", "/devices", {}, token=token, headers=headers)
        assert gate.killed
        status, errors = await first.end()
        assert status == -signal.SIGKILL, errors
        with database.begin() as connection:
            (device,) = devices.of_person(connection, amina)
        second = await command(environment)
        answer = await Api(second.url, session).call("POST", "/devices", {}, token=token, headers=headers)
        assert (answer.status, answer["device"]) == (201, device.device)
        assert await truth.gateway_says(gateway, answer["username"], answer["password"]) == amina
        status, errors = await second.end()
        assert status == 0, errors
    truth.check(database)
    await gateway.close()
    database.dispose()
