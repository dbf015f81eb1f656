"""`checked_at` (`passbook.freshness`): never later than the copies bear out, and no write while nothing changes."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth_service import people
from passbook.errors import Unavailable
from passbook.freshness import checked_at
from passbook.progress import Silent
from passbook.servicedb import tables
from sync_worker.cycle import Worker
from tests.support.actors import TESTER
from tests.support.stage import Stage
from tests.worker.changing import carry_out, link, of_client, unlink


def checked(stage: Stage, name: str) -> datetime | None:
    """What the person is told, as the gateway asks it."""
    query = sa.select(checked_at(tables.person.c.id)).where(tables.person.c.username == name)
    with stage.database.begin() as connection:
        found: datetime | None = connection.execute(query).scalar_one()
    return found


def now(stage: Stage) -> datetime:
    found: datetime = stage.ask("SELECT clock_timestamp()")
    return found


def ill(stage: Stage, client: int) -> None:
    """Nobody can read this client from now on."""
    stage.change("UPDATE m_loan SET currency_digits = 77 WHERE client_id = :id", id=client)


def well(stage: Stage, client: int) -> None:
    stage.change("UPDATE m_loan SET currency_digits = 2 WHERE client_id = :id", id=client)


def versions(stage: Stage) -> dict[str, Any]:
    """Which transaction wrote each row about completeness last."""
    with stage.database.begin() as connection:
        rows = connection.execute(sa.text("SELECT person_id, xmin::text, xmax::text FROM completeness"))
        return {row[0]: tuple(row[1:]) for row in rows}


async def test_it_is_the_beginning_of_the_last_whole_pass_and_costs_one_row(stage: Stage) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    stage.add("customer", [a])
    stage.add("agent", [b, c])
    stage.add("nobody", [])
    assert checked(stage, "customer") is None
    before = now(stage)
    await stage.run()
    after = now(stage)
    first = {name: checked(stage, name) for name in ("customer", "agent", "nobody")}
    assert len(set(first.values())) == 1
    told = first["agent"]
    assert told is not None
    assert before <= told <= after
    rows = versions(stage)
    assert len(rows) == 3
    between = now(stage)
    await stage.run()
    assert versions(stage) == rows, "an idle pass writes no row of a person's"
    again = checked(stage, "agent")
    assert again is not None
    assert between <= again <= now(stage)


async def test_a_worker_that_stands_still_leaves_it_old(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    told = checked(stage, "customer")
    with stage.database.begin() as connection:
        # As if the pass had been three days ago.
        shifted = sa.text("UPDATE whole_pass SET as_of = as_of - interval '3 days'")
        connection.execute(shifted)
        connection.execute(sa.text("UPDATE completeness SET as_of = as_of - interval '3 days'"))
    old = checked(stage, "customer")
    assert told
    assert old
    assert (told - old).days == 3
    async with stage.worker():
        pass  # one that starts, and makes no pass
    assert checked(stage, "customer") == old


async def test_somebody_whose_client_fails_keeps_the_time_of_the_last_whole_copy(stage: Stage) -> None:
    a, b = stage.institution.agent_clients[:2]
    stage.add("agent", [a, b])
    stage.add("other", [a])
    await stage.run()
    before = checked(stage, "agent")
    ill(stage, b)
    await stage.run()
    middle = checked(stage, "other")
    assert checked(stage, "agent") == before, "the time of the pass before, which copied all"
    assert before
    assert middle
    assert middle > before
    rows = versions(stage)
    await stage.run()
    assert checked(stage, "agent") == before
    assert versions(stage) == rows, "nor does one who stays behind cost a row a pass"
    well(stage, b)
    await stage.run()
    assert checked(stage, "agent") == checked(stage, "other") != middle


async def test_a_new_link_has_to_be_copied_first(stage: Stage) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    stage.add("agent", [a])
    await stage.run()
    assert checked(stage, "agent")
    link(stage, "agent", b)
    assert checked(stage, "agent") is None
    since = now(stage)
    await carry_out(stage)
    told = checked(stage, "agent")
    assert told
    assert told >= since
    # One that cannot be copied: there was no time at which all of these clients were in the copy.
    ill(stage, c)
    link(stage, "agent", c)
    await carry_out(stage)
    assert checked(stage, "agent") is None
    await stage.run()
    assert checked(stage, "agent") is None
    unlink(stage, "agent", c)
    await carry_out(stage)
    assert checked(stage, "agent")


async def test_a_lost_database_is_found_by_the_next_pass_and_tells_nothing_until_it_is_back(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    stage.add("other", [stage.institution.agent_clients[0]])
    await stage.run()
    revisions = await stage.revisions("customer")
    async with stage.worker() as one:
        await one.couch.delete_database(stage.database_of("customer"))
        send = one.couch.bulk
        seen: list[datetime | None] = []

        async def looking(*arguments: Any, **options: Any) -> Any:
            seen.append(checked(stage, "customer"))
            return await send(*arguments, **options)

        one.couch.bulk = looking  # type: ignore[method-assign]
        await one.run_pass(Silent())
    assert seen
    assert set(seen) == {None}
    assert await stage.revisions("customer") == revisions, "though nothing in the ledger had changed"
    assert checked(stage, "customer")


async def test_a_rebuild_that_is_broken_off_is_begun_anew_by_the_next_pass(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    revisions = await stage.revisions("customer")
    async with stage.worker() as one:
        await one.couch.delete_database(stage.database_of("customer"))
        with _breaking(one, after=0), contextlib.suppress(Unavailable):
            await one.verifier().verify(Silent(), repair=True)
        assert await stage.copies("customer") == {}
        assert checked(stage, "customer") is None
        await one.run_pass(Silent())
    assert await stage.revisions("customer") == revisions
    assert checked(stage, "customer")


async def test_what_a_rebuild_had_to_leave_out_comes_when_it_can_be_read(stage: Stage) -> None:
    a, b = stage.institution.agent_clients[:2]
    stage.add("agent", [a, b])
    await stage.run()
    revisions = await stage.revisions("agent")
    ill(stage, b)
    async with stage.couch() as couch:
        await couch.delete_database(stage.database_of("agent"))
    await stage.run()
    await stage.run()
    assert not of_client(await stage.copies("agent"), b)
    assert checked(stage, "agent") is None
    well(stage, b)
    await stage.run()
    after = await stage.revisions("agent")
    assert {key: after.get(key) for key in revisions if key != "~passbook"} == {
        key: revision for key, revision in revisions.items() if key != "~passbook"
    }
    assert checked(stage, "agent")


@contextlib.contextmanager
def _breaking(one: Worker, *, after: int) -> Any:
    """CouchDB is away once so much was written."""
    send, left = one.couch.bulk, after

    async def bulk(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Unavailable("as if it were away")
        return await send(*arguments, **options)

    one.couch.bulk = bulk  # type: ignore[method-assign]
    try:
        yield
    finally:
        one.couch.bulk = send  # type: ignore[method-assign]


_CLIENT = st.integers(0, 2)
_NAMES = ("agent", "colleague")
_ACT = st.one_of(
    st.tuples(st.just("move"), _CLIENT),
    st.tuples(st.just("ill"), _CLIENT),
    st.tuples(st.just("well"), _CLIENT),
    st.tuples(st.sampled_from(("link", "unlink")), st.tuples(st.sampled_from(_NAMES), _CLIENT)),
    st.tuples(st.just("lose"), st.sampled_from(_NAMES)),
)
_STEP = st.one_of(
    _ACT,
    _ACT,
    st.tuples(st.just("pass"), st.none() | _ACT),
    st.tuples(st.just("pass"), st.none()),
    st.tuples(st.just("broken pass"), st.integers(0, 4)),
    st.tuples(st.just("changes"), st.none()),
    st.tuples(st.just("repair"), st.none() | st.integers(0, 3)),
)


class _History:
    """What the ledger said when, kept by the test itself: each client's telephone number goes up with each move."""

    def __init__(self, stage: Stage, one: Worker, number: int) -> None:
        self.stage, self.one = stage, one
        self.clients = sorted(stage.institution.agent_clients[:3])
        self.names = {name: f"{name}{number}" for name in _NAMES}
        #: By client, the numbers it had, each with the ledger's time after it was committed.
        self.numbers: dict[int, list[tuple[str, datetime]]] = {client: [] for client in self.clients}
        self.moves = 0
        for client in self.clients:
            well(stage, client)
            self.move(client)
        stage.add(self.names["agent"], self.clients[:2])
        stage.add(self.names["colleague"], self.clients[1:2])

    def move(self, client: int) -> None:
        self.moves += 1
        number = f"+1 555 {self.moves:06}"
        self.stage.change("UPDATE m_client SET mobile_no = :no WHERE id = :id", no=number, id=client)
        self.numbers[client].append((number, now(self.stage)))

    async def act(self, what: str, argument: Any) -> None:
        stage = self.stage
        match what:
            case "move":
                self.move(self.clients[argument])
            case "ill":
                ill(stage, self.clients[argument])
            case "well":
                well(stage, self.clients[argument])
            case "link":
                link(stage, self.names[argument[0]], self.clients[argument[1]])
            case "unlink":
                if self.clients[argument[1]] in self.scope(argument[0]):
                    unlink(stage, self.names[argument[0]], self.clients[argument[1]])
            case "lose":
                await self.one.couch.delete_database(stage.database_of(self.names[argument]))

    async def step(self, what: str, argument: Any) -> None:
        match what:
            case "pass":
                await self.one.run_pass(_Midst(self, argument) if argument else Silent())
            case "broken pass":
                with _breaking(self.one, after=argument), contextlib.suppress(Unavailable):
                    await self.one.run_pass(Silent())
            case "changes":
                await self.one.run_changes()
            case "repair":
                with (
                    contextlib.nullcontext() if argument is None else _breaking(self.one, after=argument),
                    contextlib.suppress(Unavailable),
                ):
                    await self.one.verifier().verify(Silent(), repair=True)
            case _:
                await self.act(what, argument)

    def scope(self, name: str) -> set[int]:
        """The clients that the person may see now."""
        link = tables.person_client
        query = sa.select(link.c.client_id).where(link.c.person_id == f"person-{self.names[name]}")
        with self.stage.database.begin() as connection:
            return set(connection.execute(query).scalars())

    async def check(self) -> None:
        """Nobody is told a time after which something happened that the copy lacks."""
        for name, username in self.names.items():
            told = checked(self.stage, username)
            # What is not there at all answers nobody, until a pass finds it out.
            there = await self.one.couch.database_exists(self.stage.database_of(username))
            if told is None or not there:
                continue
            copies = await self.stage.copies(username)
            for client in self.scope(name):
                copied = copies.get(f"client:{client}", {}).get("mobile_no")
                history = self.numbers[client]
                place = [number for number, _ in history].index(copied) if copied else -1
                missed = [at for _, at in history[place + 1 :]]
                assert all(at > told for at in missed), (name, client, copied, told, history)


