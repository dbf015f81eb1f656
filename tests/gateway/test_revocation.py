"""Whoever may no longer read gets nothing more: not with the next request, and not on what is open."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
import sqlalchemy as sa
from aiohttp import web

from auth_service import devices, leaving, sessions, tenant
from auth_service import people as persons
from passbook.audit.chain import Actor
from passbook.credentials import principal
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway import watch
from sync_gateway.credentials import DatabaseCredentials, Principal, Standing
from sync_gateway.open_requests import OpenRequests
from sync_gateway.serving import serving
from tests.gateway.conftest import Device, People, basic, settled
from tests.gateway.pipes import Pipe, Raw, Running, feed, repeat, running, until
from tests.support.actors import TESTER
from tests.support.couch import Couch

CUT_WITHIN = 1.0
WRITES_EVERY = 0.05
LARGE = "x" * 100_000


class Access:
    """What an administrator does, as the auth service does it."""

    def __init__(self, service_url: str) -> None:
        self._database = ServiceDatabase(service_url)
        self._by: Actor = TESTER

    def close(self) -> None:
        self._database.dispose()

    def revoke(self, device: Device) -> None:
        self._database.run(devices.revoke, self._by, device.id)

    def sign_out(self, device: Device) -> None:
        """By the phone itself, with the one call that there is for it."""
        terms = sessions.Terms(dt.timedelta(days=1), dt.timedelta(days=1), dt.timedelta(0))

        def act(connection: sa.Connection) -> None:
            opened = sessions.start(connection, sessions.Principal(person=device.person), terms)
            leaving.sign_out(connection, self._by, opened.session, device_id=device.id)

        self._database.run(act)

    def suspend(self, device: Device) -> None:
        self._database.run(persons.suspend, self._by, device.person)

    def restore(self, device: Device) -> None:
        self._database.run(persons.restore, self._by, device.person)

    def expire(self, device: Device) -> None:
        self._end_at(device, dt.datetime.now(dt.UTC))

    def expire_soon(self, device: Device) -> None:
        """By the clock alone: nobody tells anybody of the moment."""
        self._end_at(device, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1))
        time.sleep(1)

    def _end_at(self, device: Device, at: dt.datetime) -> None:
        change = tables.device.update().where(tables.device.c.id == device.id).values(expires_at=at)
        self._database.run(lambda connection: connection.execute(change))

    def reset_password(self, device: Device) -> None:
        self._database.run(persons.reset_password, self._by, device.person, "-", revoke_devices=True)

    def switch_off(self, _: Device) -> None:
        self._database.run(lambda connection: tenant.switch(connection, self._by, to_open=False, reason="test"))

    def switch_on(self) -> None:
        self._database.run(lambda connection: tenant.switch(connection, self._by, to_open=True, reason="test"))

    def delete(self, device: Device) -> None:
        self._database.run(persons.begin_deletion, self._by, device.person)


#: What is done, and the code of the 401 that follows.
CAUSES = {
    "revocation": (Access.revoke, "revoked"),
    "signing_out": (Access.sign_out, "revoked"),
    "suspension": (Access.suspend, "suspended"),
    "expiry": (Access.expire_soon, "expired"),
    "expiry_set": (Access.expire, "expired"),
    "password_reset_with_revocation": (Access.reset_password, "revoked"),
    "tenant_off": (Access.switch_off, "maintenance"),
    "deletion": (Access.delete, "unknown"),
}
Cause = tuple[Callable[[Access, Device], None], str]


@pytest.fixture(params=CAUSES)
def cause(request: pytest.FixtureRequest) -> Cause:
    return CAUSES[request.param]


@pytest.fixture
def access(service_url: str) -> Any:
    made = Access(service_url)
    yield made
    made.switch_on()
    made.close()


@pytest.fixture
async def gateways(service_url: str, couch_url: str) -> AsyncIterator[list[Running]]:
    async with running(service_url, couch_url) as one, running(service_url, couch_url) as two:
        yield [one, two]


@pytest.fixture
async def device(couch: Couch, people: People) -> Device:
    couch.wrote = people.wrote
    return await settled(couch, people)


async def refusal(device: Device) -> tuple[int, str]:
    raw = await Raw.asks(device, "")
    await raw.over()
    await raw.close()
    said = json.loads(raw.body)
    assert said["message"]
    return raw.status, said["code"]


async def cut_off(device: Device, couch: Couch, access: Access, cause: Cause, gateways: list[Running]) -> None:
    """The crux: clients that never disconnect, writes that never stop, and then access ends."""

    async def write(number: int) -> None:
        await couch.write(device.database, {"_id": f"loan:{number:06}", "at": time.monotonic()})

    act, code = cause
    async with contextlib.AsyncExitStack() as stack:
        feeds = [
            await stack.enter_async_context(feed(gateway.of(device), "feed=continuous&include_docs=true"))
            for gateway in gateways
        ]
        writer = asyncio.create_task(repeat(WRITES_EVERY, write))
        try:
            await until(lambda: all(len(raw.rows) >= 5 for raw in feeds))
            await asyncio.to_thread(act, access, device)
            ended_at = time.monotonic()
            seen = [await refusal(gateway.of(device)) for gateway in gateways]
            await until(lambda: all(raw.ended for raw in feeds), within=CUT_WITHIN + 1)
            # And they stay silent, while there is ever more to tell.
            written = couch.databases and await couch.ask("GET", device.database)
            await asyncio.sleep(max(0.0, ended_at + CUT_WITHIN + 0.5 - time.monotonic()))
            more = await couch.ask("GET", device.database)
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
        assert more["doc_count"] > written["doc_count"]
        for raw in feeds:
            assert raw.ended == "torn"
            assert raw.at <= ended_at + CUT_WITHIN
            assert all(row["doc"]["at"] <= ended_at + CUT_WITHIN for row in raw.rows)
        assert seen == [(401, code)] * len(gateways)
        await until(lambda: all(gateway.empty for gateway in gateways))


async def test_T04_an_open_feed_ends_with_access(
    device: Device, couch: Couch, access: Access, cause: Cause, gateways: list[Running]
) -> None:
    await cut_off(device, couch, access, cause, gateways[:1])


async def test_T04_an_open_feed_ends_with_access_on_every_gateway(
    device: Device, couch: Couch, access: Access, cause: Cause, gateways: list[Running]
) -> None:
    await cut_off(device, couch, access, cause, gateways)


async def test_a_suspended_person_synchronises_again_with_the_same_credential(
    device: Device, access: Access, gateways: list[Running]
) -> None:
    here = gateways[0].of(device)
    await asyncio.to_thread(access.suspend, device)
    assert await refusal(here) == (401, "suspended")
    await asyncio.to_thread(access.restore, device)
    async with feed(here) as raw:
        await until(lambda: not raw.ended)
    assert await told(here) == {}


async def told(device: Device, *, secret: str = "") -> dict[str, Any]:
    """What a 401 says besides its code and message; empty for an answer that is none."""
    credential = {"Authorization": basic(device.id, secret or device.secret)}
    async with aiohttp.ClientSession() as session, session.get(device.url, headers=credential) as answer:
        said = await answer.json()
    if answer.status != 401:
        return {}
    return {name: value for name, value in said.items() if name not in ("message", "error", "reason")}


async def test_a_device_is_told_why_its_access_ended_and_a_stranger_is_not(
    couch: Couch, people: People, access: Access, gateways: list[Running]
) -> None:
    couch.wrote = people.wrote
    for act, because in (
        (Access.revoke, "institution"),
        (Access.sign_out, "signed_out"),
        (Access.reset_password, "password_changed"),
    ):
        device = gateways[0].of(await settled(couch, people))
        await asyncio.to_thread(act, access, device)
        assert await told(device) == {"code": "revoked", "because": because}
        assert await told(device, secret="a wrong one") == {"code": "unknown"}
    # One that was revoked before this was kept is told nothing.
    device = gateways[0].of(await settled(couch, people))
    people.change(tables.device, device.id, revoked_at=dt.datetime.now(dt.UTC))
    assert await told(device) == {"code": "revoked"}


async def test_T04_only_theirs_ends(
    device: Device, couch: Couch, people: People, access: Access, gateways: list[Running]
) -> None:
    gateway = gateways[0]
    second = Device(f"{device.id}-2", "another secret", device.person, device.database)
    people.add_device(second)
    stranger = await settled(couch, people)
    async with (
        feed(gateway.of(device)) as mine,
        feed(gateway.of(second)) as also,
        feed(gateway.of(stranger)) as other,
        feed(gateway.of(device), "feed=longpoll&heartbeat=60000") as poll,
    ):
        await asyncio.to_thread(access.revoke, device)
        assert [await raw.over(CUT_WITHIN) for raw in (mine, poll)] == ["torn", "torn"]
        await couch.write(device.database, {"_id": "loan:1"})
        await until(lambda: also.ids == ["loan:1"])
        assert gateway.parts.requests.cuts == {"revoked": 2}
        await asyncio.to_thread(access.suspend, device)
        assert await also.over(CUT_WITHIN) == "torn"
        await couch.write(stranger.database, {"_id": "loan:2"})
        await until(lambda: other.ids == ["loan:2"])
        assert len(gateway.parts.requests) == 1


async def large(couch: Couch, device: Device) -> None:
    for part in range(10):
        await couch.write(device.database, *({"_id": f"loan:{part}:{n}", "text": LARGE} for n in range(10)))


def remaining(connection: socket.socket) -> int:
    """How many bytes can still be read, until the connection is over."""
    connection.setblocking(True)
    connection.settimeout(5)
    count = 0
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(1_000_000):
            count += len(data)
    return count


@pytest.mark.parametrize("path", ["_all_docs?include_docs=true", "_changes?feed=continuous&include_docs=true"])
async def test_T04_a_client_that_never_reads(
    device: Device, couch: Couch, access: Access, gateways: list[Running], path: str
) -> None:
    """What the gateway has handed to the kernel and the network has not yet taken does not arrive either."""
    gateway = gateways[0]
    await large(couch, device)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", int(gateway.url.rpartition(":")[2])))
        head = (
            f"GET /passbook/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(device.id, device.secret)}\r\n\r\n"
        )
        await loop.sock_sendall(connection, head.encode())
        request = await until(lambda: list(gateway.parts.requests._all()))
        writing = request[0].request.transport
        # Until the kernel takes no more, and what is left waits in the process.
        await until(lambda: writing.get_write_buffer_size() > 0)
        await asyncio.to_thread(access.revoke, device)
        await until(lambda: gateway.empty, within=CUT_WITHIN)
        assert await asyncio.to_thread(remaining, connection) < 100_000


async def test_T04_a_streaming_answer_is_cut(
    device: Device, couch: Couch, access: Access, gateways: list[Running]
) -> None:
    gateway = gateways[0]
    await large(couch, device)
    raw = await Raw.connect(gateway.url, limit=4096)
    raw.send(gateway.of(device), "_all_docs?include_docs=true")

    async def read_slowly(_: int) -> None:
        raw.body += await raw.reader.read(4096)

    reading = asyncio.create_task(repeat(0.01, read_slowly))
    await until(lambda: len(raw.body) > 20_000)
    await asyncio.to_thread(access.revoke, device)
    await until(lambda: gateway.empty, within=CUT_WITHIN)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await raw.close()


class Slow(DatabaseCredentials):
    """Has found out who asks, and takes its time to say so."""

    door: asyncio.Event
    answered: int

    async def principal(self, authorization: list[str]) -> Principal:
        try:
            return await super().principal(authorization)
        finally:
            self.answered += 1
            await self.door.wait()


@pytest.mark.parametrize("cause", ["revocation", "suspension", "tenant_off", "deletion"], indirect=True)
@pytest.mark.parametrize("path", ["_changes?feed=continuous&heartbeat=1000", "loan:1"])
async def test_T04_access_ends_between_the_question_who_asks_and_the_answer(
    device: Device,
    couch: Couch,
    access: Access,
    cause: Cause,
    gateways: list[Running],
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway = gateways[0]
    act, code = cause
    await couch.write(device.database, {"_id": "loan:1"})
    credentials = gateway.credentials
    monkeypatch.setattr(credentials, "__class__", Slow)
    assert isinstance(credentials, Slow)
    credentials.door, credentials.answered = asyncio.Event(), 0
    raw = await Raw.asks(gateway.of(device), path)
    await until(lambda: credentials.answered == 1)
    told = gateway.parts.requests.told
    await asyncio.to_thread(act, access, device)
    await until(lambda: gateway.parts.requests.told > told)
    assert gateway.empty
    credentials.door.set()
    assert await raw.over() == "end"
    assert (raw.status, json.loads(raw.body)["code"]) == (401, code)
    assert credentials.answered == 2
    await raw.close()


async def test_T04_what_goes_wrong_once(
    device: Device, access: Access, gateways: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the very look that was to close the feed does not keep it open."""
    gateway = gateways[0]
    standing, failed = gateway.credentials.standing, 0

    async def faulty(devices: Sequence[str]) -> dict[str, Standing]:
        nonlocal failed
        if not failed:
            failed += 1
            raise ValueError("a fault of ours")
        return await standing(devices)

    async with feed(gateway.of(device)) as raw:
        monkeypatch.setattr(gateway.credentials, "standing", faulty)
        await asyncio.to_thread(access.revoke, device)
        assert await raw.over(within=CUT_WITHIN + 1) == "torn"
        assert failed == 1


