"""Live feeds: what they cost, that they miss nothing, and that they look as CouchDB's do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from passbook.database import database_url
from passbook.servicedb import tables
from sync_gateway import feeds, watch
from sync_gateway.notices import Gap, Written, notices
from sync_gateway.outages import Outage
from tests.gateway.conftest import NOW, Device, People, settled
from tests.gateway.pipes import DEAFEN, Door, Pipe, Raw, Running, feed, running, until
from tests.support.couch import Couch

LONGPOLL = "feed=longpoll&heartbeat=1000"
CONTINUOUS = "feed=continuous&heartbeat=1000"
#: Longer than any test waits.
NEVER = 3600.0


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that start after this look at the tables all the time."""
    monkeypatch.setattr(watch, "POLL", 0.2)


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that start after this look at the tables when they have a reason, and only then."""
    for name in ("POLL", "POLL_DEAF"):
        monkeypatch.setattr(watch, name, NEVER)


@pytest.fixture
async def door(couch_url: str) -> AsyncIterator[Door]:
    async with Door.before(couch_url) as made:
        yield made


@pytest.fixture
async def gateway_behind(door: Door, service_url: str) -> AsyncIterator[Running]:
    """A gateway whose CouchDB is behind the door."""
    async with running(service_url, door.url) as one:
        yield one


@pytest.fixture
async def device(couch: Couch, people: People, gateway_behind: Running) -> Device:
    couch.wrote = people.wrote
    return gateway_behind.of(await settled(couch, people))


async def last_seq(couch: Couch, device: Device) -> str:
    return str((await couch.ask("GET", f"{device.database}/_changes"))["last_seq"])


@pytest.mark.parametrize("query", [LONGPOLL, CONTINUOUS])
async def test_an_idle_feed_costs_couchdb_one_question_and_holds_no_connection(
    device: Device, door: Door, gateway_behind: Running, query: str
) -> None:
    async with feed(device, query) as raw:
        beats = raw.body.count(b"\n")
        await until(lambda: raw.body.count(b"\n") >= beats + 2)
        assert door.count(device.database) == 1
        assert door.passing == 0
        assert raw.body.strip() in (b"", b'{"results":[')
        assert gateway_behind.parts.requests.feeds.total() == 1
    await until(lambda: gateway_behind.empty)


async def test_a_ring_costs_one_question_for_each_feed_of_that_person(
    looks_often: None, device: Device, couch: Couch, people: People, door: Door, gateway_behind: Running
) -> None:
    second = Device(f"{device.id}-2", "another secret", device.person, device.database, device.url)
    people.add_device(second)
    other = gateway_behind.of(await settled(couch, people))
    async with feed(device) as one, feed(second) as two, feed(second, LONGPOLL) as three, feed(other) as four:
        counted = door.count(device.database), door.count(other.database)
        await couch.write(device.database, {"_id": "loan:1"})
        await until(lambda: one.ids == two.ids == three.ids == ["loan:1"])
        await asyncio.sleep(1.0)  # looks at the tables: five times, and each finds what was told already
        assert door.count(device.database) == counted[0] + 3
        assert door.count(other.database) == counted[1]
        assert four.ids == []
        assert await three.over() == "end"


@pytest.mark.parametrize("query", [LONGPOLL, CONTINUOUS])
async def test_a_change_between_the_question_and_the_wait_is_not_missed(
    device: Device, couch: Couch, door: Door, gateway_behind: Running, query: str
) -> None:
    door.shut()
    raw = await Raw.asks(device, f"_changes?{query}")
    await until(lambda: door.waiting == 1)  # CouchDB has said: nothing
    await couch.write(device.database, {"_id": "loan:1"})
    bell = gateway_behind.parts.hub._bells[device.person]
    await until(lambda: bell.rung == 1)
    door.open()
    await until(lambda: raw.ids == ["loan:1"])
    assert door.count(device.database) == 2
    await raw.close()


async def test_a_notice_that_was_lost_with_its_connection(
    never_looks: None, device: Device, couch: Couch, people: People, gateway_behind: Running
) -> None:
    async with feed(device) as raw:
        for number in range(3):
            with people._engine.begin() as connection:
                connection.execute(DEAFEN)
            await until(lambda: not gateway_behind.watch.listening.is_set())
            await couch.write(device.database, {"_id": f"loan:{number}"})
            await until(lambda: f"loan:{number}" in raw.ids)  # noqa: B023 - over before the next
        assert raw.ids == ["loan:0", "loan:1", "loan:2"]


async def test_a_notice_connection_that_died_in_silence(
    never_looks: None, couch: Couch, couch_url: str, people: People, service_url: str
) -> None:
    async with Pipe.before(service_url) as pipe, running(service_url, couch_url, notices_from=pipe.url) as one:
        couch.wrote = people.wrote
        device = one.of(await settled(couch, people))
        async with feed(device) as raw:
            pipe.freeze()
            await couch.write(device.database, {"_id": "loan:1"})
            await until(lambda: raw.ids == ["loan:1"], within=8)
            # And whoever is heard again is heard at once.
            await until(one.watch.listening.is_set)
            await couch.write(device.database, {"_id": "loan:2"})
            await until(lambda: raw.ids == ["loan:1", "loan:2"], within=1)


async def test_the_tables_tell_what_no_notice_told(
    looks_often: None, device: Device, couch: Couch, people: People, door: Door
) -> None:
    async with feed(device) as raw:
        await couch.ask("POST", f"{device.database}/_bulk_docs", {"docs": [{"_id": "loan:1"}]})
        with people._engine.begin() as connection:
            connection.execute(tables.written.insert().values(person_id=device.person, at=sa.func.now()))
        await until(lambda: raw.ids == ["loan:1"], within=3)
        asked = door.count(device.database)
        await asyncio.sleep(1.0)  # five more looks
        assert door.count(device.database) == asked == 2


async def test_the_slow_check_finds_a_write_that_nobody_told_of(
    device: Device, couch: Couch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "RECHECK", 0.5)
    async with feed(device) as raw:
        await couch.ask("POST", f"{device.database}/_bulk_docs", {"docs": [{"_id": "loan:1"}]})
        await until(lambda: raw.ids == ["loan:1"], within=3)


async def test_a_ring_for_nothing(device: Device, couch: Couch, people: People, door: Door) -> None:
    async with feed(device) as raw, feed(device, LONGPOLL) as poll:
        with people._engine.begin() as connection:
            connection.execute(
                sa.text("SELECT pg_notify('passbook_written', '2000-01-01T00:00:00Z ' || :person)"),
                {"person": device.person},
            )
        await until(lambda: door.count(device.database) == 4)
        await couch.write(device.database, {"_id": "loan:1"})
        await until(lambda: raw.ids == poll.ids == ["loan:1"])


async def test_notices_that_nobody_understands(
    never_looks: None, device: Device, couch: Couch, people: People, gateway_behind: Running
) -> None:
    async with feed(device) as raw:
        for channel in ("passbook_written", "passbook_access"):
            for payload in ("", "nonsense", "nonsense with more"):
                with people._engine.begin() as connection:
                    connection.execute(sa.select(sa.func.pg_notify(channel, payload)))
        await couch.write(device.database, {"_id": "loan:1"})
        await until(lambda: raw.ids == ["loan:1"])


def noted(person: str, document: str) -> dict[str, Any]:
    """What the worker notes of a document that it wrote."""
    return {
        "person_id": person,
        "document_id": document,
        "digest": b"-",
        "revision": "1-a",
        "ancestors": [],
        "as_of": NOW,
    }


async def test_one_transaction_for_many_people(people: People, service_url: str) -> None:
    """However many they are, each is told of, with the time that the table has."""
    everybody = [people.add(f"many-{number}-{time.monotonic_ns()}").person for number in range(150)]
    heard: dict[str, list[datetime]] = {}
    listening = notices(service_url, Outage("away", database_url(service_url)))
    assert await anext(listening) == Gap()
    with people._engine.begin() as connection:
        connection.execute(tables.projected_document.insert(), [noted(one, "loan:1") for one in everybody])
        connection.execute(tables.projected_document.insert(), [noted(one, "loan:2") for one in everybody])
        written = connection.execute(sa.select(tables.written.c.person_id, tables.written.c.at))
        times = {row.person_id: row.at for row in written}
    while set(heard) != set(everybody):
        notice = await asyncio.wait_for(anext(listening), 5)
        assert isinstance(notice, Written)
        for one in notice.people:
            heard.setdefault(one, []).append(notice.at)
    await listening.aclose()
    assert all(set(heard[one]) == {times[one]} for one in everybody)


async def test_a_transaction_that_began_early_and_committed_late(
    never_looks: None, device: Device, couch: Couch, people: People, gateway_behind: Running
) -> None:
    """Its time is before that of the last that was told of, and its own notice is lost."""
    async with feed(device) as raw:
        with people._engine.connect() as early:
            early.execute(sa.select(1))
            await couch.write(device.database, {"_id": "loan:1"})
            await until(lambda: raw.ids == ["loan:1"])
            await couch.ask("POST", f"{device.database}/_bulk_docs", {"docs": [{"_id": "loan:2"}]})
            early.execute(tables.projected_document.insert(), [noted(device.person, "loan:2")])
            with people._engine.begin() as connection:
                connection.execute(DEAFEN)
            await until(lambda: not gateway_behind.watch.listening.is_set())
            early.commit()
        await until(lambda: raw.ids == ["loan:1", "loan:2"])


@pytest.mark.parametrize(("rows", "holds"), [(10, False), (400, True)])
async def test_a_device_that_reads_slowly_holds_a_connection_only_for_what_is_large(
    device: Device,
    couch: Couch,
    gateway_behind: Running,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    holds: bool,
) -> None:
    for start in range(0, rows, 50):
        batch = range(start, min(start + 50, rows))
        await couch.write(device.database, *({"_id": f"loan:{n}", "text": "x" * 10_000} for n in batch))
    slow, taken = asyncio.Event(), 0
    write = feeds._Device._write

    async def slowly(self: feeds._Device, data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        await slow.wait()
        await write(self, data)

    monkeypatch.setattr(feeds._Device, "_write", slowly)
    slots = gateway_behind.upstream.slots._free
    free = slots._value
    raw = await Raw.asks(device, "_changes?feed=continuous&include_docs=true&heartbeat=60000")
    await until(lambda: taken)
    assert gateway_behind.left.get("to CouchDB", 0) == holds
    assert free - slots._value == holds
    slow.set()
    await until(lambda: len(raw.ids) == rows)
    await until(lambda: slots._value == free and "to CouchDB" not in gateway_behind.left)
    await raw.close()


@pytest.mark.parametrize("kind", ["continuous", "longpoll"])
async def test_couchdb_breaks_off_in_the_middle_of_a_line(
    device: Device, couch: Couch, door: Door, gateway_behind: Running, kind: str
) -> None:
    """The device sees it, has whole lines only, and goes on from the last: nothing is lost, nothing comes twice."""
    await couch.write(device.database, *({"_id": f"loan:{number}"} for number in range(5)))
    first = await last_seq(couch, device)
    async with feed(device, f"feed={kind}&heartbeat=1000&since={first}") as raw:
        door.tear_after = len(b'{"seq":,"id":"loan:0",') + 60
        await couch.write(device.database, *({"_id": f"loan:{number}"} for number in range(10, 20)))
        assert await raw.over() == "torn"
        got = raw.ids
    assert len(got) < 10
    await until(lambda: gateway_behind.empty)
    since = raw.rows[-1]["seq"] if got else first
    async with feed(device, f"feed={kind}&heartbeat=1000&since={since}") as raw:
        await until(lambda: len(raw.ids) + len(got) >= 10)
        assert got + raw.ids == [f"loan:{number}" for number in range(10, 20)]


async def test_heartbeats_come_though_the_bell_rings_all_the_time(device: Device, couch: Couch) -> None:
    async with feed(device, "feed=continuous&heartbeat=1000&filter=_doc_ids&doc_ids=%5B%22mine%22%5D") as raw:
        end = time.monotonic() + 3.5
        beats = len(raw.body)
        number = 0
        while time.monotonic() < end:
            await couch.write(device.database, {"_id": f"loan:{number}"})
            number += 1
            await asyncio.sleep(0.05)
        assert raw.body.strip() == b""
        assert 2 <= len(raw.body) - beats <= 4
        await couch.write(device.database, {"_id": "mine"})
        await until(lambda: raw.ids == ["mine"])


# What CouchDB does

SETTLED = [{"_id": f"loan:{number}", "n": number} for number in range(4)]


async def prepared(couch: Couch, device: Device) -> None:
    written = await couch.write(device.database, *SETTLED)
    await couch.write(device.database, {"_id": "loan:1", "_rev": written[1]["rev"], "n": 10})
    await couch.write(device.database, {"_id": "loan:2", "_rev": written[2]["rev"], "_deleted": True})
    picture = {"content_type": "image/png", "data": "aGVsbG8="}
    await couch.write(device.database, {"_id": "client:1:image", "_attachments": {"image": picture}})


def comparable(text: bytes) -> Any:
    """The rows and the end, without sequences, which two questions need not get the same; empty lines aside."""

    def stripped(row: dict[str, Any]) -> dict[str, Any]:
        # Which sequences CouchDB gives differs from time to time; whether there is one does not.
        return {
            **{name: value for name, value in row.items() if name not in ("seq", "last_seq", "pending")},
            "placed": row.get("seq", row.get("last_seq")) is not None,
        }

    if text.lstrip().startswith(b'{"results"'):
        whole = json.loads(text)
        return "longpoll", [stripped(row) for row in whole.pop("results")], stripped(whole)
    return "continuous", [stripped(json.loads(line)) for line in text.split(b"\n") if line.strip()]


@pytest.mark.parametrize("kind", ["longpoll", "continuous"])
@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("timeout=100", None),
        ("timeout=100&since=now", None),
        ("timeout=0&since=now", None),
        ("timeout=100&since=0&limit=2", None),
        ("timeout=100&limit=1", None),
        ("timeout=100&limit=100", None),
        ("timeout=100&include_docs=true", None),
        ("timeout=100&include_docs=true&attachments=true", None),
        ("timeout=100&style=all_docs", None),
        ("timeout=100&include_docs=true&conflicts=true", None),
        ("timeout=100&filter=_doc_ids", {"doc_ids": ["loan:1", "loan:2", "no"]}),
        ("timeout=100&filter=_doc_ids&doc_ids=%5B%22loan%3A3%22%5D", None),
        ("timeout=100&filter=_doc_ids&since=now", {"doc_ids": ["loan:1"]}),
        ("heartbeat=1000&limit=3", None),
        ("timeout=1000&heartbeat=1000&limit=3", None),
        ("timeout=100&descending=true", None),
        ("heartbeat=1000&descending=true", None),
        ("timeout=100&descending=true&limit=2", None),
    ],
)
async def test_it_looks_as_couchdbs_own(
    device: Device, couch: Couch, kind: str, query: str, body: dict[str, Any] | None
) -> None:
    await prepared(couch, device)
    path = f"_changes?feed={kind}&{query}"
    async with couch.session.request(
        "GET" if body is None else "POST",
        f"{str(couch.url).rstrip('/')}/{device.database}/{path}",
        json=body,
        headers={"Accept": "application/json"},
    ) as response:
        expected = comparable(await response.read())
    data = None if body is None else json.dumps(body).encode()
    raw = await Raw.asks(device, path, method="GET" if body is None else "POST", body=data)
    assert (await raw.over(), raw.status) == ("end", 200)
    assert comparable(raw.body) == expected
    await raw.close()


@pytest.mark.parametrize("kind", ["longpoll", "continuous"])
async def test_rows_without_a_place(device: Device, couch: Couch, kind: str) -> None:
    """`seq_interval`: CouchDB counts from its shards' beginnings; the last place is always there."""
    await prepared(couch, device)
    raw = await Raw.asks(device, f"_changes?feed={kind}&timeout=100&seq_interval=3")
    assert await raw.over() == "end"
    assert len(raw.rows) == 5
    last = json.loads(raw.body)["last_seq"] if kind == "longpoll" else raw.lines[-1]["last_seq"]
    assert str(last) == await last_seq(couch, device)
    await raw.close()


