"""What left a scope is done when nobody can read it any more, and not when its end was ordered."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from auth_service import scopes
from auth_service.scopes import Window
from passbook.errors import Unavailable
from passbook.servicedb import tables
from tests.conftest import Template
from tests.support import own_couchdb
from tests.support.killing import Door, door, passbook
from tests.support.own_couchdb import OwnCouchDB
from tests.support.processes import ask
from tests.support.stage import Stage
from tests.worker.changing import carry_out, link, of_client, permit, unlink, until


def state(stage: Stage, name: str, change: int) -> scopes.Change:
    """A change as administrators see it."""
    with stage.database.begin() as connection:
        return next(one for one in scopes.changes(connection, name) if one.change == change)


async def old_bodies(stage: Stage, name: str, before: dict[str, Any], *clients: int) -> list[str]:
    """Which of the documents about these clients can still be read by the revision that they had."""
    database, found = stage.database_of(name), []
    async with stage.couch() as couch:
        for key in of_client(before, *clients):
            status, _ = await couch.ask("GET", f"/{database}/{key}?rev={before[key]['_rev']}", expect=(200, 404))
            if status == 200:
                found.append(key)
    return found


def swallowing(gate: Door) -> Callable[[], None]:
    """Compaction is taken and never done; the result ends that."""
    gate.instead = lambda method, path: (
        (202, b'{"ok":true}') if method == "POST" and path.endswith("/_compact") else None
    )

    def end() -> None:
        gate.instead = lambda _method, _path: None

    return end


async def prepared(stage: Stage) -> tuple[int, dict[str, Any]]:
    """An agent with two clients, of whom they lose one; that one, and the copies before."""
    keep, lose = stage.institution.agent_clients[:2]
    stage.add("agent", [keep, lose])
    await stage.run()
    return lose, await stage.copies("agent")


async def test_T35_a_change_is_not_done_before_the_old_bodies_are_gone(stage: Stage) -> None:
    lose, before = await prepared(stage)
    stage.add("colleague", [stage.institution.agent_clients[2]])
    real = stage.outside
    async with door(real.couchdb_url) as gate:
        stage.outside = replace(real, couchdb_url=gate.url)
        go_on = swallowing(gate)
        change = unlink(stage, "agent", lose)
        async with stage.worker() as one:
            await one.run_changes()
            for _ in range(3):
                assert (await one.withdrawals.round()).waiting == 1
            assert not of_client(await stage.copies("agent"), lose), "devices lose them at once"
            assert await old_bodies(stage, "agent", before, lose), "and old revisions could be read"
            said = state(stage, "agent", change)
            assert (said.state, said.done_at, said.nodes_outstanding) == ("carried_out", None, 1)
            assert said.documents_removed == len(of_client(before, lose))
            # Waiting holds nobody up.
            other = link(stage, "colleague", stage.institution.agent_clients[3])
            await one.run_changes()
            assert state(stage, "colleague", other).state == "done"
            found = await stage.verify()
            assert {finding.kind for finding in found.findings} == {"old_body"}
            go_on()
            assert (await one.withdrawals.settle(60)).done == 1
        said = state(stage, "agent", change)
        assert (said.state, said.nodes_outstanding) == ("done", None)
        assert await old_bodies(stage, "agent", before, lose) == []
    stage.outside = real
    assert (await stage.verify()).ok


async def test_T35_a_worker_that_comes_later_goes_on(stage: Stage) -> None:
    lose, before = await prepared(stage)
    real = stage.outside
    async with door(real.couchdb_url) as gate:
        swallowing(gate)
        stage.outside = replace(real, couchdb_url=gate.url)
        change = unlink(stage, "agent", lose)
        async with stage.worker() as one:
            await one.run_changes()
    stage.outside = real
    assert await old_bodies(stage, "agent", before, lose)
    await stage.run()
    assert state(stage, "agent", change).state == "done"
    assert await old_bodies(stage, "agent", before, lose) == []


async def test_T35_verify_finds_old_bodies_that_were_called_done_and_repair_removes_them(stage: Stage) -> None:
    lose, before = await prepared(stage)
    async with door(stage.outside.couchdb_url) as gate:
        swallowing(gate)
        real, stage.outside = stage.outside, replace(stage.outside, couchdb_url=gate.url)
        unlink(stage, "agent", lose)
        async with stage.worker() as one:
            await one.run_changes()
        stage.outside = real
    with stage.database.begin() as connection:
        connection.execute(sa.update(tables.person).values(compaction_due=False))
    report = await stage.verify()
    assert not report.ok
    assert {(one.kind, one.document) for one in report.findings} == {
        ("old_body", key) for key in of_client(before, lose)
    }
    assert (await stage.verify(repair=True)).ok
    assert (await stage.verify()).ok
    assert await old_bodies(stage, "agent", before, lose) == []


async def test_T35_what_a_history_window_took_out_of_a_page_goes_too(stage: Stage) -> None:
    client = stage.institution.customer
    stage.add("customer", [client])
    await stage.run()
    before = await stage.copies("customer")
    change = permit(stage, "customer", window=Window(since=date(2026, 2, 15)))
    await carry_out(stage)
    after = await stage.copies("customer")
    narrowed = {key for key in after.keys() & before.keys() if after[key]["_rev"] != before[key]["_rev"]}
    assert narrowed - {"~passbook"}
    assert state(stage, "customer", change).state == "done"
    gone = {key: one for key, one in before.items() if key in narrowed or key not in after}
    assert await old_bodies(stage, "customer", gone, client) == []


async def test_T35_more_that_is_withdrawn_while_compaction_runs_is_not_forgotten(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose, before = await prepared(stage)
    change = unlink(stage, "agent", lose)
    async with stage.worker() as one:
        await one.run_changes()
        seen = one.withdrawals._unready

        async def meanwhile(*arguments: Any) -> Any:
            unready = await seen(*arguments)
            if not unready:
                monkeypatch.setattr(one.withdrawals, "_unready", seen)
                permit(stage, "agent", deny=["transactions"])
                await one.run_changes()
            return unready

        monkeypatch.setattr(one.withdrawals, "_unready", meanwhile)

        async def through() -> bool:
            await one.withdrawals.round()
            return one.withdrawals._unready == seen

        await until(through, "more was withdrawn")
        assert state(stage, "agent", change).state == "carried_out"
        await one.withdrawals.settle(60)
    with stage.database.begin() as connection:
        assert {one.state for one in scopes.changes(connection, "agent")} == {"done"}
    pages = {key: one for key, one in before.items() if ":transactions:" in key}
    assert await old_bodies(stage, "agent", pages, *stage.institution.agent_clients[:2]) == []


async def test_T35_it_costs_few_requests(stage: Stage) -> None:
    lose, _ = await prepared(stage)
    unlink(stage, "agent", lose)
    async with stage.worker() as one:
        await one.run_changes()
        before = replace(one.couch.requests)
        rounds = 0
        while not (await one.withdrawals.round()).done:
            rounds += 1
        made = one.couch.requests
        # Membership, where the copies are and how far compaction is, for each round; then ten looks.
        assert made.reads - before.reads <= 3 * (rounds + 1) + 10
        assert made.writes - before.writes <= 1
        # Nothing is due: CouchDB is not asked.
        before = replace(one.couch.requests)
        assert (await one.withdrawals.round()).done == 0
        assert one.couch.requests == before


async def test_T35_the_command_shows_how_far_it_is(stage: Stage) -> None:
    lose, _ = await prepared(stage)
    unlink(stage, "agent", lose)
    async with stage.worker() as one:
        await one.run_changes()
    with stage.database.begin() as connection:
        changed = sa.update(tables.person).values(compaction_due=True, nodes_outstanding=1)
        connection.execute(changed)
        connection.execute(sa.update(tables.scope_change).values(done_at=None))
    status, output, errors = await passbook("person", "changes", "agent", environment=stage.environment)
    assert status == 0, errors
    assert "carried out, 1 node outstanding" in output
    status, output, errors = await passbook("person", "show", "agent", "--json", environment=stage.environment)
    assert json.loads(output)["pending_changes"] == 2


@pytest.fixture
def own(ledger_url: str, service_url: str, filled: Template, tmp_path: Path) -> Iterator[tuple[OwnCouchDB, Stage]]:
    """A CouchDB to be killed, and a stage on it."""
    if not own_couchdb.installed():
        pytest.skip("needs an installed CouchDB (PASSBOOK_TEST_COUCHDB_HOME)")
    with own_couchdb.own(tmp_path / "couchdb") as node:
        stage = Stage(ledger_url, service_url, node.url, filled.institution, tmp_path)
        yield node, stage
        stage.close()


async def test_T35_couchdb_killed_right_after_it_took_the_order(own: tuple[OwnCouchDB, Stage]) -> None:
    node, stage = own
    lose, before = await prepared(stage)
    change = unlink(stage, "agent", lose)
    taken: list[Any] = []

    def kill(method: str, path: str) -> tuple[int, bytes] | None:
        if taken:
            return 503, b"{}"
        if method == "POST" and path.endswith("/_compact"):
            taken.append(ask(node.url, path, "POST", {}))
            node.stop()
            return 202, b'{"ok":true}'
        return None

    async with door(node.url) as gate:
        gate.instead = kill
        stage.outside = replace(stage.outside, couchdb_url=gate.url)
        async with stage.worker() as one:
            with contextlib.suppress(Unavailable):
                await one.run_changes()
                await one.withdrawals.round()
    assert taken == [{"ok": True}]
    node.start()
    stage.outside = replace(stage.outside, couchdb_url=node.url)
    assert await old_bodies(stage, "agent", before, lose), "it was killed before it was through"
    assert state(stage, "agent", change).state != "done"
    await stage.run()
    assert state(stage, "agent", change).state == "done"
    assert await old_bodies(stage, "agent", before, lose) == []
    assert (await stage.verify()).ok
