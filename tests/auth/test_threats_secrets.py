"""Everything that real processes print, count and record, searched for every secret that was ever issued.

With logs at their most talkative, in both forms, through everything a client can do right and wrong, and through
what goes wrong behind it: the database away, and tables that are not what they should be.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
import sqlalchemy as sa

from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from tests.auth.running import Running, clean
from tests.support.api import Answer, Api
from tests.support.stage import Stage

AUTH_SECRET = "kaleidoscope-of-the-tests-0123456789-abcdef"
METRICS_TOKEN = "metrics-token-harbour-lantern-42"
WHY = {"reason": "ticket 4711"}
READABLE = {"credential": "initial_password"}


@dataclass
class Issued:
    """What must not be found, by what it is. User names are canaries: made of letters that nothing else has."""

    secrets: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, value: str) -> str:
        assert len(value) >= 8, what
        self.secrets[f"{what} ({len(self.secrets)})"] = value
        return value

    def password(self, what: str) -> str:
        return self.note(what, f"quixotic {uuid.uuid4().hex[:12]} umbrella")

    def name(self, what: str) -> str:
        return self.note(f"user name of {what}", f"zqx{what}{uuid.uuid4().hex[:8]}")

    def forms(self) -> dict[str, str]:
        """Every secret, also as it is written in URLs, and in HTTP Basic."""
        found: dict[str, str] = {}
        for what, value in self.secrets.items():
            found[what] = value
            found[f"{what}, quoted"] = quote(value, safe="")
            for offset in range(3):
                # However it is aligned within the text that was encoded: the letters that only it decides.
                letters = base64.b64encode(b"\0" * offset + value.encode()).decode().rstrip("=")
                found[f"{what}, in Basic at {offset}"] = letters[4 if offset else 0 : len(letters) - 3]
        return found

    def hits(self, text: str, *, but: tuple[str, ...] = ()) -> list[str]:
        forms = self.forms().items()
        return [what for what, value in forms if value in text and not what.startswith(but or ("\0",))]


class World:
    """A worker, a gateway and an auth service over one stage, and the client that tries everything."""

    def __init__(self, stage: Stage, directory: Path, style: str) -> None:
        self.stage, self.directory = stage, directory
        self.issued = Issued()
        self.issued.note("auth secret", AUTH_SECRET)
        self.issued.note("metrics token", METRICS_TOKEN)
        password = str(urlsplit(stage.outside.couchdb_url).password)
        if len(password) >= 8:  # that of the embedded server is made at random; a tester's own may be any word
            self.issued.note("CouchDB password", password)
        self.environment = {
            **stage.environment,
            "PASSBOOK_SERVICE_DB_URL": self._with_password(stage.environment["PASSBOOK_SERVICE_DB_URL"]),
            "PASSBOOK_AUTH_SECRET": AUTH_SECRET,
            "PASSBOOK_METRICS_TOKEN": METRICS_TOKEN,
            "PASSBOOK_LOG_LEVEL": "debug",
            "PASSBOOK_LOG_FORMAT": style,
            "PASSBOOK_CONNECT_SECONDS": "2",
        }
        self.texts: dict[str, str] = {}
        self.answers: list[Answer] = []

    def _with_password(self, url: str) -> str:
        # The embedded PostgreSQL asks for none.
        made = sa.engine.make_url(url)
        password = self.issued.note("database password", f"pg-{uuid.uuid4().hex}")
        return made.set(password=password).render_as_string(hide_password=False)

    def command(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "passbook", *arguments],
            env=clean(self.environment),
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.texts[f"stderr of {' '.join(arguments[:2])}, {len(self.texts)}"] = done.stderr
        return done

    def read(self, *processes: Running) -> None:
        for process in processes:
            for path in (process.said, process.logged):
                self.texts[path.name] = path.read_text()


@contextlib.asynccontextmanager
async def serving(world: World) -> AsyncIterator[tuple[Api, str]]:
    """An auth service and a gateway; what they print is read when they have stopped."""
    one = Running(world.directory / "auth", world.environment, "auth", "--port", "0")
    other = Running(world.directory / "gateway", world.environment, "gateway", "--port", "0")
    try:
        auth_url, gateway_url = await asyncio.gather(
            *(asyncio.to_thread(lambda p=process: p.url) for process in (one, other))
        )
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Api(auth_url, session, answers=world.answers), gateway_url
        await asyncio.to_thread(one.stop)
        await asyncio.to_thread(other.stop)
    finally:
        one.end()
        other.end()
        world.read(one, other)


class Client:
    """Does everything, and notes every secret it is given or makes up."""

    def __init__(self, world: World, api: Api, gateway: str) -> None:
        self.world, self.issued, self.api, self.gateway = world, world.issued, api, gateway

    def tokens(self, answer: Answer) -> Answer:
        assert answer.status == 200, answer.body
        self.issued.note("access token", answer["access_token"].split(".")[2])
        self.issued.note("access token's claims", answer["access_token"].split(".")[1])
        self.issued.note("refresh token", answer["refresh_token"])
        return answer

    async def owner(self, initial: str, name: str) -> str:
        self.tokens(await self.api.sign_in(name, initial, administrator=True))
        wrong, new = self.issued.password("wrong password"), self.issued.password("owner's password")
        assert (await self.api.sign_in(name, wrong, administrator=True)).status == 400
        token = self.tokens(await self.api.sign_in(name, initial, administrator=True))["access_token"]
        for body, status in (
            ({"current": wrong, "new": new}, 401),
            ({"current": initial, "new": self.issued.note("weak password", "password1")}, 400),
            ({"current": initial, "new": self.issued.note("long password", "verylong" * 40)}, 400),
            ({"current": initial, "new": new}, 200),
        ):
            assert (await self.api.call("POST", "/admin/password", body, token=token)).status == status
        return token

    async def administration(self, token: str) -> tuple[str, str]:
        """People are made and changed; a name and the initial password of one."""
        name, other = self.issued.name("amina"), self.issued.name("bela")
        made = await self.admin(
            token, "POST", "/admin/people", {"username": name, "clients": [1, 2], **READABLE}, 201
        )
        initial = self.issued.note("initial password", made["initial_password"])
        person = made["person"]["person"]
        given = self.issued.password("given password")
        body = {"username": other, "clients": [3], "password": given}
        await self.admin(token, "POST", "/admin/people", body, 201)
        await self.admin(token, "POST", "/admin/people", body | {"username": name}, 409)
        weak = self.issued.note("weak password of a person", f"{name}-1")
        await self.admin(token, "POST", "/admin/people", {"username": name, "password": weak}, 400)
        await self.admin(token, "POST", "/admin/people", {"username": name, "pass": given}, 422)
        await self.admin(token, "POST", "/admin/people", {"username": name, given: True}, 422)
        await self.admin(token, "POST", "/admin/people", {"username": f"{name}\0", "password": given}, 422)
        for path in (f"/admin/people/{person}", f"/admin/people/{name}", f"/admin/people?text={name}"):
            await self.admin(token, "GET", path, None, 200)
        await self.admin(token, "GET", f"/admin/people/{name}x", None, 404)
        renamed = self.issued.name("renamed")
        await self.admin(token, "PATCH", f"/admin/people/{other}", {"username": name}, 409)
        await self.admin(token, "PATCH", f"/admin/people/{other}", {"username": renamed}, 200)
        reset = await self.admin(token, "POST", f"/admin/people/{renamed}/reset-password", READABLE, 200)
        self.issued.note("initial password", reset["initial_password"])
        helper = self.issued.name("helper")
        made = await self.admin(
            token, "POST", "/admin/administrators", {"username": helper, "role": "support", **READABLE}, 201
        )
        self.issued.note("initial password of an administrator", made["initial_password"])
        again = f"/admin/administrators/{made['administrator']['administrator']}/reset-password"
        made = await self.admin(token, "POST", again, READABLE, 200)
        self.issued.note("initial password of an administrator", made["initial_password"])
        await self.admin(token, "POST", f"/admin/people/{renamed}/suspend", WHY, 200)
        await self.admin(token, "POST", f"/admin/people/{renamed}/erase", WHY, 200)
        for path in ("/admin/audit", "/admin/devices", "/admin/administrators", f"/admin/people/{name}/preview"):
            await self.admin(token, "GET", path, None, 200)
        return name, initial

    async def admin(self, token: str, method: str, path: str, body: Any, status: int) -> Answer:
        answer = await self.api.call(method, path, body, token=token, headers={"If-Match": "*"})
        assert answer.status == status, (path, answer.body)
        return answer

    async def person(self, name: str, initial: str) -> tuple[str, str, dict[str, str]]:
        """A phone from the first sign-in to the last; access token, password, and the device's credential."""
        token = self.tokens(await self.api.sign_in(name, initial))["access_token"]
        password, wrong = self.issued.password("person's password"), self.issued.password("wrong password")
        for body, status in (
            ({"current": wrong, "new": password}, 401),
            ({"current": initial, "new": self.issued.note("weak password", f"{name}12")}, 400),
            ({"current": initial, "new": password, "more": wrong}, 422),
            ({"current": initial, "new": password}, 200),
        ):
            assert (await self.api.call("POST", "/password", body, token=token)).status == status
        headers = {"Authorization": aiohttp.encode_basic_auth(name, password)}
        self.tokens(await self.api.call("POST", "/authentication", headers=headers))
        headers = {"Authorization": aiohttp.encode_basic_auth(name, wrong)}
        assert (await self.api.call("POST", "/authentication", headers=headers)).status == 401
        key = self.issued.note("idempotency key", str(uuid.uuid4()))
        device = {}
        for _ in range(2):
            made = await self.api.call("POST", "/devices", {}, token=token, headers={"Idempotency-Key": key})
            assert made.status == 201
            device = {"username": made["username"], "password": made["password"]}
        self.issued.note("device secret", device["password"])
        short = self.issued.note("idempotency key that is too short", "kq-98xz-7")
        assert (
            await self.api.call("POST", "/devices", {}, token=token, headers={"Idempotency-Key": short})
        ).status == 422
        return token, password, device

    async def sessions(self, name: str, password: str) -> None:
        """A refresh token used, used again, stolen, and given back."""
        first = self.tokens(await self.api.sign_in(name, password))
        second = self.tokens(await self.api.refresh(first["refresh_token"]))
        self.tokens(await self.api.refresh(first["refresh_token"]))
        self.tokens(await self.api.refresh(second["refresh_token"]))
        assert (await self.api.refresh(first["refresh_token"])).status == 400
        last = self.tokens(await self.api.sign_in(name, password))
        assert (await self.api.call("POST", "/oauth/revoke", form={"token": last["refresh_token"]})).status == 200

    async def nonsense(self, name: str, password: str, token: str, device: dict[str, str]) -> None:
        """Requests that are wrong in every way that has a secret where it does not belong."""
        send = self.api.session.request
        url, plain = self.api.url, {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        wrong = self.issued.password("password in a malformed request")
        bodies = (
            f'{{"current": "{wrong}", "new": "{wrong}"',
            f'{{"current": {wrong}}}',
            f'["{wrong}"]',
            f'"{wrong}"',
            f'{{"{wrong}": 1}}',
            json.dumps({"current": [wrong], "new": {"a": wrong}}),
            json.dumps({"current": wrong, "new": wrong * 40}),
            json.dumps({"current": "\ud800" + wrong, "new": wrong}),
            '{"current": "' + wrong * 4000 + '"}',
            wrong,
        )
        for body in bodies:
            for path in ("/password", "/devices", "/admin/people"):
                async with send("POST", url + path, data=body, headers=plain) as answer:
                    assert 400 <= answer.status < 500, (path, body[:80])
                    self.world.texts[f"answer {len(self.world.texts)}"] = await answer.text()
        forms: tuple[Any, ...] = (
            f"grant_type=password&username={name}&password={quote(wrong)}&password={quote(password)}",
            f"grant_type={quote(wrong)}",
            f"grant_type=password&username={quote(wrong)}",
            f"{quote(wrong)}",
            f"grant_type=password&username={name}&password={'x' * 3000}{quote(wrong)}",
            f"grant_type=refresh_token&refresh_token={quote(wrong)}%00%ff",
        )
        for form in forms:
            for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
                headers = {"Content-Type": kind}
                async with send("POST", f"{url}/oauth/token", data=form, headers=headers) as answer:
                    assert answer.status == 400, (form, kind)
                    self.world.texts[f"answer {len(self.world.texts)}"] = await answer.text()
        # In places where secrets get by mistake: addresses, headers, methods, the wrong scheme.
        for method, path in (
            ("GET", f"/me?access_token={token}"),
            ("GET", f"/oauth/token?username={name}&password={quote(password)}"),
            ("POST", f"/oauth/token?grant_type=password&username={name}&password={quote(password)}"),
            ("GET", f"/{quote(password)}"),
            ("DELETE", f"/devices/{quote(password, safe='')}"),
            ("DELETE", f"/devices/{device['password']}"),
            ("GET", f"/admin/people?text={quote(password)}&after={quote(password)}"),
            ("GET", f"/metrics?token={METRICS_TOKEN}x"),
        ):
            for headers in ({}, {"Authorization": f"Bearer {token}"}, {"Cookie": f"token={token}"}):
                async with send(method, url + path, headers=headers) as answer:
                    assert answer.status < 500, path
                    self.world.texts[f"answer {len(self.world.texts)}"] = await answer.text()
        for header in (f"Basic {password}", f"Token {token}", f"Bearer {password}", f"Bearer {token[:-3]}"):
            async with send("GET", f"{url}/me", headers={"Authorization": header}) as answer:
                assert answer.status == 401
                self.world.texts[f"answer {len(self.world.texts)}"] = await answer.text()

    async def replicate(self, device: dict[str, str]) -> None:
        """What a phone asks the gateway, with the right and with a wrong secret, and with it in the address."""
        wrong = self.issued.note("wrong device secret", f"{uuid.uuid4().hex}{uuid.uuid4().hex}")
        for secret, good in ((device["password"], True), (wrong, False)):
            headers = {"Authorization": aiohttp.encode_basic_auth(device["username"], secret)}
            for path in (
                "",
                "/_all_docs?limit=2",
                "/_changes?limit=1",
                "/_local/x",
                f"/{secret}",
                f"/_x?p={secret}",
            ):
                async with self.api.session.get(f"{self.gateway}/passbook{path}", headers=headers) as answer:
                    self.world.texts[f"gateway {len(self.world.texts)}"] = await answer.text()
                    assert answer.status < 500
                    assert good or answer.status == 401

    async def while_it_fails(
        self, name: str, password: str, token: str, admin: str, device: dict[str, str]
    ) -> set[int]:
        """The same requests whatever stands behind them; the statuses."""
        key = self.issued.note("idempotency key", str(uuid.uuid4()))
        basic_auth = {"Authorization": aiohttp.encode_basic_auth(name, password)}
        new = self.issued.password("new password")
        calls: list[Any] = [
            self.api.sign_in(name, password),
            self.api.sign_in(name, password, administrator=True),
            self.api.call("POST", "/authentication", headers=basic_auth),
            self.api.refresh("pbr_" + self.issued.note("refresh token that is none", uuid.uuid4().hex)),
            self.api.call("GET", "/me", token=token),
            self.api.call("POST", "/devices", {}, token=token, headers={"Idempotency-Key": key}),
            self.api.call("POST", "/password", {"current": password, "new": new}, token=token),
            self.api.call("POST", "/admin/people", {"username": name, "password": new}, token=admin),
            self.api.call("GET", f"/admin/people/{name}", token=admin),
            self.api.call("GET", f"/admin/people?text={name}", token=admin),
            self.api.call("GET", "/health/ready"),
        ]
        statuses = {(await call).status for call in calls}
        headers = {"Authorization": aiohttp.encode_basic_auth(device["username"], device["password"])}
        async with self.api.session.get(f"{self.gateway}/passbook/_all_docs", headers=headers) as answer:
            self.world.texts[f"gateway {len(self.world.texts)}"] = await answer.text()
        return statuses


def engine_beside(database: ServiceDatabase) -> sa.Engine:
    """Another database of the same server, to speak to it while this one is closed."""
    return sa.create_engine(database.url.set(database="postgres"), isolation_level="AUTOCOMMIT")


@contextlib.contextmanager
def closed(database: ServiceDatabase) -> Any:
    """Nobody gets a connection, and those there were are cut."""
    name = database.url.database
    database.engine.dispose()
    beside = engine_beside(database)
    with beside.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        connection.exec_driver_sql(cut, (name,))
    yield
    with beside.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    beside.dispose()


@contextlib.contextmanager
def without(database: ServiceDatabase, table: str) -> Any:
    """A table is not there: a defect, as far as the service can tell."""
    with database.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {table}_away")
    yield
    with database.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table}_away RENAME TO {table}")


