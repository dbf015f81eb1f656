"""Checkpoints: few for each device, the oldest forgotten, and nothing written for one that is known."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from passbook.servicedb.tables import device as device_table
from passbook.servicedb.tables import device_checkpoint
from sample_institution.pouch import PouchClient
from sync_gateway.app import Parts
from sync_gateway.checkpoints import LONGEST_POSITION, Checkpoints
from sync_gateway.credentials import DatabaseCredentials
from tests.gateway.conftest import NOW, Device, People, running_gateway, settled
from tests.support.couch import Couch

MOST = 3


class Keeper:
    """A gateway whose devices keep three checkpoints each, and what its database is told."""

    def __init__(self, checkpoints: Checkpoints, engine: sa.Engine) -> None:
        self.checkpoints = checkpoints
        self.http: aiohttp.ClientSession
        self.statements: list[str] = []
        self._engine = engine
        sa.event.listen(checkpoints._engine.sync_engine, "before_cursor_execute", self._seen)

    def _seen(self, _1: Any, _2: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement.split()[0])

    async def put(self, device: Device, name: str, body: Any = None) -> int:
        path = f"/passbook/_local/{name}"
        async with self.http.put(
            path, json={"last_seq": 1} if body is None else body, headers=device.headers
        ) as got:
            return got.status

    def rows(self, device: Device) -> set[str]:
        query = sa.select(device_checkpoint.c.checkpoint).where(device_checkpoint.c.device_id == device.id)
        with self._engine.begin() as connection:
            return {row[0] for row in connection.execute(query)}

    async def documents(self, device: Device, names: list[str]) -> set[str]:
        found = set()
        for name in names:
            async with self.http.get(f"/passbook/_local/{name}", headers=device.headers) as response:
                assert response.status in (200, 404)
                if response.status == 200:
                    found.add(name)
        return found


@contextlib.asynccontextmanager
async def keeping(service_url: str, couch_url: str, credentials: DatabaseCredentials) -> AsyncIterator[Keeper]:
    checkpoints = Checkpoints.at(service_url, most=MOST)
    engine = sa.create_engine(service_url)
    keeper = Keeper(checkpoints, engine)
    try:
        async with (
            running_gateway(service_url, couch_url, credentials, parts=Parts.new(checkpoints=checkpoints)) as url,
            aiohttp.ClientSession(url) as http,
        ):
            keeper.http = http
            yield keeper
    finally:
        await checkpoints.close()
        engine.dispose()


@pytest.fixture
async def keeper(service_url: str, couch_url: str, credentials: DatabaseCredentials) -> AsyncIterator[Keeper]:
    async with keeping(service_url, couch_url, credentials) as made:
        yield made


def named(*numbers: int) -> list[str]:
    return [f"checkpoint-number-{number:02}" for number in numbers]


async def test_T11_a_device_keeps_few_checkpoints_and_its_oldest_are_forgotten(
    keeper: Keeper, couch: Couch, people: People
) -> None:
    device, other = await settled(couch, people), await settled(couch, people)
    assert await keeper.put(other, named(0)[0]) == 201
    for name in named(*range(10)):
        assert await keeper.put(device, name) == 201
        assert len(keeper.rows(device)) <= MOST
    assert keeper.rows(device) == set(named(7, 8, 9))
    assert await keeper.documents(device, named(*range(10))) == set(named(7, 8, 9))
    # One that was forgotten comes again, as PouchDB sends it, with a revision: it is a new one.
    assert await keeper.put(device, named(2)[0], {"_rev": "0-1", "last_seq": 2}) in (201, 409)
    assert keeper.rows(device) == set(named(2, 8, 9))
    assert await keeper.documents(other, named(0)) == set(named(0))


async def test_a_checkpoint_that_is_known_costs_the_database_nothing(
    keeper: Keeper, couch: Couch, people: People
) -> None:
    device = await settled(couch, people)
    assert await keeper.put(device, named(1)[0]) == 201
    assert "INSERT" in keeper.statements
    keeper.statements.clear()
    for sequence in range(20):
        assert await keeper.put(device, named(1)[0], {"last_seq": sequence}) == 201
    assert keeper.statements == []


async def test_another_gateway_reads_what_is_written_down_and_writes_nothing(
    keeper: Keeper, couch: Couch, people: People, service_url: str, couch_url: str, credentials: DatabaseCredentials
) -> None:
    device = await settled(couch, people)
    for name in named(1, 2, 3):
        await keeper.put(device, name)
    async with keeping(service_url, couch_url, credentials) as second:
        assert await second.put(device, named(1)[0]) == 201
        assert set(second.statements) <= {"SELECT", "BEGIN", "COMMIT"}
        # What the one forgets the other still knows; nothing stays for good that is not written down.
        for name in named(4, 5, 6):
            assert await second.put(device, name) == 201
        assert await keeper.documents(device, named(*range(10))) == set(named(4, 5, 6))
        assert await keeper.put(device, named(3)[0]) == 201
        assert await keeper.put(device, named(7)[0]) == 201
        assert keeper.rows(device) == set(named(5, 6, 7))
        assert await keeper.documents(device, named(*range(10))) == set(named(5, 6, 7))


async def test_many_at_once_are_counted(keeper: Keeper, couch: Couch, people: People) -> None:
    device = await settled(couch, people)
    statuses = await asyncio.gather(*(keeper.put(device, name) for name in named(*range(12))))
    assert set(statuses) == {201}
    assert len(keeper.rows(device)) == MOST
    assert await keeper.documents(device, named(*range(12))) == keeper.rows(device)


async def test_checkpoints_of_devices_that_never_come_again_go(
    keeper: Keeper, couch: Couch, people: People
) -> None:
    device = await settled(couch, people)
    lost = Device(f"{device.id}-2", "another secret", device.person, device.database)
    people.add_device(lost)
    both = Device(f"{device.id}-3", "a third", device.person, device.database)
    people.add_device(both)
    await keeper.put(lost, named(1)[0])
    await keeper.put(lost, named(2)[0])
    await keeper.put(both, named(2)[0])
    people.change(device_table, lost.id, revoked_at=NOW)
    await keeper.put(device, named(3)[0])
    assert keeper.rows(lost) == set()
    assert await keeper.documents(device, named(1, 2, 3)) == set(named(2, 3))


async def test_while_the_service_database_is_away_devices_go_on_and_are_counted_all_the_same(
    keeper: Keeper, couch: Couch, people: People, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = await settled(couch, people)
    away = Checkpoints.at(f"postgresql+psycopg://postgres@/passbook?host={tmp_path}")
    with monkeypatch.context() as during:
        during.setattr(keeper.checkpoints, "_engine", away._engine)
        assert [await keeper.put(device, name) for name in named(1, 2, 3, 4)] == [201, 201, 201, 503]
    await away.close()
    assert await keeper.put(device, named(5)[0]) == 201
    assert keeper.rows(device) == set(named(5))
    assert await keeper.documents(device, named(*range(10))) == set(named(5))


async def test_pouchdb_whose_checkpoint_was_forgotten_goes_on(
    keeper: Keeper, couch: Couch, people: People, tmp_path: Path
) -> None:
    device = await settled(couch, people)
    await couch.write(device.database, *({"_id": f"loan:{number:04}"} for number in range(150)))
    url = f"{str(keeper.http._base_url).rstrip('/')}/passbook"
    async with PouchClient.started(url, device.id, device.secret, store=tmp_path / "s") as pouch:
        assert (await pouch.replicate())["written"] == 150
        for name in named(1, 2, 3):
            await keeper.put(device, name)
        assert keeper.rows(device) == set(named(1, 2, 3))
        await couch.write(device.database, {"_id": "loan:new"})
        done = await pouch.replicate()
        assert (done["ok"], done["written"]) == (True, 1)  # what it has it does not fetch again
        await couch.write(device.database, {"_id": "loan:newer"})
        done = await pouch.replicate()
        assert (done["ok"], done["read"]) == (True, 1)  # and its checkpoint is there again
        await pouch.stop()


async def until_position(people: People, device: Device, position: str, write: Checkpoints | None = None) -> None:
    """It is noted when the answer is out, which may be after the device has it."""
    async with asyncio.timeout(10):
        while people.row(device.id).position != position:
            if write is not None:
                await write.write_positions()
            await asyncio.sleep(0.01)


async def test_how_far_a_device_has_come_is_written_down_now_and_then(
    keeper: Keeper, couch: Couch, people: People
) -> None:
    device = await settled(couch, people)
    people.change(device_table, device.id, last_synchronised_at=sa.func.now())
    await keeper.put(device, named(1)[0], {"last_seq": "1-abc"})
    await keeper.put(device, named(1)[0], {"last_seq": "7-abc"})
    assert people.row(device.id).position is None
    await until_position(people, device, "7-abc", keeper.checkpoints)
    keeper.statements.clear()
    await keeper.checkpoints.write_positions()
    assert keeper.statements == []
    for sequence in ("x" * (LONGEST_POSITION + 1), ["1"], {"a": 1}, None, True, 1.5):
        assert await keeper.put(device, named(1)[0], {"last_seq": sequence}) == 201
    assert await keeper.put(device, named(1)[0], {"nothing": 1}) == 201
    await keeper.checkpoints.write_positions()
    assert people.row(device.id).position == "7-abc"
    await keeper.put(device, named(1)[0], {"last_seq": 8})
    async with keeper.checkpoints.writing_positions(every=0.05):
        await until_position(people, device, "8")
    keeper.checkpoints.position(device.id, "9")
    async with keeper.checkpoints.writing_positions():
        pass
    assert people.shown(device.id).position == "9"  # once more at the end


async def test_a_device_not_seen_for_long_is_noted_with_its_position_at_once(
    keeper: Keeper, couch: Couch, people: People
) -> None:
    device = await settled(couch, people)
    await keeper.put(device, named(1)[0], {"last_seq": "1-abc"})
    await until_position(people, device, "1-abc")
    assert people.row(device.id).last_synchronised_at is not None
