"""An auth service that really listens, and a client that speaks HTTP to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import uvicorn
from sqlalchemy import update

from auth_service import administrators, keys, people
from auth_service.api.app import THREADS, build
from auth_service.passwords import hash_password
from auth_service.service import Part, Service
from passbook.scope import PERMISSIONS
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from tests.support.actors import TESTER
from tests.support.roles import BOTH_SIDES, as_process

SECRET = "a secret of the tests, forty characters long"
#: Will do as a password, and hashing it once is enough.
PASSWORD = "four tall trees by the river"
HASH = hash_password(PASSWORD)
METRICS_TOKEN = "a-token-for-the-tests-1234567890"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]
    raw: bytes

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    @property
    def code(self) -> str:
        return str(self.body["code"])


@dataclass
class Api:
    """A client of one auth service."""

    url: str
    session: aiohttp.ClientSession
    service: Service | None = None
    #: Everything that was ever answered, for those who look for leaks.
    answers: list[Answer] = field(default_factory=list)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        async with self.session.request(
            method, self.url + path, json=body, data=form, headers=sent, allow_redirects=False
        ) as answer:
            raw = await answer.read()
            is_json = answer.content_type == "application/json" and raw
            made = Answer(answer.status, msgspec.json.decode(raw) if is_json else None, answer.headers, raw)
        self.answers.append(made)
        return made

    async def sign_in(self, username: str, password: str = PASSWORD, *, administrator: bool = False) -> Answer:
        path = "/admin/oauth/token" if administrator else "/oauth/token"
        return await self.call(
            "POST", path, form={"grant_type": "password", "username": username, "password": password}
        )

    async def refresh(self, token: str, *, administrator: bool = False) -> Answer:
        path = "/admin/oauth/token" if administrator else "/oauth/token"
        return await self.call("POST", path, form={"grant_type": "refresh_token", "refresh_token": token})

    async def token(self, username: str, *, administrator: bool = False) -> str:
        """An access token; the sign-in must succeed."""
        answer = await self.sign_in(username, administrator=administrator)
        assert answer.status == 200, answer.body
        return str(answer["access_token"])


class Crowd:
    """People and administrators in a service database, all with `PASSWORD`, which they need not change."""

    def __init__(self, database: ServiceDatabase) -> None:
        self.database = database

    def person(self, username: str, *, clients: tuple[int, ...] = (1,), must_change: bool = False) -> str:
        with self.database.begin() as connection:
            made = people.add(
                connection,
                TESTER,
                username=username,
                kind="customer" if len(clients) < 2 else "agent",
                clients=clients,
                permissions=PERMISSIONS,
                password_hash=HASH,
            )
            self._changed(connection, tables.person, made.person, must_change)
        return made.person

    def administrator(self, username: str, role: str, *, must_change: bool = False) -> str:
        with self.database.begin() as connection:
            made = administrators.add(connection, TESTER, username=username, role=role, password_hash=HASH)
            self._changed(connection, tables.administrator, made.administrator, must_change)
        return made.administrator

    @staticmethod
    def _changed(connection: Any, table: Any, key: str, must_change: bool) -> None:
        connection.execute(update(table).where(table.c.id == key).values(must_change_password=must_change))


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are the test runner's


@contextlib.asynccontextmanager
async def serving(
    service_url: str,
    settings: Mapping[str, str] | None = None,
    *,
    parts: tuple[Part, ...] = ("people", "administration"),
    couchdb_url: str = "",
    secret: str = SECRET,
) -> AsyncIterator[Api]:
    """An auth service on this database, listening on a port of its own, as the role of its side or sides."""
    owner = ServiceDatabase(service_url)
    try:
        owner.run(keys.ensure, TESTER, secret)
    finally:
        owner.dispose()
    role = parts[0] if len(parts) == 1 else BOTH_SIDES
    database = ServiceDatabase(as_process(service_url, role), connections=THREADS)
    try:
        service = Service.build(
            Settings.load({"PASSBOOK_METRICS_TOKEN": METRICS_TOKEN, **(settings or {})}),
            database,
            secret=secret,
            parts=parts,
            couchdb_url=couchdb_url,
        )
        async with _listening(service) as api:
            yield api
    finally:
        database.dispose()


@contextlib.asynccontextmanager
async def _listening(service: Service) -> AsyncIterator[Api]:
    server = _Quiet(uvicorn.Config(build(service), log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # As `passbook auth` does; else every answer takes 40 ms more.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            assert not running.done(), running.result()
            await asyncio.sleep(0.01)
        # No limit on connections: a test that asks for 40 things at once gets 40.
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Api(f"http://127.0.0.1:{listening.getsockname()[1]}", session, service)
        server.should_exit = True
        await running
