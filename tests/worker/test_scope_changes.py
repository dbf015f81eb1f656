"""Changes of scope: carried out for the people they are about, and done with the right numbers."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa

from auth_service import people
from auth_service.scopes import Window
from passbook.errors import Unavailable
from passbook.progress import Silent
from passbook.servicedb import tables
from sample_institution import moves
from tests.support.actors import TESTER
from tests.support.stage import Stage
from tests.worker.changing import carry_out, counts, link, of_client, permit, sums, unlink


async def test_a_new_person_is_done_with_everything_that_arrived(stage: Stage) -> None:
    stage.add("agent", stage.institution.agent_clients[:3])
    summary = await carry_out(stage)
    assert summary
    assert (summary.persons, summary.clients) == (1, 3)
    copies = await stage.copies("agent")
    assert sums(stage, "agent") == (len(copies), 0)
    assert summary.documents_written == len(copies) > 20
    assert (await stage.verify()).ok


async def test_a_linked_client_arrives_and_the_change_tells_how_much(stage: Stage) -> None:
    have, new = stage.institution.agent_clients[:2]
    stage.add("agent", [have])
    await carry_out(stage)
    before = await stage.revisions("agent")
    change = link(stage, "agent", new)
    assert counts(stage, change) is None
    await carry_out(stage)
    after = await stage.copies("agent")
    arrived = after.keys() - before.keys()
    assert arrived == of_client(after, new)
    assert counts(stage, change) == (len(arrived), 0, 0)
    assert {key for key in before if after[key]["_rev"] != before[key]} == {"~passbook"}
    assert (await stage.verify()).ok


async def test_an_unlinked_client_leaves_one_person_and_no_other(stage: Stage) -> None:
    keep, lose = stage.institution.agent_clients[:2]
    for name in ("agent", "colleague"):
        stage.add(name, [keep, lose])
    await carry_out(stage)
    theirs = await stage.revisions("colleague")
    before = await stage.copies("agent")
    lost = of_client(before, lose)
    # What happens in the ledger meanwhile is for a full pass to bring.
    moves.deposit(stage.ledger, moves.active_savings_of(stage.ledger, lose), 5)
    change = unlink(stage, "agent", lose)
    await carry_out(stage)
    assert (await stage.copies("agent")).keys() == before.keys() - lost
    assert counts(stage, change) == (0, len(lost), 0)
    assert await stage.revisions("colleague") == theirs
    assert (await stage.verify(only="person-agent")).ok


async def test_a_client_that_comes_back_counts_as_added(stage: Stage) -> None:
    keep, other = stage.institution.agent_clients[:2]
    stage.add("agent", [keep, other])
    await carry_out(stage)
    many = len(of_client(await stage.copies("agent"), other))
    for _ in range(2):
        gone = unlink(stage, "agent", other)
        await carry_out(stage)
        back = link(stage, "agent", other)
        await carry_out(stage)
        assert (counts(stage, gone), counts(stage, back)) == ((0, many, 0), (many, 0, 0))
    assert (await stage.verify()).ok


async def test_changes_carried_out_together_have_their_numbers_on_the_last(stage: Stage) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    stage.add("agent", [a])
    await carry_out(stage)
    first, second, third = link(stage, "agent", b), link(stage, "agent", c), unlink(stage, "agent", a)
    before = await stage.copies("agent")
    await carry_out(stage)
    after = await stage.copies("agent")
    assert counts(stage, first) == counts(stage, second) == (0, 0, 0)
    assert counts(stage, third) == (len(after.keys() - before.keys()), len(before.keys() - after.keys()), 0)


async def test_permissions_taken_away_and_given_back(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    await carry_out(stage)
    before = set(await stage.copies("customer"))
    denied = permit(stage, "customer", deny=["transactions"])
    await carry_out(stage)
    pages = {key for key in before if ":transactions:" in key}
    assert set(await stage.copies("customer")) == before - pages
    assert counts(stage, denied) == (0, len(pages), 0)
    granted = permit(stage, "customer", grant=["transactions"])
    await carry_out(stage)
    assert set(await stage.copies("customer")) == before
    assert counts(stage, granted) == (len(pages), 0, 0)


async def test_a_history_window_removes_whole_pages_and_changes_others(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    await carry_out(stage)
    before = set(await stage.copies("customer"))
    change = permit(stage, "customer", window=Window(since=date(2026, 2, 15)))
    await carry_out(stage)
    after = await stage.copies("customer")
    assert counts(stage, change) == (0, len(before - after.keys()), 0)
    assert before - after.keys()
    days = [row["on"] for document in after.values() for row in document.get("transactions", ())]
    assert min(days) >= "2026-02-15"
    assert (await stage.verify()).ok


async def test_clients_that_fail_are_counted_and_hold_nothing_up(stage: Stage) -> None:
    well, ill = stage.institution.agent_clients[:2]
    stage.add("agent", [well])
    await carry_out(stage)
    unknown = link(stage, "agent", 999_999_999)
    await carry_out(stage)
    assert counts(stage, unknown) == (0, 0, 1)
    unlink(stage, "agent", 999_999_999)
    digits = stage.ask("SELECT currency_digits FROM m_loan WHERE client_id = :id LIMIT 1", id=ill)
    stage.change("UPDATE m_loan SET currency_digits = 77 WHERE client_id = :id", id=ill)
    linked = link(stage, "agent", ill)
    await carry_out(stage)
    assert counts(stage, linked) == (0, 0, 1)
    assert _dead_letters(stage) == {ill, 999_999_999}, "who was not read is not struck"
    stage.change("UPDATE m_loan SET currency_digits = :digits WHERE client_id = :id", digits=digits, id=ill)
    await stage.run()
    assert of_client(await stage.copies("agent"), ill)
    assert _dead_letters(stage) == set()


async def test_what_is_taken_away_goes_even_if_the_client_cannot_be_read(stage: Stage) -> None:
    well, ill = stage.institution.agent_clients[:2]
    stage.add("agent", [well, ill])
    await carry_out(stage)
    before = await stage.copies("agent")
    stage.change("UPDATE m_loan SET currency_digits = 77 WHERE client_id = :id", id=ill)
    denied = permit(stage, "agent", deny=["transactions"])
    await carry_out(stage)
    after = await stage.copies("agent")
    pages = {key for key in before if ":transactions:" in key}
    assert after.keys() == before.keys() - pages
    assert counts(stage, denied) == (0, len(pages), 1)
    assert [client["id"] for client in after["~passbook"]["clients"]] == sorted([well, ill])
    assert sum(after["~passbook"]["counts"].values()) == len(after) - 1
    unlinked = unlink(stage, "agent", ill)
    await carry_out(stage)
    assert counts(stage, unlinked) == (0, len(of_client(after, ill)), 0)
    assert not of_client(await stage.copies("agent"), ill)


def _dead_letters(stage: Stage) -> set[int]:
    with stage.database.begin() as connection:
        return set(connection.execute(sa.select(tables.dead_letter.c.client_id)).scalars())


async def test_a_full_pass_marks_changes_done_in_the_same_way(stage: Stage) -> None:
    have, new = stage.institution.agent_clients[:2]
    stage.add("agent", [have])
    await stage.run()
    before = await stage.copies("agent")
    assert sums(stage, "agent") == (len(before), 0)
    change = link(stage, "agent", new)
    moves.deposit(stage.ledger, moves.active_savings_of(stage.ledger, have), 5)
    await stage.run()
    after = await stage.copies("agent")
    assert counts(stage, change) == (len(after.keys() - before.keys()), 0, 0)


@pytest.mark.parametrize("full", [False, True], ids=["pass over changes", "full pass"])
async def test_a_change_that_comes_while_the_pass_runs_stays_pending(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    stage.add("agent", [a])
    await stage.run()
    early = link(stage, "agent", b)
    late: list[int] = []
    async with stage.worker() as one:
        send = one.couch.bulk

        async def meanwhile(*arguments: Any, **options: Any) -> Any:
            if not late:
                late.append(link(stage, "agent", c))
            return await send(*arguments, **options)

        monkeypatch.setattr(one.couch, "bulk", meanwhile)
        await (one.run_pass(Silent()) if full else one.run_changes())
        assert counts(stage, early) is not None
        assert counts(stage, late[0]) is None
        assert not of_client(await stage.copies("agent"), c)
        await one.run_changes()
    assert counts(stage, late[0]) == (len(of_client(await stage.copies("agent"), c)), 0, 0)


@pytest.mark.parametrize("full", [False, True], ids=["pass over changes", "full pass"])
async def test_changes_stay_pending_while_couchdb_is_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    monkeypatch.setattr("passbook.couch._FIRST_PAUSE_SECONDS", 0.001)
    a, b, c = stage.institution.agent_clients[:3]
    stage.add("agent", [a, b])
    await stage.run()
    before = await stage.copies("agent")
    unlink(stage, "agent", a)
    change = link(stage, "agent", c)
    async with stage.worker() as one:
        send = one.couch.bulk
        sent = 0

        async def breaking_down(*arguments: Any, **options: Any) -> Any:
            nonlocal sent
            sent += 1
            if sent == 2:
                monkeypatch.setattr(one.couch, "_base", "http://127.0.0.1:9")
            return await send(*arguments, **options)

        monkeypatch.setattr(one.couch, "bulk", breaking_down)
        with pytest.raises(Unavailable):
            await (one.run_pass(Silent()) if full else one.run_changes())
        assert one.hurry.is_set() != full, "who heard of the change hears of it again"
    assert counts(stage, change) is None
    assert of_client(await stage.copies("agent"), a) == set(), "what was taken away is"
    await carry_out(stage)
    after = await stage.copies("agent")
    assert counts(stage, change) == (len(after.keys() - before.keys()), len(before.keys() - after.keys()), 0)
    assert (await stage.verify()).ok


async def test_two_workers_carry_out_a_change_once(stage: Stage) -> None:
    stage.add("agent", stage.institution.agent_clients[:4])
    async with stage.worker() as one, stage.worker() as other:
        both = await asyncio.gather(one.run_changes(), other.run_changes())
    assert sorted(summary is None for summary in both) == [False, True]
    copies = await stage.copies("agent")
    assert sums(stage, "agent") == (len(copies), 0)
    assert {document["_rev"].split("-")[0] for document in copies.values()} == {"1"}


async def test_nothing_pending_costs_ledger_and_couchdb_nothing(stage: Stage) -> None:
    stage.add("agent", stage.institution.agent_clients[:2])
    await stage.run()
    asked: list[str] = []
    async with stage.worker() as one:

        @sa.event.listens_for(one.reader.engine, "before_cursor_execute")
        def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            asked.append(statement)

        before = (one.couch.requests.reads, one.couch.requests.writes)
        one.hurry.set()
        assert await one.run_changes() is None
        assert not one.hurry.is_set()
        assert (one.couch.requests.reads, one.couch.requests.writes) == before
    assert asked == []


async def test_only_the_clients_of_those_people_are_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    stage.add("agent", [a])
    stage.add("other", [b, c])
    await stage.run()
    link(stage, "agent", c)
    read: list[int] = []
    async with stage.worker() as one:
        real = one.reader.read
        monkeypatch.setattr(one.reader, "read", lambda ids: (read.extend(ids), real(ids))[1])
        await one.run_changes()
    assert sorted(read) == sorted([a, c])


async def test_a_begun_deletion_is_finished_without_the_ledger(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.add("customer", [stage.institution.customer])
    stage.add("agent", stage.institution.agent_clients[:2])
    await stage.run()
    name = stage.database_of("customer")
    with stage.database.begin() as connection:
        people.begin_deletion(connection, TESTER, "customer")
    async with stage.worker() as one:
        monkeypatch.setattr(one.reader, "prepare", None)
        assert await one.run_changes() is None
        assert not await one.couch.database_exists(name)
    with stage.database.begin() as connection:
        assert list(connection.execute(sa.select(tables.person.c.username)).scalars()) == ["agent"]


async def test_a_lost_database_is_rebuilt_by_a_change_of_scope(stage: Stage) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    stage.add("agent", [a, b])
    await stage.run()
    before = await stage.revisions("agent")
    unlink(stage, "agent", a)
    change = link(stage, "agent", c)
    async with stage.couch() as couch:
        await couch.delete_database(stage.database_of("agent"))
    await carry_out(stage)
    after = await stage.copies("agent")
    assert counts(stage, change) == (len(after.keys() - before.keys()), len(before.keys() - after.keys()), 0)
    assert {key: after[key]["_rev"] for key in of_client(after, b)} == {
        key: before[key] for key in of_client(after, b)
    }
    assert (await stage.verify()).ok


async def test_a_lost_database_with_bodies_to_throw_away_holds_up_nobody(stage: Stage) -> None:
    stage.add("agent", stage.institution.agent_clients[:2])
    await stage.run()
    before = await stage.revisions("agent")
    with stage.database.begin() as connection:
        connection.execute(sa.update(tables.person).values(compaction_due=True))
    async with stage.couch() as couch:
        await couch.delete_database(stage.database_of("agent"))
    await stage.run()
    assert await stage.revisions("agent") == before