@pytest.mark.parametrize("style", ["text", "json"])
async def test_T26_no_secret_and_no_name_in_anything_that_is_kept(stage: Stage, tmp_path: Path, style: str) -> None:
    world = World(stage, tmp_path, style)
    issued = world.issued
    owner = issued.name("olga")
    made = world.command("init", "--administrator", owner, "--json")
    assert made.returncode == 0, made.stderr
    initial = issued.note("owner's initial password", json.loads(made.stdout)["administrator"]["initial_password"])

    async with serving(world) as (api, gateway):
        client = Client(world, api, gateway)
        admin = await client.owner(initial, owner)
        name, first = await client.administration(admin)
        token, password, device = await client.person(name, first)
        assert world.command("worker", "once").returncode == 0
        await client.sessions(name, password)
        await client.nonsense(name, password, token, device)
        await client.replicate(device)
        with closed(stage.database):
            assert await client.while_it_fails(name, password, token, admin, device) <= {503, 400}
            assert world.command("worker", "once").returncode != 0
        seen = set()
        for table in ("person", "device", "sign_in_counter", "refresh_token", "audit_event", "session"):
            with without(stage.database, table):
                seen |= await client.while_it_fails(name, password, token, admin, device)
        assert 500 in seen
        metrics = await api.call("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        assert metrics.status == 200
        world.texts["metrics"] = metrics.raw.decode()
        assert "passbook_auth_outcomes_total" in world.texts["metrics"]

    with stage.database.begin() as connection:
        for row in connection.execute(sa.select(tables.audit_event)):
            world.texts[f"audit {row.id}"] = " ".join(str(value) for value in row)
    assert len([what for what in world.texts if what.startswith("audit")]) > 40
    assert len(issued.secrets) > 40

    logged = {what: text for what, text in world.texts.items() if what.endswith((".err", ".out"))}
    assert {"auth.err", "gateway.err"} <= logged.keys()
    # They did log, in the form that was asked for.
    lines = logged["auth.err"].splitlines()
    assert len(lines) > 100
    if style == "json":
        assert all(json.loads(line)["event"] for line in lines)
    for what, text in world.texts.items():
        kept = not what.startswith(("answer", "gateway "))
        # In an answer to whoever sent it a name may be said; never a secret, and nowhere else a name either.
        assert issued.hits(text, but=() if kept else ("user name",)) == [], (what, text[:2000])
    handed = ("user name", "access token", "refresh token", "device secret", "initial password", "owner's initial")
    for answer in world.answers:
        if answer.status >= 400:
            assert issued.hits(answer.raw.decode(), but=("user name",)) == [], answer.raw
        else:
            # What was given, to whom it was given to; nothing that was sent.
            assert issued.hits(answer.raw.decode(), but=handed) == [], answer.raw


def test_T26_the_search_finds_what_there_is() -> None:
    issued = Issued()
    issued.note("secret", "quixotic/umbrella 17")
    for text in (
        "a quixotic/umbrella 17 b",
        "?p=quixotic%2Fumbrella%2017",
        aiohttp.encode_basic_auth("a", "quixotic/umbrella 17"),
        aiohttp.encode_basic_auth("ab", "quixotic/umbrella 17"),
        aiohttp.encode_basic_auth("abc", "quixotic/umbrella 17"),
    ):
        assert issued.hits(text), text
    assert issued.hits("nothing of the kind") == []
