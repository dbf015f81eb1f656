"""T31: a gateway is ready when a device can read through it, and says why when it cannot."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from passbook import couch_access
from sync_gateway import admin
from sync_gateway.app import Parts, build, serving
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.proxy import Upstream
from tests.gateway.conftest import REAL, Device, People, settled
from tests.gateway.gateways import gateway_process
from tests.support import own_couchdb
from tests.support.couch import Couch

KEY = base64.b64encode(b"k" * 32).decode()
TOKENS = (
    "[chttpd]\nauthentication_handlers = {chttpd_auth, jwt_authentication_handler}, "
    "{chttpd_auth, cookie_authentication_handler}, {chttpd_auth, default_authentication_handler}\n"
    f"[jwt_keys]\nhmac:by-hand = {KEY}\n"
)


@contextlib.asynccontextmanager
async def gateway_with(
    credentials: DatabaseCredentials, upstream: Upstream
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """A gateway, and a client of its health."""
    parts = Parts.new()
    checks = {"reading": admin.reading(credentials, upstream)}
    async with (
        serving(build(credentials, upstream, parts), "127.0.0.1", 0) as port,
        serving(admin.build(parts.metrics, checks), "127.0.0.1", 0) as admin_port,
        aiohttp.ClientSession(f"http://127.0.0.1:{admin_port}") as http,
    ):
        yield f"http://127.0.0.1:{port}/passbook", http


async def ready(http: aiohttp.ClientSession) -> tuple[int, dict[str, Any]]:
    async with http.get("/health/ready") as response:
        return response.status, await response.json()


async def status(url: str, device: Device) -> int:
    async with aiohttp.ClientSession() as http, http.get(url, headers=device.headers) as response:
        return response.status


async def test_a_gateway_is_ready_whose_people_can_read(
    couch_url: str, couch: Couch, people: People, credentials: DatabaseCredentials
) -> None:
    access, _ = await couch_access.prepare(couch_url, connect_seconds=5)
    device = await settled(couch, people)
    async with gateway_with(credentials, Upstream(couch_url, access)) as (url, http):
        assert await ready(http) == (200, {"ok": True, "missing": []})
        assert await status(url, device) == 200


async def test_a_couchdb_that_lets_nobody_into_their_database(
    couch_url: str, couch: Couch, people: People, credentials: DatabaseCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    if couch_url != REAL:
        pytest.skip("the embedded server lets in whoever knows its secret")
    access, _ = await couch_access.prepare(couch_url, connect_seconds=5)
    device = await settled(couch, people)
    await couch.let_in(device.database, "somebody else")

    async def only_this_one() -> list[Any]:
        return [await credentials.principal([device.headers["Authorization"]])]

    monkeypatch.setattr(credentials, "anybody", only_this_one)
    async with gateway_with(credentials, Upstream(couch_url, access)) as (url, http):
        assert await status(url, device) == 503
        code, said = await ready(http)
        assert (code, said["missing"]) == (503, ["reading"])
        assert "403" in said["reasons"]["reading"]


async def test_T31_a_clock_that_is_ten_minutes_off_is_named(
    couch_url: str,
    couch: Couch,
    people: People,
    credentials: DatabaseCredentials,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access, _ = await couch_access.prepare(couch_url, connect_seconds=5)
    if access is None:
        pytest.skip("the embedded server takes no tokens")
    device = await settled(couch, people)
    now = time.time
    async with gateway_with(credentials, Upstream(couch_url, access)) as (url, http):
        assert (await ready(http))[0] == await status(url, device) == 200
        access._made.clear()
        monkeypatch.setattr(time, "time", lambda: now() - 600)
        assert await status(url, device) == 503
        code, said = await ready(http)
        assert (code, said["ok"], said["missing"]) == (503, False, ["reading"])
        assert re.search(r"Its clock is (59|60)[0-9] seconds ahead of this machine's", said["reasons"]["reading"])
        access._made.clear()
        monkeypatch.undo()
        assert (await ready(http))[0] == await status(url, device) == 200


@pytest.mark.skipif(not own_couchdb.installed(), reason="needs an installed CouchDB (PASSBOOK_TEST_COUCHDB_HOME)")
async def test_T31_a_key_that_couchdb_has_lost_is_told(service_url: str, people: People, tmp_path: Path) -> None:
    """The whole command, with a key given by hand and no administrator's credentials to mend anything with."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"PASSBOOK_COUCHDB_JWT_KEY": f"by-hand:{KEY}", "PASSBOOK_GATEWAY_ADMIN_PORT": str(port)}
    with own_couchdb.own(tmp_path / "couchdb", TOKENS) as node:
        async with aiohttp.ClientSession() as session:
            couch = Couch(session, node.url)
            device = await settled(couch, people)
            with gateway_process(service_url, node.bare, tmp_path, **settings) as gateway:
                async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:

                    async def eventually(code: int) -> dict[str, Any]:
                        async with asyncio.timeout(20):
                            while (found := await ready(http))[0] != code:  # noqa: ASYNC110 - nothing tells
                                await asyncio.sleep(0.1)
                        return found[1]

                    await eventually(200)
                    assert await status(gateway.url, device) == 200
                    setting = "_node/_local/_config/jwt_keys/hmac%3Aby-hand"
                    await configured(node, "DELETE", setting)
                    assert await status(gateway.url, device) == 503
                    said = await eventually(503)
                    assert said["missing"] == ["reading"]
                    assert "does not take the gateway's tokens" in said["reasons"]["reading"]
                    assert KEY not in json.dumps(said)
                    assert "clock" not in said["reasons"]["reading"]
                    await configured(node, "PUT", setting, KEY)
                    await eventually(200)
                    assert await status(gateway.url, device) == 200


async def configured(node: own_couchdb.OwnCouchDB, method: str, path: str, value: str | None = None) -> None:
    headers = {"Authorization": aiohttp.encode_basic_auth("admin", own_couchdb.PASSWORD)}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, URL(f"{node.bare}/{path}", encoded=True), json=value) as answer,
    ):
        assert answer.status == 200, await answer.text()
