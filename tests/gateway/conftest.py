"""People with databases and devices, a CouchDB, and a gateway in front of it.

Every test that uses `couch` runs against the embedded server, and against the CouchDB of
PASSBOOK_TEST_COUCHDB_URL if there is one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.dialects.postgresql import insert as upsert
from yarl import URL

from auth_service import devices
from passbook import couch_access
from passbook.credentials import new_id, new_secret, principal, secret_digest
from passbook.embedded import couchdb, postgres
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from sync_gateway.app import Parts, build, serving
from sync_gateway.checkpoints import Checkpoints
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.proxy import Upstream
from sync_gateway.watch import Watch
from tests.support.couch import Couch
from tests.support.databases import witnessed
from tests.support.roles import as_process, make_roles

REAL = os.environ.get("PASSBOOK_TEST_COUCHDB_URL", "")
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="session")
def embedded_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path_factory.mktemp("embedded"))})


@pytest.fixture(scope="session")
def service_url(embedded_settings: Settings) -> Iterator[str]:
    with postgres.running(embedded_settings) as address:
        url = address.url("passbook")
        database = ServiceDatabase(url)
        database.migrate()
        make_roles(database)
        database.dispose()
        witnessed(url)
        yield url


@pytest.fixture(
    scope="session",
    params=[
        "embedded",
        pytest.param("real", marks=() if REAL else pytest.mark.skip(reason="needs PASSBOOK_TEST_COUCHDB_URL")),
    ],
)
def couch_url(request: pytest.FixtureRequest, embedded_settings: Settings) -> Iterator[str]:
    if request.param == "real":
        yield REAL
    else:
        with couchdb.running(embedded_settings) as address:
            yield address.url


@pytest.fixture
async def couch(couch_url: str) -> AsyncIterator[Couch]:
    async with aiohttp.ClientSession() as session:
        made = Couch(session, couch_url)
        yield made
        for name in made.databases:
            with contextlib.suppress(AssertionError):
                await made.ask("DELETE", name)


@dataclass
class Device:
    """A device as its owner knows it, with its gateway."""

    id: str
    secret: str = field(repr=False)
    person: str
    database: str
    url: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": basic(self.id, self.secret)}


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


class People:
    """The service database, for tests that make people and devices and change them."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add(self, database: str, *, ready: bool = True) -> Device:
        device = Device(new_id("device"), new_secret(), new_id("person"), database)
        with self._engine.begin() as connection:
            connection.execute(
                tables.person.insert().values(
                    id=device.person,
                    username=device.person,
                    kind="customer",
                    password_hash="-",
                    permissions=["loans"],
                    database_name=database,
                    database_ready_at=NOW if ready else None,
                )
            )
        self.add_device(device)
        return device

    def add_device(self, device: Device) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                tables.device.insert().values(
                    id=device.id,
                    person_id=device.person,
                    secret_digest=secret_digest(device.secret),
                    installation=secret_digest(device.id),
                    expires_at=NOW + dt.timedelta(days=30),
                    ends_at=NOW + dt.timedelta(days=365),
                )
            )

    def ordered(self, database: str) -> Device:
        """A device that was revoked and told to wipe."""
        device = self.add(database)
        with self._engine.begin() as connection:
            connection.execute(
                tables.wipe_order.insert().values(
                    device_id=device.id, nonce=new_id("wipe"), statement="-", ordered_at=NOW
                )
            )
        self.change(tables.device, device.id, revoked_at=NOW)
        return device

    def order_of(self, device: Device) -> str:
        """The number of the order that its receipt must name."""
        order = tables.wipe_order
        with self._engine.begin() as connection:
            return str(
                connection.execute(sa.select(order.c.nonce).where(order.c.device_id == device.id)).scalar_one()
            )

    def change(self, table: sa.Table, row: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(table.update().where(table.c.id == row).values(**values))

    def wrote(self, database: str) -> None:
        """Tell what the worker tells when it has noted what it wrote: the trigger does it, as for the worker."""
        with self._engine.begin() as connection:
            owner = sa.select(tables.person.c.id).where(tables.person.c.database_name == database)
            person = connection.execute(owner).scalar()
            if person is None:
                return
            row = {
                "person_id": person,
                "document_id": "~passbook",
                "digest": b"-",
                "revision": "1-a",
                "ancestors": [],
                "as_of": NOW,
            }
            statement = upsert(tables.projected_document).values(row)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["person_id", "document_id"], set_={"as_of": NOW})
            )

    def switch(self, to_open: bool) -> None:
        with self._engine.begin() as connection:
            connection.execute(tables.tenant.update().values(open=to_open))

    def shown(self, device: str) -> devices.Device:
        """What an administrator sees of it."""
        with self._engine.begin() as connection:
            return devices.show(connection, device)

    def row(self, device: str) -> sa.Row[Any]:
        with self._engine.begin() as connection:
            return connection.execute(tables.device.select().where(tables.device.c.id == device)).one()


