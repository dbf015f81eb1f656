"""Three real nodes, some of them away: what was withdrawn is done, who was erased is gone, nothing is stale."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from auth_service import people
from passbook import couch_copies
from passbook.couch import CouchClient
from passbook.couch_configuration import Server
from passbook.errors import Unavailable, WitnessLost
from passbook.servicedb import tables
from passbook.witness.store import PREFIX
from sync_worker.state import MANIFEST
from tests.conftest import Template
from tests.support import own_couchdb
from tests.support.actors import TESTER
from tests.support.cluster import Cluster, cluster
from tests.support.killing import passbook
from tests.support.own_couchdb import OwnCouchDB
from tests.support.processes import eventually
from tests.support.stage import Stage
from tests.worker.changing import permit, until
from tests.worker.test_doubts import marked
from tests.worker.test_withdrawal import state

pytestmark = pytest.mark.skipif(
    not own_couchdb.installed(), reason="needs an installed CouchDB (PASSBOOK_TEST_COUCHDB_HOME)"
)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes."""
    with cluster(tmp_path / "cluster") as nodes:
        yield nodes


@pytest.fixture
def on(three: Cluster, ledger_url: str, service_url: str, filled: Template, tmp_path: Path) -> Iterator[Stage]:
    """A stage on them, with a customer whose copy is on every node."""
    stage = Stage(ledger_url, service_url, three.url, filled.institution, tmp_path)
    stage.add("customer", [filled.institution.customer])
    yield stage
    stage.close()


def readable(three: Cluster, number: int, database: str, old: dict[str, Any]) -> set[str]:
    """Which of these documents a node still gives out by the revision that they had."""
    files = three.files(number, database)
    return {
        key
        for key, document in old.items()
        for file in files
        if "error" not in three.ask(f"{file}/{key}?rev={document['_rev']}")
    }


async def test_T35_withdrawn_while_a_node_was_down(three: Cluster, on: Stage) -> None:
    await on.run()
    name = on.database_of("customer")
    old = {key: one for key, one in (await on.copies("customer")).items() if ":transactions:" in key}
    assert readable(three, 1, name, old) == old.keys()
    three.kill(1)
    change = permit(on, "customer", deny=["transactions"])
    await on.run()
    said = state(on, "customer", change)
    assert (said.state, said.nodes_outstanding, said.documents_removed) == ("carried_out", 1, len(old))
    assert not readable(three, 0, name, old) | readable(three, 2, name, old), "the nodes that are there lost them"
    _, output, _ = await passbook("person", "changes", "customer", environment=on.environment)
    assert "carried out, 1 node outstanding" in output
    report = await on.verify()
    assert {(one.kind, three.nodes[1].node in one.detail) for one in report.findings} == {("old_body", True)}
    async with on.worker() as one:
        assert (await one.withdrawals.round()).outstanding == 1
        before = one.couch.requests.reads + one.couch.requests.writes
        assert (await one.withdrawals.round()).outstanding == 1
        assert one.couch.requests.reads + one.couch.requests.writes == before + 3, "nothing new: who is there"
        three.start(1)
        assert (await one.withdrawals.settle(60)).done == 1
    assert state(on, "customer", change).state == "done"
    for number in range(3):
        assert not readable(three, number, name, old)
    assert (await on.verify()).ok


async def test_T35_verify_looks_at_every_node(three: Cluster, on: Stage) -> None:
    """As a release that asked the cluster as a whole had left it."""
    await on.run()
    name = on.database_of("customer")
    old = {key: one for key, one in (await on.copies("customer")).items() if ":transactions:" in key}
    three.kill(1)
    permit(on, "customer", deny=["transactions"])
    await on.run()
    with on.database.begin() as connection:
        connection.execute(sa.update(tables.person).values(compaction_due=False))
    three.start(1)
    assert readable(three, 1, name, old)
    assert not (await on.verify()).ok
    assert (await on.verify(repair=True)).ok
    assert not readable(three, 1, name, old)


async def test_T35_erased_while_a_node_was_down(three: Cluster, on: Stage) -> None:
    await on.run()
    name = on.database_of("customer")
    three.kill(1)
    status, output, errors = await passbook("person", "delete", "customer", "--yes", environment=on.environment)
    assert status == 0, errors
    assert "a node of CouchDB is away" in output
    await on.run()

    def there() -> list[Any]:
        with on.database.begin() as connection:
            return list(connection.execute(sa.select(tables.person.c.state)).scalars())

    assert there() == ["deleting"]
    three.start(1)
    assert three.files(1, name), "CouchDB keeps it for good"
    for _ in range(5):
        await on.run()
        if not there():
            break
    assert there() == []
    assert [three.files(number, name) for number in range(3)] == [[], [], []]


