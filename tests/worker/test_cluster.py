"""Three real nodes, one of which was away: what was withdrawn is done, and who was erased is gone, on every one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from auth_service import people
from passbook.servicedb import tables
from tests.conftest import Template
from tests.support import own_couchdb
from tests.support.actors import TESTER
from tests.support.cluster import Cluster, cluster
from tests.support.killing import passbook
from tests.support.stage import Stage
from tests.worker.changing import permit
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