async def settled(couch: Couch, people: People, *, ready: bool = True) -> Device:
    """A device of somebody new, with an empty database that lets them in."""
    made = people.add(await couch.create(), ready=ready)
    await couch.let_in(made.database, principal(made.person))
    return made


@pytest.fixture
def people(service_url: str) -> Iterator[People]:
    engine = sa.create_engine(service_url)
    yield People(engine)
    engine.dispose()


@pytest.fixture
async def credentials(service_url: str) -> AsyncIterator[DatabaseCredentials]:
    made = DatabaseCredentials.at(as_process(service_url, "gateway"))
    yield made
    await made.close()


class Recorder:
    """Remembers which requests came through."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int]] = []

    def install(self, application: web.Application) -> None:
        @web.middleware
        async def record(request: web.Request, handler: Any) -> web.StreamResponse:
            response: web.StreamResponse = await handler(request)
            self.requests.append((request.method, request.path, response.status))
            return response

        application.middlewares.insert(0, record)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def gateway(
    service_url: str, couch_url: str, credentials: DatabaseCredentials, recorder: Recorder
) -> AsyncIterator[str]:
    """The address of a gateway."""
    async with running_gateway(service_url, couch_url, credentials, recorder) as address:
        yield address


@contextlib.asynccontextmanager
async def running_gateway(
    service_url: str,
    couch_url: str,
    credentials: DatabaseCredentials,
    recorder: Recorder | None = None,
    parts: Parts | None = None,
) -> AsyncIterator[str]:
    """A gateway as `passbook gateway` puts it together, in this process."""
    access, _ = await couch_access.prepare(couch_url, connect_seconds=5)
    service_url = as_process(service_url, "gateway")
    checkpoints = Checkpoints.at(service_url)
    parts = parts or Parts.new(checkpoints=checkpoints)
    application = build(credentials, Upstream(couch_url, access), parts)
    if recorder is not None:
        recorder.install(application)
    watch = Watch(service_url, credentials, parts.requests, parts.hub)
    async with watch.watching(), serving(application, "127.0.0.1", 0) as port:
        await asyncio.wait_for(watch.listening.wait(), 10)
        yield f"http://127.0.0.1:{port}"
    await checkpoints.close()


@pytest.fixture
async def device(couch: Couch, people: People, gateway: str) -> Device:
    """A device with an empty database."""
    couch.wrote = people.wrote
    made = await settled(couch, people)
    made.url = f"{gateway}/passbook"
    return made


@pytest.fixture
async def http(gateway: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the gateway."""
    async with aiohttp.ClientSession(gateway) as session:
        yield session


@dataclass
class Counted:
    """A gateway with somebody between it and CouchDB who counts."""

    url: str
    device: Device
    parts: Parts
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
async def counted(couch: Couch, people: People, credentials: DatabaseCredentials) -> AsyncIterator[Counted]:
    """Whatever reaches CouchDB is on a list."""
    asked: list[tuple[str, str]] = []
    server = str(couch.url.with_user(None)).rstrip("/")

    async def passes(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, request.raw_path))
        kept = {
            name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers
        }
        async with couch.session.request(
            request.method,
            URL(server + request.raw_path, encoded=True),
            data=await request.read() or None,
            headers={**kept, "Accept": "application/json"},
        ) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

    access, _ = await couch_access.prepare(str(couch.url), connect_seconds=5)
    between = web.Application()
    between.router.add_route("*", "/{tail:.*}", passes)
    async with serving(between, "127.0.0.1", 0) as port:
        upstream = Upstream(str(couch.url.with_host("127.0.0.1").with_port(port)), access)
        parts = Parts.new()
        async with serving(build(credentials, upstream, parts), "127.0.0.1", 0) as own:
            device = await settled(couch, people)
            yield Counted(f"http://127.0.0.1:{own}", device, parts, asked)
