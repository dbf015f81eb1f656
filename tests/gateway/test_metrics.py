"""What an operator sees, on a listener of its own, and what nobody must see there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.error import HTTPError

import aiohttp
import pytest

from passbook.servicedb.tables import device as device_table
from sync_gateway import admin
from sync_gateway.app import Parts
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.metrics import Metrics
from sync_gateway.serving import serving
from tests.gateway.conftest import NOW, People, running_gateway, settled
from tests.support.couch import Couch


def number(text: str, name: str, **labels: str) -> float:
    """The value of one series; 0 if it is not there."""
    for line in text.splitlines():
        found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if found and found[1] == name and dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")) == labels:
            return float(found[3])
    return 0.0


@contextlib.asynccontextmanager
async def administration(parts: Parts, checks: dict[str, admin.Check], token: str = "") -> AsyncIterator[str]:
    built = admin.build(parts.metrics, checks, token=token)
    async with serving(built, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - there is nothing that tells
            await asyncio.sleep(0.01)


async def test_what_is_counted(
    service_url: str, couch_url: str, credentials: DatabaseCredentials, couch: Couch, people: People
) -> None:
    parts = Parts.new()
    metrics = parts.metrics
    async with (
        running_gateway(service_url, couch_url, credentials, parts=parts) as url,
        aiohttp.ClientSession(url) as http,
    ):
        device = await settled(couch, people)
        couch.wrote = people.wrote
        await couch.write(device.database, {"_id": "loan:1", "text": "x" * 100_000})
        headers = {**device.headers, "Accept-Encoding": "identity"}
        for path in ("/passbook/loan:1", "/passbook/loan:2", "/_all_dbs", "/passbook/_changes?limit=x"):
            async with http.get(path, headers=headers) as response:
                await response.read()
        async with http.get("/passbook") as response:
            assert response.status == 401
        async with http.request("PROPFIND", "/passbook", headers=headers) as response:
            assert response.status == 404
        feed = await http.get("/passbook/_changes?feed=continuous&heartbeat=1000&since=now", headers=headers)
        assert feed.status == 200
        await until(lambda: number(metrics.text().decode(), "passbook_gateway_feeds", kind="continuous") == 1)
        text = metrics.text().decode()
        count = "passbook_gateway_requests_total"
        assert number(text, count, route="document", method="GET", status="200") == 1
        assert number(text, count, route="document", method="GET", status="404") == 1
        assert number(text, count, route="other", method="GET", status="404") == 1
        assert number(text, count, route="other", method="GET", status="401") == 1
        assert number(text, count, route="other", method="other", status="404") == 1
        assert number(text, "passbook_gateway_refusals_total", rule="credentials_missing") == 1
        assert number(text, "passbook_gateway_refusals_total", rule="not_found") == 3
        assert number(text, "passbook_gateway_request_seconds_count", route="document") == 2
        assert number(text, "passbook_gateway_request_seconds_count", route="changes") == 0  # live feeds aside
        assert 100_000 < number(text, "passbook_gateway_sent_bytes_total") < 120_000
        assert number(text, "passbook_gateway_connections") >= 1
        assert number(text, "passbook_gateway_couchdb_answers_total", status="200") >= 2
        # A change wakes the feed, and the end of access cuts it.
        await couch.write(device.database, {"_id": "loan:3"})
        while b"loan:3" not in await feed.content.readline():
            pass
        assert number(metrics.text().decode(), "passbook_gateway_wakes_total") >= 1
        people.change(device_table, device.id, revoked_at=NOW)
        with contextlib.suppress(aiohttp.ClientError):
            await feed.content.read()
        feed.close()
        await until(lambda: number(metrics.text().decode(), "passbook_gateway_feeds", kind="continuous") == 0)
        text = metrics.text().decode()
        assert number(text, "passbook_gateway_cuts_total", reason="revoked") == 1
        for secret in (device.id, device.person, device.database, device.secret, "loan"):
            assert secret not in text


async def test_metrics_are_for_this_machine_or_who_has_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aiohttp.ClientSession() as http:

        async def ask(url: str, authorization: str | None = None) -> int:
            headers = {} if authorization is None else {"Authorization": authorization}
            async with http.get(f"{url}/metrics", headers=headers) as response:
                text = await response.text()
                assert ("passbook_gateway" in text) == (response.status == 200)
                return response.status

        async with administration(Parts.new(), {}) as url:
            assert await ask(url) == 200
            for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
                async with http.get(f"{url}/metrics", headers={header: "127.0.0.1"}) as response:
                    assert response.status == 403
            monkeypatch.setattr(admin, "_local", lambda _: False)
            assert await ask(url) == 403
            assert await ask(url, "Bearer ") == 403
        async with administration(Parts.new(), {}, token="a-token") as url:
            assert await ask(url, "Bearer a-token") == 200
            assert [await ask(url, given) for given in (None, "Bearer x", "Bearer a-token2", "Bearer \u00fc")] == [
                403
            ] * 4


async def test_nothing_else_is_served_there() -> None:
    async with administration(Parts.new(), {}) as url, aiohttp.ClientSession(url) as http:
        for method, path in (("GET", "/"), ("GET", "/passbook"), ("POST", "/metrics"), ("GET", "/metrics/")):
            async with http.request(method, path) as response:
                assert (response.status, (await response.json())["code"]) == (404, "not_found")
                assert response.headers["Server"] == "Passbook"


async def test_health(
    couch_url: str, credentials: DatabaseCredentials, tmp_path: Path, unused_tcp_port: int
) -> None:
    heard = asyncio.Event()

    async def notices() -> bool:
        return heard.is_set()

    async def never() -> bool:
        await asyncio.sleep(60)
        return True

    away = DatabaseCredentials.at(f"postgresql+psycopg://postgres@/passbook?host={tmp_path}")
    good = {"service_database": admin.service_database(credentials), "couchdb": admin.couchdb(couch_url)}
    bad: dict[str, admin.Check] = {
        "service_database": admin.service_database(away),
        "notices": notices,
        "couchdb": admin.couchdb(f"http://127.0.0.1:{unused_tcp_port}"),
        "slow": never,
    }
    async with aiohttp.ClientSession() as http:
        async with administration(Parts.new(), {**good, "notices": notices}) as url:
            async with http.get(f"{url}/health/ready") as response:
                assert (response.status, await response.json()) == (503, {"ok": False, "missing": ["notices"]})
            heard.set()
            async with http.get(f"{url}/health/ready") as response:
                assert (response.status, await response.json()) == (200, {"ok": True, "missing": []})
        heard.clear()
        async with administration(Parts.new(), bad) as url:
            async with http.get(f"{url}/health/ready") as response:
                assert (response.status, (await response.json())["missing"]) == (503, list(bad))
            async with http.get(f"{url}/health/live") as response:
                assert (response.status, await response.json()) == (200, {"ok": True})
    await away.close()


def test_no_label_is_taken_from_a_stranger() -> None:
    metrics = Metrics()
    for method in ("GET", "X" * 1000, "GET\n", "get"):
        metrics.request(None, method, 404, 0.1)
    lines = [
        line for line in metrics.text().decode().splitlines() if line.startswith("passbook_gateway_requests_total")
    ]
    assert len(lines) == 2


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - ours
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_the_command_serves_them(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PASSBOOK_")}
    environment = {**kept, "PASSBOOK_DATA_DIR": str(tmp_path), "PASSBOOK_GATEWAY_ADMIN_PORT": str(port)}
    command = [sys.executable, "-m", "passbook", "gateway", "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        try:
            assert one.stdout is not None
            assert "Gateway listens" in one.stdout.readline()
            status, body = _get(f"http://127.0.0.1:{port}/health/ready")
            # Notices may take a moment longer.
            assert (status, json.loads(body)) in [
                (200, {"ok": True, "missing": []}),
                (503, {"ok": False, "missing": ["notices"]}),
            ]
            assert _get(f"http://127.0.0.1:{port}/health/live")[0] == 200
            assert "passbook_gateway_connections_limit" in _get(f"http://127.0.0.1:{port}/metrics")[1]
            taken = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert taken.returncode == 3
            assert "PASSBOOK_GATEWAY_ADMIN_PORT" in taken.stderr
        finally:
            one.send_signal(signal.SIGTERM)
            out, err = one.communicate(timeout=30)
    assert (one.returncode, out, err) == (0, "", "")
