"""Access that was changed behind Passbook's back is put right by the worker, without anybody running a command."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from passbook import couch_access
from passbook.couch import CouchClient, lets_in_only
from passbook.couch_configuration import EMBEDDED_VENDOR
from passbook.credentials import principal
from passbook.errors import Refused
from passbook.preparation import refuse_outdated
from sync_worker import upkeep
from tests.conftest import Template
from tests.support import own_couchdb, truth
from tests.support.cluster import cluster
from tests.support.killing import door, passbook
from tests.support.own_couchdb import OwnCouchDB
from tests.support.processes import ask
from tests.support.stage import Stage
from tests.worker.changing import until
from tests.worker.test_loop import running

KEY = base64.b64encode(b"k" * 32).decode()
real = pytest.mark.skipif(
    not own_couchdb.installed(), reason="needs an installed CouchDB (PASSBOOK_TEST_COUCHDB_HOME)"
)
OPENED: list[dict[str, Any]] = [
    {},
    {"admins": {"names": [], "roles": []}, "members": {"names": [], "roles": []}},
    {"admins": {"names": ["eve"], "roles": ["_admin"]}, "members": {"names": ["passbook:p"], "roles": []}},
    {"admins": {"names": [], "roles": ["_admin"]}, "members": {"names": ["passbook:p", "eve"], "roles": []}},
    {"admins": {"names": [], "roles": ["_admin"]}, "members": {"names": ["passbook:p"], "roles": ["staff"]}},
    {"admins": {"names": [], "roles": ["_admin"]}, "members": {"names": ["passbook:other"], "roles": []}},
]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OwnCouchDB]:
    """A CouchDB of the test's own."""
    with own_couchdb.own(tmp_path / "couchdb") as one:
        yield one


@pytest.fixture
def on(node: OwnCouchDB, ledger_url: str, service_url: str, filled: Template, tmp_path: Path) -> Iterator[Stage]:
    """A stage on it."""
    stage = Stage(ledger_url, service_url, node.url, filled.institution, tmp_path)
    yield stage
    stage.close()


@pytest.mark.parametrize("opened", OPENED)
def test_T15_who_else_is_let_in_shows(opened: dict[str, Any]) -> None:
    closed = {"admins": {"names": [], "roles": ["_admin"]}, "members": {"names": ["passbook:p"], "roles": []}}
    assert lets_in_only(closed, ["passbook:p"])
    assert not lets_in_only(opened, ["passbook:p"])


async def test_T15_a_new_database_lets_in_its_person_alone(stage: Stage) -> None:
    """What is put, whoever reads it back."""
    person = stage.add("customer", [stage.institution.customer])
    put: list[tuple[str, Any]] = []
    async with stage.worker() as one:
        send = one.couch._request

        async def noting(method: str, path: str, body: bytes | None = None, **options: Any) -> Any:
            if path.endswith("/_security") and method == "PUT":
                put.append((path, msgspec.json.decode(body or b"")))
            return await send(method, path, body, **options)

        one.couch._request = noting  # type: ignore[method-assign]
        await one.run_changes()
    only = {
        "admins": {"names": [], "roles": ["_admin"]},
        "members": {"names": [f"passbook:{person}"], "roles": []},
    }
    assert put == [(f"/{stage.database_of('customer')}/_security", only)]