@pytest.mark.parametrize("limit", [0, 1])
async def test_a_limit_of_nought_is_one(device: Device, couch: Couch, limit: int) -> None:
    """As CouchDB's documentation has it; CouchDB 3.5 itself gives no row and lets a long poll wait."""
    await prepared(couch, device)
    async with feed(device, f"feed=longpoll&limit={limit}&heartbeat=1000") as raw:
        assert await raw.over() == "end"
        assert len(raw.rows) == 1
    async with feed(device, f"feed=longpoll&limit={limit}&heartbeat=1000&since=now") as raw:
        assert not raw.ended
        await couch.write(device.database, {"_id": "loan:9"}, {"_id": "loan:10"})
        assert await raw.over() == "end"
        assert len(raw.rows) == 1


async def test_a_continuous_feed_ends_with_its_limit_over_several_rings(device: Device, couch: Couch) -> None:
    async with feed(device, "feed=continuous&limit=3&heartbeat=1000") as raw:
        for number in range(3):
            assert not raw.ended
            await couch.write(device.database, {"_id": f"loan:{number}"})
            await until(lambda: len(raw.ids) == number + 1)  # noqa: B023 - over before the next
        assert await raw.over() == "end"
        assert "last_seq" in raw.lines[-1]


async def test_a_continuous_feed_ends_so_long_after_its_last_row(device: Device, couch: Couch) -> None:
    async with feed(device, "feed=continuous&timeout=3000") as raw:
        started = time.monotonic()
        for number in range(3):
            await couch.write(device.database, {"_id": f"loan:{number}"})
            await until(lambda: len(raw.ids) == number + 1)  # noqa: B023 - over before the next
            await asyncio.sleep(0.7)
        assert await raw.over() == "end"
        assert time.monotonic() - started > 1.4 + 3  # and not three seconds after the beginning
        assert str(raw.lines[-1]["last_seq"]) == await last_seq(couch, device)


