"""When a device last synchronised: true within a minute, and one statement a minute for all of them."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from passbook import couch_access
from passbook.servicedb import tables
from sync_gateway.app import Parts, build, serving
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.proxy import Upstream
from sync_gateway.sightings import Sightings
from tests.gateway.conftest import NOW, People, settled
from tests.gateway.gateways import device_of, gateway_process
from tests.gateway.pipes import feed, until
from tests.support.couch import Couch

DEVICES = 8
BEATS = 3


def minutes_ago(minutes: int) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)


async def test_listening_devices_cost_one_statement_however_often_their_hearts_beat(
    couch: Couch, couch_url: str, people: People, credentials: DatabaseCredentials
) -> None:
    access, _ = await couch_access.prepare(couch_url, connect_seconds=5)
    sightings = Sightings(credentials.engine, credentials.outage)
    statements: list[str] = []

    @sa.event.listens_for(credentials.engine.sync_engine, "before_cursor_execute")
    def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "UPDATE" in statement:
            statements.append(statement)

    ago = minutes_ago(3)
    devices = [await settled(couch, people) for _ in range(DEVICES)]
    for device in devices:
        # Noted three minutes ago: nothing writes it down at once.
        people.change(tables.device, device.id, last_synchronised_at=ago)
    application = build(credentials, Upstream(couch_url, access), Parts.new(sightings=sightings))
    async with serving(application, "127.0.0.1", 0) as port, contextlib.AsyncExitStack() as stack:
        raws = []
        for device in devices:
            device.url = f"http://127.0.0.1:{port}/passbook"
            raws.append(await stack.enter_async_context(feed(device)))
        before = dt.datetime.now(dt.UTC)
        await until(lambda: all(raw.body.count(b"\n") > BEATS for raw in raws), "their heartbeats", 30)
        assert statements == []
        await sightings.write()
        assert len(statements) == 1
        for device in devices:
            row = people.row(device.id)
            assert before < row.last_synchronised_at <= dt.datetime.now(dt.UTC)
            # Who goes on synchronising may do so for as long again.
            assert row.expires_at > NOW + dt.timedelta(days=80)
        statements.clear()
        await sightings.write()
        assert statements == []  # of what was not seen since nothing is written
    # What came after it is revoked or expired stays as it is; and time never goes back.
    one, other, third = devices[:3]
    for device in (one, other, third):
        sightings.note(device.id)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    people.change(tables.device, one.id, revoked_at=NOW, last_synchronised_at=ago)
    people.change(tables.device, other.id, expires_at=NOW, last_synchronised_at=ago)
    people.change(tables.device, third.id, last_synchronised_at=later)
    await sightings.write()
    assert people.row(one.id).last_synchronised_at == people.row(other.id).last_synchronised_at == ago
    assert people.row(other.id).expires_at == NOW
    assert people.row(third.id).last_synchronised_at == later


async def test_what_cannot_be_written_now_is_written_later(
    couch: Couch, people: People, credentials: DatabaseCredentials
) -> None:
    device = await settled(couch, people)
    away = DatabaseCredentials.at("postgresql://nobody@127.0.0.1:1/passbook")
    sightings = Sightings(away.engine, away.outage)
    sightings.note(device.id)
    await sightings.write()
    assert away.outage.lasts
    sightings._engine = credentials.engine
    await sightings.write()
    assert people.row(device.id).last_synchronised_at > dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    await away.close()


async def test_a_gateway_that_stops_writes_what_it_knows(
    couch: Couch, couch_url: str, people: People, service_url: str, tmp_path: Path
) -> None:
    with gateway_process(service_url, couch_url, tmp_path) as gateway:
        device = await device_of(gateway, couch, people)
        ago = minutes_ago(3)
        people.change(tables.device, device.id, last_synchronised_at=ago)
        async with feed(device):
            pass
        assert people.row(device.id).last_synchronised_at == ago
    assert people.row(device.id).last_synchronised_at > ago