async def test_a_copy_or_a_credential_that_was_replaced(
    device: Device, couch: Couch, people: People, gateways: list[Running]
) -> None:
    """What began with the old one does not go on."""
    gateway = gateways[0]
    fresh = await couch.create()
    await couch.let_in(fresh, principal(device.person))
    for table, row, values in (
        (tables.person, device.person, {"database_name": fresh}),
        (tables.person, device.person, {"generation": 2}),
        (tables.device, device.id, {"secret_digest": b"another"}),
    ):
        async with feed(gateway.of(device)) as raw:
            people.change(table, row, **values)
            assert await raw.over(CUT_WITHIN) == "torn"
    assert gateway.parts.requests.cuts == {"replaced": 3}


async def test_access_that_goes_on_longer_than_was_known(
    device: Device, people: People, gateways: list[Running]
) -> None:
    gateway = gateways[0]
    people.change(tables.device, device.id, expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5))
    async with feed(gateway.of(device)) as raw:
        people.change(tables.device, device.id, expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
        await asyncio.sleep(2.5)
        assert raw.ended == ""
        # It was asked about once more when it was to expire, and not ever since.
        assert gateway.parts.requests._expiry > dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)


async def test_many_at_once(couch: Couch, people: People, access: Access, gateways: list[Running]) -> None:
    """A wave of revocations is carried out within the same second."""
    gateway = gateways[0]
    all_of_them = [await settled(couch, people) for _ in range(100)]
    async with contextlib.AsyncExitStack() as stack:
        feeds = [await stack.enter_async_context(feed(gateway.of(one))) for one in all_of_them]

        def revoke_all() -> None:
            with people._engine.begin() as connection:
                ids = [one.id for one in all_of_them[:90]]
                connection.execute(
                    tables.device.update().where(tables.device.c.id.in_(ids)).values(revoked_at=sa.func.now())
                )

        await asyncio.to_thread(revoke_all)
        await until(lambda: all(raw.ended for raw in feeds[:90]), within=CUT_WITHIN)
        assert not any(raw.ended for raw in feeds[90:])


