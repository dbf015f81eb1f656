"""How CouchDB comes to take the gateway's tokens, and how their key is changed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from passbook import couch_access
from passbook.couch import CouchClient
from passbook.couch_access import prepare
from passbook.errors import PassbookError, Refused, Unavailable
from passbook.settings import Settings
from sample_institution.pouch import PouchClient
from tests.gateway.conftest import People
from tests.gateway.gateways import GatewayProcess, device_of, environment, gateway_process
from tests.support import own_couchdb
from tests.support.couch import Couch
from tests.support.databases import Postgres
from tests.support.own_couchdb import OwnCouchDB
from tests.support.processes import ask

pytestmark = pytest.mark.skipif(
    not own_couchdb.installed(), reason="needs an installed CouchDB (PASSBOOK_TEST_COUCHDB_HOME)"
)

KEY = base64.b64encode(b"k" * 32).decode()
BY_HAND = (
    "[chttpd]\nauthentication_handlers = {chttpd_auth, jwt_authentication_handler}, "
    "{chttpd_auth, cookie_authentication_handler}, {chttpd_auth, default_authentication_handler}\n"
    f"[jwt_keys]\nhmac:byhand = {KEY}\n"
)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[OwnCouchDB]:
    """A CouchDB in which nothing is configured."""
    with own_couchdb.own(tmp_path / "couchdb") as node:
        yield node


def keys(node: OwnCouchDB) -> dict[str, str]:
    found: dict[str, str] = ask(node.url, "/_node/_local/_config/jwt_keys")
    return found


async def who(node: OwnCouchDB, access: couch_access.CouchAccess | None, person: str) -> Any:
    """Whom CouchDB takes the gateway for, when it acts as this person."""
    assert access is not None
    headers = {"Authorization": f"Bearer {access.token(person)}"}
    async with aiohttp.ClientSession() as http, http.get(f"{node.bare}/_session", headers=headers) as response:
        return (await response.json()).get("userCtx")


async def until_taken(node: OwnCouchDB, access: couch_access.CouchAccess | None) -> None:
    """Of the nodes of a cluster only one was asked whether it takes tokens again after its restart."""
    end = time.monotonic() + 10
    while True:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            if (await who(node, access, "person-1") or {}).get("name") == "passbook:person-1":
                return
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def test_T20_a_fresh_couchdb_is_prepared_once(fresh: OwnCouchDB) -> None:
    access, how = await prepare(fresh.url, connect_seconds=5)
    assert how == "one person at a time, a key was added, tokens were switched on, CouchDB restarted"
    assert await who(fresh, access, "person-1") == {"name": "passbook:person-1", "roles": []}
    (name,) = keys(fresh)
    assert re.fullmatch(r"hmac:passbook-\d{10}-[0-9a-f]{8}", name)
    # Again, and by another gateway: nothing is left to do, and both use the same key.
    again, how = await prepare(fresh.url, connect_seconds=5)
    assert how == "one person at a time"
    assert access is not None
    assert again is not None
    assert again.kid == access.kid == name.removeprefix("hmac:")
    # The names and passwords that were good before still are.
    assert ask(fresh.url, "/_session")["userCtx"]["roles"] == ["_admin"]


async def test_T20_configured_but_not_restarted(fresh: OwnCouchDB) -> None:
    """As whoever was killed between the two left it."""
    handlers = BY_HAND.split(" = ")[1].split("\n")[0]
    ask(fresh.url, "/_node/_local/_config/chttpd/authentication_handlers", "PUT", handlers)
    access, how = await prepare(fresh.url, connect_seconds=5)
    assert "restarted" in how
    assert (await who(fresh, access, "person-1"))["name"] == "passbook:person-1"


async def test_T20_configured_by_hand_needs_no_administrator(tmp_path: Path) -> None:
    with own_couchdb.own(tmp_path / "couchdb", BY_HAND) as node:
        access, how = await prepare(node.bare, connect_seconds=5, key=f"byhand:{KEY}")
        assert how == "one person at a time, with the given key"
        assert (await who(node, access, "person-1"))["name"] == "passbook:person-1"
        # Nothing was added, and what is wrong is said.
        assert keys(node) == {"hmac:byhand": KEY}
        for key, reason in (
            (f"other:{KEY}", "Unknown kid"),
            (f"byhand:{base64.b64encode(b'x' * 32).decode()}", "Bad HMAC"),
            ("", "no key is given"),
        ):
            with pytest.raises(Refused) as refused:
                await prepare(node.bare, connect_seconds=5, key=key)
            assert reason in refused.value.message
            assert "PASSBOOK_COUCHDB_JWT_KEY" in refused.value.remedy
            assert KEY not in refused.value.message + refused.value.remedy
        # What needs an administrator says so.
        with pytest.raises(Refused, match="no credentials"):
            CouchClient(node.bare, connections=1)


async def test_T20_a_given_key_is_configured_with_an_administrators_credentials(fresh: OwnCouchDB) -> None:
    access, how = await prepare(fresh.url, connect_seconds=5, key=f"ours:{KEY}")
    assert "a key was added" in how
    assert (await who(fresh, access, "person-1"))["name"] == "passbook:person-1"
    assert keys(fresh) == {"hmac:ours": KEY}
    assert (await prepare(fresh.bare, connect_seconds=5, key=f"ours:{KEY}"))[1].endswith("with the given key")


async def test_T20_who_may_not_configure_is_told_what_to_write(fresh: OwnCouchDB) -> None:
    for url in (
        fresh.bare,
        fresh.url.replace("admin:own", "admin:wrong"),
        fresh.url.replace("admin:own", "nobody:x"),
    ):
        with pytest.raises(Refused) as refused:
            await prepare(url, connect_seconds=5)
        for wanted in ("[chttpd]", "authentication_handlers = {chttpd_auth, jwt_", "[jwt_keys]", "hmac:NAME ="):
            assert wanted in refused.value.remedy
        assert "wrong" not in refused.value.message
    assert keys(fresh) == {}
    with pytest.raises(Unavailable):
        await prepare("http://a:b@127.0.0.1:1", connect_seconds=1)


async def test_T20_tokens_that_would_not_be_taken_for_what_they_say(tmp_path: Path) -> None:
    with own_couchdb.own(tmp_path / "couchdb", BY_HAND + "[jwt_auth]\nrequired_claims = exp, nbf\n") as node:
        with pytest.raises(Refused, match=r"Missing nbf claim|nbf") as refused:
            await prepare(node.url, connect_seconds=5)
        assert "[jwt_auth]" in refused.value.remedy


@pytest.mark.parametrize(
    "key",
    ["x", f":{KEY}", f"a b:{KEY}", f"a:{KEY[:20]}", "a:not base64", f"a:{KEY}x", f"a:{KEY}\n:"],
)
def test_a_key_that_will_not_do(key: str) -> None:
    with pytest.raises(Refused, match="PASSBOOK_COUCHDB_JWT_KEY") as refused:
        Settings.load({"PASSBOOK_COUCHDB_JWT_KEY": key})
    assert KEY[:20] not in refused.value.message + refused.value.remedy


def test_an_address_without_credentials_needs_a_key() -> None:
    with pytest.raises(Refused, match="no credentials"):
        Settings.load({"PASSBOOK_COUCHDB_URL": "http://couch:5984"})
    settings = Settings.load({"PASSBOOK_COUCHDB_URL": "http://couch:5984", "PASSBOOK_COUCHDB_JWT_KEY": f"a:{KEY}"})
    assert KEY not in str(settings.shown())


def passbook(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "passbook", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def empty_service_url(service_url: str) -> Iterator[str]:
    """A service database of its own: in the one of all tests keys are sealed that this process could not open."""
    server = Postgres(service_url)
    with server.database() as url:
        yield url
    server.close()


def test_init_prepares_couchdb_and_says_so(fresh: OwnCouchDB, empty_service_url: str, tmp_path: Path) -> None:
    owner = empty_service_url.replace("+psycopg", "")  # the role of a gateway may not make tables
    env = environment(empty_service_url, fresh.url, tmp_path, PASSBOOK_SERVICE_DB_URL=owner)
    done = passbook(env, "init", "--json")
    assert done.returncode == 0, done.stderr
    assert "CouchDB restarted" in json.loads(done.stdout)["gateway_acts_as"]
    assert json.loads(passbook(env, "init", "--json").stdout)["gateway_acts_as"] == "one person at a time"
    refused = passbook({**env, "PASSBOOK_COUCHDB_URL": fresh.url.replace("own@", "no@")}, "init")
    assert refused.returncode == 2
    # The key is nowhere to be seen.
    (value,) = keys(fresh).values()
    assert value not in done.stdout + done.stderr


@contextlib.asynccontextmanager
async def served(
    service_url: str, node: OwnCouchDB, url: str, directory: Path, **more: str
) -> AsyncIterator[tuple[GatewayProcess, Couch]]:
    """A gateway in front of this CouchDB, and an administrator's view of that."""
    directory.mkdir(exist_ok=True)
    with gateway_process(service_url, url, directory, **more) as gateway:
        async with aiohttp.ClientSession() as session:
            yield gateway, Couch(session, node.url)


