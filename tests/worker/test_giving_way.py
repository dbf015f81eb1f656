"""Which changes of scope a pass takes up, which it leaves for the next, and how a full pass gives way to them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa

from auth_service import people
from passbook.progress import Silent
from passbook.servicedb import tables
from sync_worker import scope_changes
from sync_worker.run import People
from tests.support.actors import TESTER
from tests.support.stage import Stage
from tests.worker.changing import counts, link, of_client, unlink, until


@pytest.mark.parametrize("load", [People.everybody, People.changed])
async def test_a_change_that_comes_while_scopes_are_loaded_is_for_the_next_pass(stage: Stage, load: Any) -> None:
    """After every single statement of the loading another change is committed."""
    clients = iter(stage.institution.active_clients)
    stage.add("agent", [next(clients)])
    client_of: dict[int, int] = {}
    busy = False

    @sa.event.listens_for(stage.database.engine, "after_cursor_execute")
    def meanwhile(*_: Any) -> None:
        nonlocal busy
        if not busy:
            busy = True
            client = next(clients)
            client_of[link(stage, "agent", client)] = client
            busy = False

    people_now = stage.database.run(load, date(2026, 6, 30))
    assert len(client_of) >= 3
    (holder,) = people_now.holders
    pending = people_now.pending[holder.id]
    assert {client_of[change] for change in pending if change in client_of} <= holder.scope.clients
    assert client_of.keys() - set(pending), "there were changes that came too late"


async def test_what_is_heard_of_while_looking_is_looked_at_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.worker() as one:
        look = scope_changes.any_waiting

        def heard_just_then(connection: sa.Connection) -> bool:
            found = look(connection)
            one.hurry.set()
            return found

        monkeypatch.setattr(scope_changes, "any_waiting", heard_just_then)
        assert await one.run_changes() is None
        assert one.hurry.is_set()


async def test_people_with_a_copy_come_before_new_ones_and_a_pass_has_a_bound(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_worker.run.MOST_PEOPLE", 2)
    stage.add("agent", stage.institution.agent_clients[:1])
    await stage.run()
    with stage.database.begin() as connection:
        for number in range(4):
            row = (
                connection.execute(sa.select(tables.person).where(tables.person.c.username == "agent"))
                .mappings()
                .one()
            )
            new = {
                "id": f"new{number}",
                "username": f"new{number}",
                "database_name": f"{row['database_name']}{number}",
            }
            connection.execute(sa.insert(tables.person), {**row, **new, "database_ready_at": None})
            connection.execute(sa.insert(tables.scope_change), {"person_id": new["id"], "what": "created"})
    change = link(stage, "agent", stage.institution.agent_clients[1])
    async with stage.worker() as one:
        passes = [await one.run_changes()]
        assert counts(stage, change) is not None
        while one.hurry.is_set():
            passes.append(await one.run_changes())
    assert [summary.persons for summary in passes if summary] == [2, 2, 1]
    await stage.settle()
    assert (await stage.verify()).ok


class _Meanwhile:
    """A reporter that does something in the midst of a full pass, and then looks at every step."""

    def __init__(self, act: Any, look: Any) -> None:
        self._act, self._look = act, look
        self.acted = False
        self.seen: list[Any] = []

    def update(self, done: int, total: int) -> None:
        if done and not self.acted:
            self.acted = True
            self._act()
        elif self.acted and done < total:
            self.seen.append(self._look())


async def test_a_full_pass_gives_way_and_does_not_bring_back_what_was_taken(stage: Stage) -> None:
    """The pass under way has read the old scope, and the client taken away is still to come in it."""
    stage.set(ledger_batch=1)
    clients = sorted(stage.institution.agent_clients)
    stage.add("agent", clients)
    stage.add("colleague", clients)
    await stage.run()
    before = await stage.copies("agent")
    for client in clients:
        stage.change("UPDATE m_client SET mobile_no = :no WHERE id = :id", no=f"+1 555 {client}", id=client)
    async with stage.worker() as one:
        given: list[int] = []

        def act() -> None:
            given.append(unlink(stage, "agent", clients[-1]))
            given.append(link(stage, "agent", stage.institution.customer))
            one.hurry.set()

        reporter = _Meanwhile(act, lambda: counts(stage, given[-1]))
        summary = await one.run_pass(reporter)
    copies = await stage.copies("agent")
    assert not of_client(copies, clients[-1])
    added, removed, failed = counts(stage, given[-1]) or (0, 0, 0)
    assert (added, removed, failed) == (len(copies.keys() - before.keys()), len(before.keys() - copies.keys()), 0)
    assert (added, removed, failed) in reporter.seen, "done while the full pass was still under way"
    assert copies[f"client:{clients[-2]}"]["mobile_no"] == f"+1 555 {clients[-2]}"
    assert summary.documents_deleted == removed
    await stage.settle()
    assert (await stage.verify()).ok


async def test_a_full_pass_gives_way_only_when_nothing_of_it_is_on_its_way(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that is on its way was made from the old scope: it must not arrive after the taking away."""
    stage.set(ledger_batch=1)
    clients = sorted(stage.institution.agent_clients)
    stage.add("agent", clients)
    async with stage.worker() as one:
        send = one.couch.bulk
        change: list[int] = []

        async def slowly(*arguments: Any, **options: Any) -> Any:
            if change:
                return await send(*arguments, **options)
            change.append(unlink(stage, "agent", clients[0]))
            one.hurry.set()

            async def done() -> bool:
                return counts(stage, change[0]) is not None

            with pytest.raises(AssertionError):
                await until(done, "carried out while a write is on its way", within=1.5)
            return await send(*arguments, **options)

        monkeypatch.setattr(one.couch, "bulk", slowly)
        await one.run_pass(Silent())
    assert counts(stage, change[0]) is not None
    assert not of_client(await stage.copies("agent"), clients[0])
    await stage.settle()
    assert (await stage.verify()).ok


async def test_a_person_erased_while_a_full_pass_gives_way_does_not_come_back(stage: Stage) -> None:
    stage.set(ledger_batch=1)
    stage.add("agent", stage.institution.agent_clients)
    stage.add("colleague", stage.institution.agent_clients)
    name = stage.database_of("agent")
    async with stage.worker() as one:

        def act() -> None:
            with stage.database.begin() as connection:
                people.begin_deletion(connection, TESTER, "agent")
            one.hurry.set()

        await one.run_pass(_Meanwhile(act, lambda: None))
        assert not await one.couch.database_exists(name)
    await stage.settle()
    assert (await stage.verify()).ok