async def test_a_person_is_erased_at_once_where_every_node_is_there(three: Cluster, on: Stage) -> None:
    await on.run()
    name = on.database_of("customer")
    with on.database.begin() as connection:
        people.begin_deletion(connection, TESTER, "customer")
    await on.run()
    with on.database.begin() as connection:
        assert connection.execute(sa.select(tables.person)).all() == []
    assert [three.files(number, name) for number in range(3)] == [[], [], []]


def at(stage: Stage, node: OwnCouchDB) -> None:
    """From now on the worker speaks to this node."""
    stage.outside = replace(stage.outside, couchdb_url=node.url)


def changed(stage: Stage, clients: list[int], mobile: str) -> None:
    for client in clients:
        stage.change(
            "UPDATE m_client SET mobile_no = :mobile WHERE id = :id", mobile=f"{mobile}-{client}", id=client
        )


def on_every_node(three: Cluster, name: str, document: str) -> list[tuple[str, str, bool]]:
    """Mobile number and revision of a document in each copy, and whether something competes with it."""
    found = []
    for number in range(3):
        for file in three.files(number, name):
            one = three.ask(f"{file}/{quote(document, safe='')}?conflicts=true")
            found.append((str(one.get("mobile_no")), str(one.get("_rev")), "_conflicts" in one))
    return found


async def test_nodes_that_die_in_turn_leave_nothing_stale(three: Cluster, on: Stage, filled: Template) -> None:
    """One node alone takes a write (202), dies, and comes back after the others were written to."""
    clients = filled.institution.agent_clients[:21]
    on.add("agent", clients)
    changed(on, clients, "+1 555 0000")
    await on.run()
    name = on.database_of("agent")
    first, *others = three.nodes
    for node in others:
        node.stop()
    own_couchdb.eventually_members(first, {first.node}, of="all_nodes")
    changed(on, clients, "+1 555 0001")
    await on.run()
    assert marked(on) == ["agent"]
    first.stop()
    for node in others:
        node.start()
    own_couchdb.eventually_members(others[0], {node.node for node in others}, of="all_nodes")
    at(on, others[0])
    changed(on, clients, "+1 555 0002")
    await on.run()
    three.start(0)
    async with on.worker() as one:
        assert await one.doubts.settle(120) == 0
    stands = {client: on_every_node(three, name, f"client:{client}") for client in clients}
    revisions = await on.revisions("agent")
    wanted = {client: [(f"+1 555 0002-{client}", revisions[f"client:{client}"], False)] * 3 for client in clients}
    assert stands == wanted
    assert (await on.verify()).ok
    assert marked(on) == []


async def test_a_node_that_hangs_is_away_within_seconds(three: Cluster, on: Stage) -> None:
    hanging = three.nodes[2]
    assert hanging.process is not None
    os.killpg(hanging.process.pid, signal.SIGSTOP)
    try:
        async with CouchClient(three.url, connections=2) as couch, asyncio.timeout(20):
            nodes = await couch_copies.membership(couch)
        assert nodes.away == (hanging.node,)
        async with asyncio.timeout(20), Server(three.url, 5) as server:
            assert (await server.nodes())[1] == [hanging.node]
    finally:
        os.killpg(hanging.process.pid, signal.SIGCONT)


async def test_a_node_made_anew_takes_no_database_away(three: Cluster, on: Stage) -> None:
    await on.run()
    name = on.database_of("customer")
    before = await on.revisions("customer")
    anew = three.nodes[1]
    three.kill(1)
    shutil.rmtree(anew.directory / "data")
    anew.start()
    witness = next(found for found in three.ask("/_all_dbs") if found.startswith(PREFIX))
    async with CouchClient(anew.url, connections=2) as couch:
        if not await couch.database_exists(name):
            assert not await couch_copies.lost(couch, name, beside=witness), "the others have it"
    at(on, anew)
    changed(on, [on.institution.customer], "+1 555 0003")

    async def taken() -> bool:
        try:
            await on.run()
        except (Unavailable, WitnessLost):
            return False  # alone, it looks like a server that lost everything
        document = (await on.copies("customer")).get(f"client:{on.institution.customer}", {})
        return document.get("mobile_no") == f"+1 555 0003-{on.institution.customer}"

    await until(taken, "a pass by way of the new node")
    at(on, three.nodes[0])
    eventually(lambda: len(three.files(1, name)) == 1, "its copy")
    assert len(three.files(0, name)) == 1, "a second set of files: the database was made again"
    after = await on.revisions("customer")
    assert {key for key in before if before[key] != after[key]} == {
        f"client:{on.institution.customer}",
        MANIFEST,
    }
    assert (await on.verify()).ok
