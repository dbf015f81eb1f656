"""The examples for nginx and Caddy, as they stand but for names, ports and certificates, before real processes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import sqlalchemy as sa
from yarl import URL

from auth_service import devices
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from sample_institution.pouch import PouchClient
from tests.auth.running import Running, settings_for
from tests.gateway.conftest import Device, People
from tests.gateway.gateways import GatewayProcess, device_of, gateway_process
from tests.gateway.test_replication import transactions
from tests.support.actors import TESTER
from tests.support.couch import Couch
from tests.support.own_couchdb import free_port
from tests.support.processes import eventually
from tests.support.tls import Authority, authority

EXAMPLES = Path(__file__).parents[2] / "examples"
#: What the gateway promises when access ends.
CUT_WITHIN = 1.0
#: On this machine, and not the address that it usually has.
SOMEWHERE = "127.9.9.9"


@dataclass
class Proxied:
    """Gateway and auth service, as the outside reaches them."""

    gateway: str
    auth: str
    authority: Path

    @contextlib.asynccontextmanager
    async def session(self, address: str = "127.0.0.1") -> AsyncIterator[aiohttp.ClientSession]:
        trusted = ssl.create_default_context(cafile=str(self.authority))
        connector = aiohttp.TCPConnector(ssl=trusted, local_addr=(address, 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session


@dataclass
class Ports:
    """Where the processes behind listen, and where the proxy is to."""

    gateway: str
    auth: str
    for_gateway: int
    for_auth: int
    plain: int


def nginx(directory: Path, ports: Ports, of: Authority) -> list[str]:
    """The command that runs nginx with the example."""
    text = (EXAMPLES / "nginx.conf").read_text()
    text = re.sub(r"/etc/passbook/tls/\w+\.pem", str(of.server), text)
    text = re.sub(r"/etc/passbook/tls/\w+\.key", str(of.key), text)
    text = text.replace("127.0.0.1:8710", ports.gateway).replace("127.0.0.1:8720", ports.auth)
    text = text.replace("listen 80;", f"listen 127.0.0.1:{ports.plain};")
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{ports.for_gateway} ssl", 1)
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{ports.for_auth} ssl", 1)
    paths = "".join(
        f"{name}_temp_path {directory / name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {", f"http {{ {paths}", 1)
    made = directory / "nginx.conf"
    made.write_text(text)
    orders = f"daemon off; pid {directory / 'pid'}; error_log {directory / 'log'};"
    return [*_found("nginx"), "-p", str(directory), "-c", str(made), "-g", orders]


def caddy(directory: Path, ports: Ports, of: Authority) -> list[str]:
    """The command that runs Caddy with the example."""
    text = (EXAMPLES / "Caddyfile").read_text()
    text = text.replace("127.0.0.1:8710", ports.gateway).replace("127.0.0.1:8720", ports.auth)
    for name, port in (("gateway", ports.for_gateway), ("auth", ports.for_auth)):
        text = text.replace(f"\n{name}.example {{", f"\nlocalhost:{port} {{\n\ttls {of.server} {of.key}")
    text = text.replace(
        "\n{\n", f"\n{{\n\tadmin off\n\tauto_https disable_redirects\n\tstorage file_system {directory}\n", 1
    )
    made = directory / "Caddyfile"
    made.write_text(text)
    return [*_found("caddy"), "run", "--config", str(made), "--adapter", "caddyfile"]


def _found(program: str) -> list[str]:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        pytest.skip(f"needs {program}")
    return [path]


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxied(
    request: pytest.FixtureRequest,
    service_url: str,
    gateway_behind: GatewayProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxied]:
    _found(request.param.__name__)
    tmp_path = tmp_path_factory.mktemp("proxied")
    # As the examples say in their heads.
    environment = settings_for(service_url, tmp_path) | {"PASSBOOK_TRUSTED_PROXIES": "127.0.0.1"}
    people = Running(tmp_path / "auth", environment, "auth", "--only", "people", "--port", "0")
    try:
        yield from _behind(request.param, gateway_behind, people, tmp_path)
    finally:
        people.end()


@pytest.fixture(scope="module")
def gateway_behind(
    service_url: str, couch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with gateway_process(service_url, couch_url, tmp_path_factory.mktemp("gateway")) as process:
        yield process


def _behind(
    program: Callable[[Path, Ports, Authority], list[str]], gateway: GatewayProcess, people: Running, tmp_path: Path
) -> Iterator[Proxied]:
    ours = authority(tmp_path / "tls")
    ours.key.chmod(0o644)
    directory = tmp_path / "proxy"
    directory.mkdir()
    directory.chmod(0o777)
    ports = Ports(
        gateway.root.removeprefix("http://"),
        people.url.removeprefix("http://"),
        *(free_port() for _ in range(3)),
    )
    with (directory / "said").open("wb") as said:
        process = subprocess.Popen(program(directory, ports, ours), stdout=said, stderr=said)
    try:

        def answers() -> bool:
            assert process.poll() is None, (directory / "said").read_text()
            try:
                with socket.create_connection(("127.0.0.1", ports.for_auth), timeout=5):
                    return True
            except OSError:
                return False

        eventually(answers, "the proxy listens")
        yield Proxied(
            f"https://localhost:{ports.for_gateway}", f"https://localhost:{ports.for_auth}", ours.certificate
        )
    finally:
        process.terminate()
        process.wait(30)


async def test_pouchdb_synchronises_through_the_proxy(
    proxied: Proxied,
    gateway_behind: GatewayProcess,
    service_url: str,
    couch: Couch,
    people: People,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = await device_of(gateway_behind, couch, people)
    await couch.write(device.database, *transactions(250))
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(proxied.authority))
    url = f"{proxied.gateway}/passbook"
    async with PouchClient.started(url, device.id, device.secret, live=True, heartbeat=1000) as pouch:
        await pouch.until_document("loan:000249:transactions:2026")
        await pouch.wait("paused")
        await couch.write(device.database, {"_id": "loan:1", "balance": "10.00"})
        assert await pouch.until_document("loan:1", within=10, balance="10.00")
        seen = len(pouch.events)
        await asyncio.to_thread(revoke, service_url, device)
        # The live replication asks again, and is told.
        refused = await pouch.replicate()
        assert (refused["event"], refused["status"]) == ("error", 401), pouch.events[seen:]


def revoke(service_url: str, device: Device) -> None:
    """As the auth service does it."""
    database = ServiceDatabase(service_url)
    database.run(devices.revoke, TESTER, device.id)
    database.dispose()


async def test_a_feed_is_live_and_is_cut_within_a_second(
    proxied: Proxied, gateway_behind: GatewayProcess, service_url: str, couch: Couch, people: People
) -> None:
    device = await device_of(gateway_behind, couch, people)
    query = "feed=continuous&heartbeat=1000&include_docs=true"
    async with (
        proxied.session() as session,
        session.get(f"{proxied.gateway}/passbook/_changes?{query}", headers=device.headers) as feed,
    ):
        assert feed.status == 200
        # A beat and then a change, while nothing else comes after them: neither waits in a buffer.
        assert await asyncio.wait_for(feed.content.readany(), 10) == b"\n"
        await couch.write(device.database, {"_id": "loan:1", "balance": "10.00"})
        while not (line := (await asyncio.wait_for(feed.content.readline(), 10)).strip()):
            pass
        assert json.loads(line)["doc"]["balance"] == "10.00"
        await asyncio.to_thread(revoke, service_url, device)
        revoked = time.monotonic()
        with contextlib.suppress(aiohttp.ClientPayloadError):
            while await asyncio.wait_for(feed.content.readany(), 10):
                pass
        assert time.monotonic() - revoked < CUT_WITHIN


def test_a_proxy_waits_longer_than_a_request_for_its_turn_and_keeps_less_long_than_the_gateway() -> None:
    nginx_conf, caddyfile = (EXAMPLES / "nginx.conf").read_text(), (EXAMPLES / "Caddyfile").read_text()
    for example in (nginx_conf, caddyfile):
        # Of the gateway, which comes first; a heartbeat comes once a minute.
        waits = re.findall(r"read_timeout (\d+)s", example)[0]
        assert int(waits) > max(60, Settings.load({}).gateway_waiting_seconds)
    idle = Settings.load({}).gateway_idle_seconds
    for keeps in re.findall(r"keepalive(?:_timeout)? (60)s", nginx_conf + caddyfile):
        assert int(keeps) < idle


async def test_what_is_for_the_inside_is_refused_at_the_proxy(proxied: Proxied) -> None:
    async with proxied.session() as session:
        for path in (
            *("/admin/people", "/admin", "/%61dmin/people", "//admin/people", "/x/../admin/people", "/metrics"),
            *("/health/ready", "/health/live"),
        ):
            async with session.get(URL(proxied.auth + path, encoded=True)) as answer:
                assert answer.status == 404, path
                assert answer.content_type != "application/json", f"{path} went through"
        async with session.get(f"{proxied.auth}/.well-known/jwks.json") as answer:
            assert answer.status == 200
        for path in ("/metrics", "/health/ready", "/_all_dbs"):
            async with session.get(f"{proxied.gateway}{path}") as answer:
                assert answer.status in (401, 404), path


async def test_a_body_that_is_too_large_goes_no_further(
    proxied: Proxied, gateway_behind: GatewayProcess, couch: Couch, people: People
) -> None:
    device = await device_of(gateway_behind, couch, people)
    async with proxied.session() as session:
        async with session.post(f"{proxied.auth}/oauth/token", data=b"x" * 65_537) as answer:
            assert answer.status == 413
        url = f"{proxied.gateway}/passbook/_revs_diff"
        async with session.post(url, data=io.BytesIO(b"x" * (3 << 20)), headers=device.headers) as answer:
            assert answer.status in (413, 502)  # or Caddy has broken off what it was passing on


async def test_the_address_is_the_one_the_proxy_sees(proxied: Proxied, service_url: str) -> None:
    database = ServiceDatabase(service_url)
    form = {"grant_type": "password", "username": f"nobody-{uuid4().hex}", "password": "x"}
    try:
        async with proxied.session(SOMEWHERE) as session:
            for forged in ({}, {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "127.0.0.1"}):
                async with session.post(f"{proxied.auth}/oauth/token", data=form, headers=forged) as answer:
                    assert answer.status == 400
        with database.begin() as connection:
            event = tables.audit_event
            query = sa.select(event.c.address).where(event.c.event == "SignInFailed").order_by(event.c.id.desc())
            assert list(connection.execute(query.limit(3)).scalars()) == ["127.9.9.0/24"] * 3
    finally:
        database.dispose()
