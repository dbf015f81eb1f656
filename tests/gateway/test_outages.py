"""The service database goes away and comes back: a real PostgreSQL, stopped and started, and a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
import structlog

from passbook.database import database_url
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway import admin, outages
from sync_gateway.app import Parts
from sync_gateway.limits import Bounds, Limits
from sync_gateway.outages import Outage
from tests.gateway.conftest import People
from tests.gateway.gateways import device_of, gateway_process
from tests.gateway.pipes import Raw, feed, until
from tests.gateway.test_metrics import administration
from tests.support import own_postgres
from tests.support.couch import Couch
from tests.support.databases import witnessed
from tests.support.own_couchdb import free_port


@pytest.fixture(scope="module")
def postgres() -> Iterator[own_postgres.OwnPostgres]:
    with own_postgres.own() as server:
        database = ServiceDatabase(server.url)
        database.migrate()
        database.dispose()
        witnessed(server.url)
        yield server


async def ready(port: int) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/health/ready") as response:
        return response.status, await response.json()


async def eventually(port: int, what: Any, within: float = 20.0) -> tuple[int, dict[str, Any]]:
    async with asyncio.timeout(within):
        while True:
            found = await ready(port)
            if what(*found):
                return found
            await asyncio.sleep(0.05)


async def status_of(device: Any) -> int:
    answer = await Raw.asks(device, "")
    await answer.over()
    await answer.close()
    return answer.status


async def test_a_gateway_is_ready_for_as_long_as_it_serves_without_postgresql(
    couch: Couch, couch_url: str, postgres: own_postgres.OwnPostgres, tmp_path: Path
) -> None:
    engine = sa.create_engine(database_url(postgres.url))
    people = People(engine)
    port, grace = free_port(), 8.0
    settings = {"PASSBOOK_GATEWAY_ADMIN_PORT": str(port), "PASSBOOK_GATEWAY_GRACE_SECONDS": str(grace)}
    # By the owner: roles are no part of this.
    plain = {"PASSBOOK_SERVICE_DB_URL": postgres.url, "PASSBOOK_LOG_LEVEL": "warning"}
    with gateway_process(postgres.url, couch_url, tmp_path, **settings, **plain) as gateway:
        assert (await eventually(port, lambda code, _: code == 200))[1] == {"ok": True, "missing": []}
        one = await device_of(gateway, couch, people)
        assert await status_of(one) == 200
        async with feed(one) as raw:
            stopped_at = datetime.now(UTC)
            await asyncio.to_thread(postgres.stop)
            try:
                code, said = await eventually(port, lambda _, said: len(said.get("degraded", ())) == 2)
                assert (code, said["ok"], said["missing"]) == (200, True, [])
                for name in ("service_database", "notices"):
                    until_then = datetime.fromisoformat(said["degraded"][name]["until"])
                    assert until_then <= datetime.now(UTC) + timedelta(seconds=grace)
                    assert until_then >= stopped_at
                    assert said["degraded"][name]["reason"]
                # Ready: and it does serve.
                assert await status_of(one) == 200
                assert raw.ended == ""
                # When nobody is served any more it says so.
                code, said = await eventually(port, lambda code, _: code == 503)
                assert "service_database" in said["missing"]
                await until(lambda: raw.ended == "torn", "the end of the feed")
                assert await status_of(one) == 503
                for _ in range(10):
                    await status_of(one)
            finally:
                await asyncio.to_thread(postgres.start)
        await eventually(port, lambda code, said: (code, said) == (200, {"ok": True, "missing": []}))
        assert await status_of(one) == 200
        await until(lambda: gateway.said("service_database_unavailable_over"), "the end of it in the log")
        told = gateway.said("service_database_unavailable")
        # Each reason once, as it did not last a minute: stopping, refusing, starting.
        assert told
        assert max(Counter(line["reason"] for line in told).values()) == 1
        assert len(told) <= 5
        for line in told:
            assert (line["level"], line["server"]) == ("error", postgres.server)
        assert any("refused" in line["reason"] for line in told)
        (over,) = gateway.said("service_database_unavailable_over")
        assert over["server"] == postgres.server
        assert over["failures"] > 10
        log = gateway.log.read_text()
        assert own_postgres.PASSWORD not in log
        assert len(log.splitlines()) <= len(told) + 4, log  # it has started, it is over
    engine.dispose()


async def test_without_a_grace_it_is_not_ready_at_once(
    couch: Couch, couch_url: str, postgres: own_postgres.OwnPostgres, tmp_path: Path
) -> None:
    engine = sa.create_engine(database_url(postgres.url))
    port = free_port()
    settings = {"PASSBOOK_GATEWAY_ADMIN_PORT": str(port), "PASSBOOK_GATEWAY_GRACE_SECONDS": "0"}
    with gateway_process(
        postgres.url, couch_url, tmp_path, **settings, PASSBOOK_SERVICE_DB_URL=postgres.url
    ) as gateway:
        await eventually(port, lambda code, _: code == 200)
        one = await device_of(gateway, couch, People(engine))
        assert await status_of(one) == 200
        await asyncio.to_thread(postgres.stop)
        try:
            code, said = await ready(port)
            assert (code, said["ok"]) == (503, False)
            assert "degraded" not in said
        finally:
            await asyncio.to_thread(postgres.start)
    engine.dispose()


def test_the_log_of_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    outage = Outage("away", database_url("postgresql://somebody:pa%40ss@db.example:5432/passbook"), lambda: now)

    def at(second: float, error: str) -> None:
        nonlocal now
        now = second
        outage.failed(OSError(error))

    with structlog.testing.capture_logs() as lines:
        outage.answered()
        for tenth in range(1300):  # two minutes and ten seconds
            at(tenth / 10, "connection to db.example failed: Connection refused, pa@ss")
            outage.answered()  # some succeed meanwhile
        at(130.0, "FATAL: the database system is starting up")
        now = 140.0
        outage.answered()
        outage.answered()
    assert [(line["event"], line["seconds"], line["failures"]) for line in lines] == [
        ("away", 0.0, 1),
        ("away", 60.0, 601),
        ("away", 120.0, 1201),
        ("away", 130.0, 1301),
        ("away_over", 130.0, 1301),
    ]
    assert {line["server"] for line in lines} == {"db.example:5432/passbook"}
    assert lines[0]["reason"] == "connection to db.example failed: Connection refused, ***"
    assert "pa@ss" not in str(lines)
    assert not outage.lasts
    # A server that comes and goes has no more lines than one that stays away.
    with structlog.testing.capture_logs() as lines:
        for second in range(141, 195, 4):
            at(second, "FATAL: the database system is starting up")
            now += outages._SETTLED
            outage.answered()
    assert not [line for line in lines if line["event"] == "away" and line["log_level"] == "error"][1:]


@pytest.mark.parametrize("full", ["connections", "requests"])
async def test_a_gateway_without_room_is_not_ready(full: str) -> None:
    limits = Limits(Bounds(connections=10, requests=2))
    async with administration(Parts.new(), {"room": admin.room(limits)}) as url, aiohttp.ClientSession(url) as http:

        async def said() -> tuple[int, Any]:
            async with http.get("/health/ready") as response:
                return response.status, json.loads(await response.text())

        assert await said() == (200, {"ok": True, "missing": []})
        if full == "connections":
            limits.crowded = lambda: True
        else:
            limits.requests = 2
        code, body = await said()
        assert (code, body["missing"]) == (503, ["room"])
        assert full in body["reasons"]["room"]
        # For a moment only, it does not count.
        looks = iter([True, True] + [False] * 10)
        limits.requests = 0
        limits.crowded = lambda: next(looks)
        assert (await said())[0] == 200


@contextlib.asynccontextmanager
async def connected(port: int, request: bytes, count: int) -> AsyncIterator[None]:
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        writers.append(writer)
    try:
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


async def test_connections_that_all_wait_for_an_answer_leave_no_room(
    couch: Couch, couch_url: str, people: People, service_url: str, tmp_path: Path
) -> None:
    port = free_port()
    settings = {"PASSBOOK_GATEWAY_ADMIN_PORT": str(port), "PASSBOOK_GATEWAY_CONNECTIONS": "6"}
    with gateway_process(service_url, couch_url, tmp_path, **settings) as gateway:
        await eventually(port, lambda code, _: code == 200)
        devices = [await device_of(gateway, couch, people) for _ in range(2)]
        public = int(gateway.root.rpartition(":")[2])
        # Silent ones make room for others.
        async with connected(public, b"", 6):
            assert (await ready(port))[0] == 200
        async with contextlib.AsyncExitStack() as stack:
            # Nine in ten connections may be feeds; the last one asks and does not end.
            for device in (devices[0],) * 3 + (devices[1],) * 2:
                await stack.enter_async_context(feed(device))
            body = "POST /passbook/_revs_diff HTTP/1.1\r\nHost: x"
            body += f"\r\nAuthorization: {devices[0].headers['Authorization']}"
            body += "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            await stack.enter_async_context(connected(public, body.encode(), 1))
            _, said = await eventually(port, lambda code, _: code == 503, within=10)
            assert said["missing"] == ["room"]
        await eventually(port, lambda code, _: code == 200)