async def test_a_heartbeat_of_true_is_a_minute(device: Device) -> None:
    async with feed(device, "feed=longpoll&heartbeat=true") as raw:
        begun = raw.body
        with contextlib.suppress(AssertionError):
            await until(lambda: raw.ended or raw.body != begun, within=1.5)
        assert (raw.ended, raw.body) == ("", begun)


async def test_a_place_in_another_database_is_its_beginning(device: Device, couch: Couch) -> None:
    """The worker makes a lost database again: who waits gets all of it, and so does an old place."""
    await couch.write(device.database, *({"_id": f"loan:{number}"} for number in range(9)))
    since = await last_seq(couch, device)
    async with feed(device, f"{CONTINUOUS}&since={since}") as waits:
        security = await couch.ask("GET", f"{device.database}/_security")
        await couch.ask("DELETE", device.database)
        await couch.ask("PUT", f"{device.database}?q=1")
        await couch.ask("PUT", f"{device.database}/_security", security)
        await couch.write(device.database, {"_id": "loan:1"}, {"_id": "loan:100"})
        await until(lambda: sorted(waits.ids) == ["loan:1", "loan:100"])
    async with feed(device, f"{LONGPOLL}&since={since}") as raw:
        assert await raw.over() == "end"
        assert sorted(raw.ids) == ["loan:1", "loan:100"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("feed=longpoll&since=nonsense", 400),
        ("feed=continuous&filter=_doc_ids", 400),
        ("feed=longpoll&limit=many", 400),
        ("feed=longpoll&heartbeat=no", 400),
        ("feed=continuous&timeout=true", 400),
    ],
)
async def test_an_error_is_an_answer(device: Device, gateway_behind: Running, query: str, status: int) -> None:
    raw = await Raw.asks(device, f"_changes?{query}")
    assert await raw.over() == "end"
    assert raw.status == status
    assert json.loads(raw.body).keys() >= {"code", "message"}
    await raw.close()
    await until(lambda: gateway_behind.empty)