class _Midst:
    """A reporter that does something in the middle of a pass."""

    def __init__(self, history: _History, act: Any) -> None:
        self._history, self._act = history, act

    def update(self, done: int, total: int) -> None:
        if done and self._act:
            act, self._act = self._act, None
            # Of those that take no waiting.
            if act[0] != "lose":
                asyncio.get_running_loop().create_task(self._history.act(*act))
                self._history.one.hurry.set()


async def test_nobody_is_told_more_than_is_so_whatever_happens(stage: Stage) -> None:
    stage.set(ledger_batch=1)
    loop = asyncio.get_running_loop()
    numbers = iter(range(1000))

    async def play(one: Worker, steps: list[Any]) -> None:
        history = _History(stage, one, next(numbers))
        for what, argument in steps:
            await history.step(what, argument)
            await history.check()
        # And it is told again when all is well.
        for client in history.clients:
            well(stage, client)
        await one.run_changes()
        since = now(stage)
        await one.run_pass(Silent())
        await history.check()
        for name in history.names.values():
            told = checked(stage, name)
            assert told
            assert told >= since
        with stage.database.begin() as connection:
            for name in history.names.values():
                people.begin_deletion(connection, TESTER, name)
        await one.run_changes()

    async with stage.worker() as one:

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(_STEP, min_size=2, max_size=7))
        def check(steps: list[Any]) -> None:
            asyncio.run_coroutine_threadsafe(play(one, steps), loop).result()

        await asyncio.to_thread(check)
