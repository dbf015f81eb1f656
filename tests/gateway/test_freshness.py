"""`checked_at`: told with what is read, out of the one question that each request costs anyway."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from passbook.servicedb import tables
from passbook.settings import Settings
from sync_gateway.app import Parts
from sync_gateway.credentials import DatabaseCredentials
from tests.gateway.conftest import Device, People, running_gateway, settled
from tests.support.couch import Couch

HEADER = "Passbook-Checked-At"
AT = dt.datetime(2026, 7, 1, 6, 30, 0, 123456, dt.UTC)
TEXT = "2026-07-01T06:30:00.123456Z"
ORIGIN = "https://app.example.org"


@pytest.fixture
def engine(service_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(service_url)
    yield made
    with made.begin() as connection:
        connection.execute(tables.whole_pass.update().values(as_of=None))
    made.dispose()


def complete(engine: sa.Engine, device: Device, at: dt.datetime | None = AT, state: str = "complete") -> None:
    """As the worker leaves it."""
    with engine.begin() as connection:
        connection.execute(tables.completeness.delete().where(tables.completeness.c.person_id == device.person))
        connection.execute(tables.completeness.insert().values(person_id=device.person, state=state, as_of=at))


def whole_pass(engine: sa.Engine, at: dt.datetime) -> None:
    with engine.begin() as connection:
        connection.execute(tables.whole_pass.update().values(as_of=at))


async def told(http: aiohttp.ClientSession, device: Device) -> str | None:
    async with http.get("/passbook", headers=device.headers) as answer:
        assert answer.status == 200
        found: str | None = (await answer.json())["checked_at"]
        assert answer.headers.get(HEADER) == found
        return found


async def test_it_stands_beside_couchdb_s_own_words_and_in_a_header(
    device: Device, http: aiohttp.ClientSession, couch: Couch, engine: sa.Engine
) -> None:
    await couch.write(device.database, {"_id": "loan:1"})
    assert await told(http, device) is None
    complete(engine, device)
    assert await told(http, device) == TEXT
    async with http.get("/passbook", headers=device.headers) as answer:
        assert {"db_name", "doc_count", "update_seq"} <= (await answer.json()).keys()
    for method, path in (
        ("HEAD", "/passbook"),
        ("GET", "/passbook/_changes"),
        ("GET", "/passbook/_changes?feed=longpoll&since=0"),
        ("GET", "/passbook/_all_docs"),
        ("GET", "/passbook/loan:1"),
    ):
        async with http.request(method, path, headers=device.headers) as answer:
            assert (answer.status, answer.headers.get(HEADER)) == (200, TEXT), path
    body = {"docs": [{"id": "loan:1"}]}
    async with http.post("/passbook/_bulk_get", json=body, headers=device.headers) as answer:
        assert (answer.status, answer.headers.get(HEADER)) == (200, TEXT)
    async with http.get("/passbook/_changes?feed=continuous&heartbeat=1000", headers=device.headers) as answer:
        assert answer.headers.get(HEADER) == TEXT, "at the time the answer begins"
    for path, headers in (("/passbook/loan:2", device.headers), ("/passbook", {"Authorization": "Basic eA=="})):
        async with http.get(path, headers=headers) as answer:
            assert answer.status in (401, 404)
            assert HEADER not in answer.headers


async def test_a_whole_pass_moves_it_on_for_those_who_are_complete(
    device: Device, http: aiohttp.ClientSession, engine: sa.Engine
) -> None:
    later = AT + dt.timedelta(hours=1)
    complete(engine, device)
    whole_pass(engine, later)
    assert await told(http, device) == "2026-07-01T07:30:00.123456Z"
    whole_pass(engine, AT - dt.timedelta(hours=1))
    assert await told(http, device) == TEXT, "what a pass over changes found after it began"
    for state, at, expected in (
        ("behind", AT, TEXT),
        ("behind", None, None),
        ("rebuilding", None, None),
        ("lacking", None, None),
    ):
        whole_pass(engine, later)
        complete(engine, device, at, state)
        assert await told(http, device) == expected, state


async def test_nothing_is_told_while_a_change_of_scope_is_to_be_carried_out(
    device: Device, http: aiohttp.ClientSession, engine: sa.Engine
) -> None:
    complete(engine, device)
    with engine.begin() as connection:
        row = {"person_id": device.person, "what": "clients"}
        connection.execute(tables.scope_change.insert().values(row))
    assert await told(http, device) is None
    with engine.begin() as connection:
        mine = tables.scope_change.c.person_id == device.person
        connection.execute(tables.scope_change.update().where(mine).values(carried_out_at=sa.func.now()))
    assert await told(http, device) == TEXT


@contextmanager
def counting(engine: AsyncEngine) -> Iterator[list[str]]:
    """The statements that an engine is given."""
    statements: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    sa.event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(engine.sync_engine, "before_cursor_execute", note)


async def test_it_costs_no_question_of_its_own(
    device: Device, http: aiohttp.ClientSession, engine: sa.Engine, credentials: DatabaseCredentials
) -> None:
    complete(engine, device)
    async with http.get("/passbook/_changes", headers=device.headers):
        pass  # notes that the device is there
    with counting(credentials._engine) as statements:
        for _ in range(10):
            assert await told(http, device) == TEXT
    mine = [one for one in statements if "completeness" in one]
    assert len(mine) == 10
    # What else there is comes of the watch, every few seconds.
    assert all("audit_event" in one or "ANY" in one for one in statements if one not in mine)


async def test_a_page_of_another_origin_may_read_it(
    service_url: str,
    couch_url: str,
    credentials: DatabaseCredentials,
    couch: Couch,
    people: People,
    engine: sa.Engine,
) -> None:
    device = await settled(couch, people)
    complete(engine, device)
    parts = Parts.new(Settings.load({"PASSBOOK_CORS_ORIGINS": ORIGIN}))
    async with (
        running_gateway(service_url, couch_url, credentials, parts=parts) as url,
        aiohttp.ClientSession(url) as http,
        http.get("/passbook", headers={**device.headers, "Origin": ORIGIN}) as answer,
    ):
        assert HEADER in answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert answer.headers[HEADER] == TEXT


async def test_nothing_is_told_from_memory(
    device: Device, http: aiohttp.ClientSession, engine: sa.Engine, credentials: DatabaseCredentials
) -> None:
    """While the service database is away devices are served, but nobody knows what became of the copy."""
    complete(engine, device)
    authorization = [device.headers["Authorization"]]
    assert (await credentials.principal(authorization)).checked_at == AT
    assert credentials._remembered(device.id, device.secret.encode()).checked_at is None