@real
async def test_T15_couchdb_itself_refuses_strangers(node: OwnCouchDB, on: Stage) -> None:
    person = "person-" + "a" * 32
    for name in ("customer", "other"):
        on.add(name, [on.institution.customer])
    access, _ = await couch_access.prepare(node.url, connect_seconds=5)
    await on.run()
    assert access is not None
    database = on.database_of("customer")
    documents = list(await on.copies("customer"))

    async def answers(headers: dict[str, str]) -> set[int]:
        found = set()
        async with aiohttp.ClientSession(node.bare, headers=headers) as http:
            for path in ("", "/_all_docs", "/_changes", "/_security", f"/{documents[0]}", "/_local/x"):
                async with http.get(f"/{database}{path}") as response:
                    found.add(response.status)
            for path in ("/_bulk_get", "/_bulk_docs", "/_revs_diff"):
                async with http.post(f"/{database}{path}", json={"docs": [{"_id": "x", "id": "x"}]}) as response:
                    found.add(response.status)
        return found

    def bearer(of: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {access.token(of)}"} if access else {}

    assert await answers({}) == {401}, "nobody"
    assert await answers(bearer("person-other")) == {403}, "somebody else, who has a database too"
    assert await answers(bearer(person)) == {403}, "a stranger"
    assert 200 in await answers(bearer("person-customer"))


@pytest.mark.parametrize("opened", OPENED)
async def test_T15_an_opened_database_is_closed_by_the_worker(stage: Stage, opened: dict[str, Any]) -> None:
    person = stage.add("customer", [stage.institution.customer])
    stage.add("agent", stage.institution.agent_clients[:2])
    await stage.run()
    path = f"/{stage.database_of('customer')}/_security"
    async with stage.worker() as one:
        before = one.couch.requests.reads
        assert await one.upkeep.look() is False
        assert one.couch.requests.reads - before == 2, "one for each database"
        assert truth.events(stage.database)[-1].event != "DatabaseClosed"
        await one.couch.ask("PUT", path, msgspec.json.encode(opened), reading=False)
        await one.upkeep.look()
        assert lets_in_only(await one.couch.security(stage.database_of("customer")), [principal(person)])
    told = [(row.event, row.actor_kind, row.person) for row in truth.events(stage.database)]
    assert told[-1] == ("DatabaseClosed", "worker", person)
    assert sum(event == "DatabaseClosed" for event, _, _ in told) == 1


async def test_T15_a_running_worker_does_so_by_itself(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    person = stage.add("customer", [stage.institution.customer])
    await stage.run()
    name = stage.database_of("customer")
    async with stage.couch() as couch:
        await couch.ask("PUT", f"/{name}/_security", b"{}", reading=False)
        async with running(stage):

            async def closed() -> bool:
                return lets_in_only(await couch.security(name), [principal(person)])

            await until(closed, "it is closed")


async def test_T15_rows_of_databases_are_bounded_and_take_turns(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOKS", 2)
    names = [stage.add(f"agent{number}", [stage.institution.agent_clients[0]]) for number in range(5)]
    await stage.run()
    async with stage.worker() as one:
        for _ in names:
            await one.couch.ask("PUT", f"/{stage.database_of('agent4')}/_security", b"{}", reading=False)
        assert [await one.upkeep.look() for _ in range(3)] == [True, True, False]
        assert lets_in_only(await one.couch.security(stage.database_of("agent4")), [principal(names[4])])
        assert await one.upkeep.look() is True, "and from the beginning"


@real
@pytest.mark.parametrize("given", ["", f"gateway-1:{KEY}"])
async def test_T20_the_worker_puts_back_a_key_that_couchdb_lost(node: OwnCouchDB, on: Stage, given: str) -> None:
    on.set(couchdb_jwt_key=given)
    access, _ = await couch_access.prepare(node.url, connect_seconds=5, key=given)
    assert access is not None
    async with on.worker() as one:
        assert await one.upkeep.keep_key() == []
        (name,) = ask(node.url, "/_node/_local/_config/jwt_keys")
        ask(node.url, f"/_node/_local/_config/jwt_keys/{name.replace(':', '%3A')}", "DELETE")
        assert await one.upkeep.keep_key() == ["a key was added"]
        assert await one.upkeep.keep_key() == []
    found = ask(node.url, "/_node/_local/_config/jwt_keys")
    assert (found == {"hmac:gateway-1": KEY}) if given else (len(found) == 1)


@real
async def test_T20_on_every_node(tmp_path: Path, stage: Stage) -> None:
    """The node that is asked has the key, another lost it: of the devices' requests some would fail."""
    with cluster(tmp_path / "cluster") as three:
        await couch_access.prepare(three.url, connect_seconds=5)
        (name,) = ask(three.url, "/_node/_local/_config/jwt_keys")
        lost = f"/_node/{three.nodes[2].node}/_config/jwt_keys"
        ask(three.url, f"{lost}/{name.replace(':', '%3A')}", "DELETE")
        assert ask(three.url, lost) == {}
        stage.outside = replace(stage.outside, couchdb_url=three.url)
        async with stage.worker() as one:
            assert await one.upkeep.keep_key() == ["a key was added"]
        assert list(ask(three.url, lost)) == [name]


async def test_T20_the_embedded_server_needs_no_key(stage: Stage, couchdb_url: str) -> None:
    async with stage.worker() as one, CouchClient(couchdb_url, connections=1) as couch:
        if (await couch.check()).get("vendor", {}).get("name") == EMBEDDED_VENDOR:
            async with asyncio.timeout(30):
                assert await one.upkeep.keep_key() == []


@pytest.mark.parametrize("version", ["3.3.2", "3.3", "2.3.1", "1.6.1", "", "old"])
def test_T29_an_outdated_couchdb_is_refused(version: str) -> None:
    with pytest.raises(Refused, match=version or "unknown") as refused:
        refuse_outdated({"couchdb": "Welcome", "version": version})
    assert "3.5.2" in refused.value.remedy


@pytest.mark.parametrize("version", ["3.3.3", "3.4.0", "3.5.0", "3.5.2", "3.10.1", "4.0.0-dev"])
def test_T29_others_are_taken(version: str) -> None:
    refuse_outdated({"couchdb": "Welcome", "version": version})


async def test_T29_init_refuses_an_outdated_couchdb(stage: Stage) -> None:
    async with door(stage.outside.couchdb_url) as gate:
        old = b'{"couchdb":"Welcome","version":"3.3.2"}'
        gate.instead = lambda method, path: (200, old) if path in ("/", "") else None
        environment = {**stage.environment, "PASSBOOK_COUCHDB_URL": gate.url}
        status, _, errors = await passbook("init", environment=environment)
    assert status == 2
    assert "This CouchDB is 3.3.2" in errors
    assert "3.5.2 or later is advised" in errors