async def test_T20_a_gateway_with_a_key_and_no_credentials(
    service_url: str, people: People, tmp_path: Path
) -> None:
    with own_couchdb.own(tmp_path / "couchdb", BY_HAND) as node:
        async with served(
            service_url, node, node.bare, tmp_path / "g", PASSBOOK_COUCHDB_JWT_KEY=f"byhand:{KEY}"
        ) as (gateway, couch):
            device = await device_of(gateway, couch, people)
            await couch.write(device.database, {"_id": "loan:1"})
            async with PouchClient.started(device.url, device.id, device.secret) as pouch:
                assert (await pouch.replicate())["written"] == 1
        refused = passbook(
            environment(service_url, node.bare, tmp_path, PASSBOOK_COUCHDB_JWT_KEY=f"byhand:{KEY}"), "init"
        )
        assert refused.returncode == 2
        assert "no credentials" in refused.stderr


@pytest.mark.parametrize("overlap", ["0", "1"])
async def test_T20_rotation_keeps_a_live_synchronisation_going(
    fresh: OwnCouchDB, service_url: str, people: People, tmp_path: Path, overlap: str
) -> None:
    async with served(service_url, fresh, fresh.url, tmp_path / "g") as (gateway, couch):
        device = await device_of(gateway, couch, people)
        (first,) = keys(fresh)
        async with PouchClient.started(device.url, device.id, device.secret, live=True) as pouch:
            await couch.write(device.database, {"_id": "loan:1", "n": 1})
            await pouch.until_document("loan:1")
            env = environment(service_url, fresh.url, tmp_path)
            done = passbook(env, "gateway", "rotate-key", "--overlap", overlap, "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["removed"] == [first]
            assert list(keys(fresh)) == [json.loads(done.stdout)["key"]]
            assert first not in keys(fresh)
            for number in range(2, 5):
                await couch.write(device.database, {"_id": f"loan:{number}", "n": number})
                await pouch.until_document(f"loan:{number}", within=10)
            assert not [event for event in pouch.events if event["event"] == "error" and "n" not in event]
            # 404: a checkpoint that was not there yet.
            assert set(gateway.statuses(device)) <= {200, 201, 404}
        assert gateway.said("couchdb_access_renewed")


async def test_T20_a_couchdb_that_lost_its_configuration_is_prepared_again(
    fresh: OwnCouchDB, service_url: str, people: People, tmp_path: Path
) -> None:
    async with served(service_url, fresh, fresh.url, tmp_path / "g") as (gateway, couch):
        device = await device_of(gateway, couch, people)
        await couch.write(device.database, {"_id": "loan:1"})
        (name,) = keys(fresh)
        ask(fresh.url, f"/_node/_local/_config/jwt_keys/{name.replace(':', '%3A')}", "DELETE")
        async with PouchClient.started(device.url, device.id, device.secret) as pouch:
            assert (await pouch.replicate())["written"] == 1
        assert len(keys(fresh)) == 1
        assert set(gateway.statuses(device)) <= {200, 201, 404}


async def test_T20_tokens_refused_for_good_are_our_fault(service_url: str, people: People, tmp_path: Path) -> None:
    """The gateway has no credentials with which it could mend this: 503, never 400 or 401."""
    with own_couchdb.own(tmp_path / "couchdb", BY_HAND) as node:
        async with served(
            service_url, node, node.bare, tmp_path / "g", PASSBOOK_COUCHDB_JWT_KEY=f"byhand:{KEY}"
        ) as (gateway, couch):
            device = await device_of(gateway, couch, people)
            other = base64.b64encode(secrets.token_bytes(32)).decode()
            path = "/_node/_local/_config/jwt_keys/hmac%3Abyhand"

            async def answers() -> set[tuple[int, str]]:
                found = set()
                async with aiohttp.ClientSession(gateway.root, headers=device.headers) as http:
                    for way in ("", "/_changes", "/_all_docs", "/loan:1", "/_changes?since=x&feed=normal"):
                        async with http.get(f"/passbook{way}") as response:
                            found.add((response.status, (await response.json())["code"]))
                    async with http.post("/passbook/_bulk_get", json={"docs": [{"id": "a"}]}) as response:
                        found.add((response.status, (await response.json())["code"]))
                return found

            ask(node.url, path, "PUT", other)  # Bad HMAC, which CouchDB answers with 400
            assert await answers() == {(503, "unavailable")}
            ask(node.url, path, "DELETE")  # Unknown kid
            assert await answers() == {(503, "unavailable")}
            assert gateway.said("couchdb_refuses_tokens")
            ask(node.url, path, "PUT", KEY)
            async with aiohttp.ClientSession(gateway.root, headers=device.headers) as http:
                async with http.get("/passbook/_changes") as response:
                    assert response.status == 200
                # A request that is bad, and not for its token, is still the device's own.
                async with http.get("/passbook/_changes?since=nonsense") as response:
                    assert response.status == 400


async def test_T20_every_node_of_a_cluster(tmp_path: Path) -> None:
    with own_couchdb.epmd() as port, contextlib.ExitStack() as stack:
        first = OwnCouchDB(tmp_path / "one", port, name="one", alone=False)
        second = OwnCouchDB(tmp_path / "two", port, name="two", alone=False, cookie=first.cookie)
        for node in (first, second):
            stack.callback(node.stop)
            node.start()
        ask(first.url, f"/_node/_local/_nodes/{second.node}", "PUT", {})
        both = {first.node, second.node}
        own_couchdb.eventually_members(first, both)
        access, how = await prepare(first.url, connect_seconds=5)
        assert "CouchDB restarted" in how
        for node in (first, second):
            await until_taken(node, access)
            assert list(keys(node)) == list(keys(first))
        done = await couch_access.rotate(first.url, connect_seconds=5, overlap=0)
        for node in (first, second):
            assert list(keys(node)) == [done["key"]]
        # A node is away: gateways start all the same, but a key cannot be changed everywhere.
        second.stop()
        own_couchdb.eventually_members(first, {first.node}, of="all_nodes")
        assert (await prepare(first.url, connect_seconds=5))[1] == "one person at a time"
        with pytest.raises(PassbookError, match=second.node):
            await couch_access.rotate(first.url, connect_seconds=5, overlap=0)