async def test_T04_a_cut_waits_for_nobody() -> None:
    """Not for what answers the request either, which may be in the middle of something."""
    requests, on, stopped = OpenRequests(), asyncio.Event(), asyncio.Event()
    whose = SimpleNamespace(
        device_id="device-1", person_id="person-1", expires_at=dt.datetime.max.replace(tzinfo=dt.UTC)
    )

    async def answer(request: web.Request) -> web.StreamResponse:
        with requests.entered(cast(Principal, whose), request, "continuous"):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"begun")
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
                await on.wait()
            return response

    application = web.Application()
    application.router.add_get("/", answer)
    async with serving(application, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{port}/") as response:
            assert await response.content.readexactly(5) == b"begun"
            assert requests.cut(["device-1"], "revoked") == 1
            async with asyncio.timeout(CUT_WITHIN):
                with pytest.raises(aiohttp.ClientError):
                    await response.content.read()
            await asyncio.wait_for(stopped.wait(), CUT_WITHIN)
            assert len(requests) == 1
        on.set()
        await until(lambda: len(requests) == 0)


# The service database is away


@contextlib.asynccontextmanager
async def cut_from_database(service_url: str, couch_url: str, grace: float) -> AsyncIterator[tuple[Pipe, Running]]:
    async with Pipe.before(service_url) as pipe, running(pipe.url, couch_url, grace=grace) as one:
        yield pipe, one


async def go_away(pipe: Pipe, how: str) -> None:
    pipe.refuses = True
    if how == "silence":
        pipe.freeze()
    else:
        pipe.tear()


@pytest.mark.parametrize("how", ["refuses", "silence"])
async def test_known_good_devices_are_served_while_the_database_is_away(
    device: Device, couch: Couch, couch_url: str, people: People, service_url: str, how: str
) -> None:
    async with cut_from_database(service_url, couch_url, grace=300) as (pipe, gateway):
        one, other, third = [gateway.of(await settled(couch, people)) for _ in range(3)]
        async with feed(one) as raw, feed(other) as theirs:
            await go_away(pipe, how)
            await until(lambda: not gateway.watch.listening.is_set())
            for _ in range(2):
                answer = await Raw.asks(one, "")
                assert (await answer.over(), answer.status) == ("end", 200)
                await answer.close()
            for bad in (third, Device(one.id, "wrong", one.person, one.database, one.url)):
                answer = await Raw.asks(bad, "")
                assert (await answer.over(), answer.status) == ("end", 503)
                assert json.loads(answer.body)["code"] == "unavailable"
                await answer.close()
            # Revoked meanwhile, which this gateway cannot know: until it can.
            people.change(tables.device, other.id, revoked_at=sa.func.now())
            assert (raw.ended, theirs.ended) == ("", "")
            pipe.refuses = False
            back_at = time.monotonic()
            assert await theirs.over(within=4) == "torn"
            assert how == "silence" or time.monotonic() - back_at < 2.5
            await couch.write(one.database, {"_id": "loan:1"})
            people.wrote(one.database)
            await until(lambda: raw.ids == ["loan:1"])
            answer = await Raw.asks(third, "")
            assert (await answer.over(), answer.status) == ("end", 200)
            await answer.close()


async def test_who_was_revoked_before_the_database_went_away_is_not_served(
    device: Device, couch_url: str, access: Access, service_url: str
) -> None:
    """Told of it with nothing open: what was known before is not believed any more."""
    async with cut_from_database(service_url, couch_url, grace=300) as (pipe, gateway):
        one = gateway.of(device)
        for act in (access.revoke, access.suspend, access.switch_off):
            gateway.credentials.known._all_told = float("-inf")
            answer = await Raw.asks(one, "")
            await answer.over()
            await answer.close()
            told = gateway.parts.requests.told
            act(one)
            await until(lambda told=told: gateway.parts.requests.told > told)
            await go_away(pipe, "refuses")
            answer = await Raw.asks(one, "")
            assert (await answer.over(), answer.status) == ("end", 503)
            await answer.close()
            pipe.refuses = False
            await until(gateway.watch.listening.is_set)


async def test_after_the_grace_nothing_is_served_and_nothing_stays_open(
    device: Device, couch: Couch, couch_url: str, people: People, service_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grace = 3.0
    monkeypatch.setattr(watch, "POLL", 0.5)
    async with cut_from_database(service_url, couch_url, grace=grace) as (pipe, gateway):
        one = gateway.of(device)
        async with feed(one) as raw:
            await asyncio.sleep(1.5)  # looked at meanwhile: known to be good
            await go_away(pipe, "refuses")
            away_at = time.monotonic()
            while time.monotonic() < away_at + grace - 1.5:
                answer = await Raw.asks(one, "")
                assert (await answer.over(), answer.status) == ("end", 200)
                await answer.close()
                assert raw.ended == ""
                await asyncio.sleep(0.2)
            assert await raw.over(within=3) == "torn"
            assert grace - 1.0 < time.monotonic() - away_at < grace + 1.5
            answer = await Raw.asks(one, "")
            assert (await answer.over(), answer.status) == ("end", 503)
            await answer.close()
            assert gateway.empty
            assert gateway.parts.requests.cuts == {"unverifiable": 1}
            pipe.refuses = False
            await until(gateway.watch.listening.is_set)
            async with feed(one) as again:
                await couch.write(one.database, {"_id": "loan:1"})
                await until(lambda: again.ids == ["loan:1"])


async def test_nobody_is_known_for_good_longer_than_the_grace(
    device: Device, couch: Couch, couch_url: str, service_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes late in the grace does not stay for another one."""
    monkeypatch.setattr(watch, "POLL", 0.5)
    async with cut_from_database(service_url, couch_url, grace=2.0) as (pipe, gateway):
        one = gateway.of(device)
        answer = await Raw.asks(one, "")
        await answer.over()
        await answer.close()
        known_at = time.monotonic()
        await go_away(pipe, "refuses")
        await until(lambda: not gateway.watch.listening.is_set())
        await asyncio.sleep(max(0.0, known_at + 1.0 - time.monotonic()))
        async with feed(one) as raw:
            assert await raw.over(within=3) == "torn"
            assert time.monotonic() - known_at < 3.0
