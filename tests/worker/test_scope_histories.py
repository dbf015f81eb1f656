"""Whatever administrators do, and whenever: passes over changes of scope end where a full pass would."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth_service import granting, people
from auth_service.scopes import Window
from passbook.scope import PERMISSIONS
from sync_worker.cycle import Worker
from tests.support.actors import TESTER
from tests.support.stage import SETTLED_WITHIN, Stage
from tests.worker.changing import sums

_WINDOWS = (Window(), Window(since=date(2026, 2, 15)), Window(since=date(2026, 6, 1)), Window(months=3))

_ACT = st.tuples(
    st.sampled_from(("agent", "colleague")),
    st.one_of(
        st.tuples(st.just("link"), st.integers(0, 4)),
        st.tuples(st.just("unlink"), st.integers(0, 4)),
        st.tuples(st.just("grant"), st.sampled_from(PERMISSIONS)),
        st.tuples(st.just("deny"), st.sampled_from(PERMISSIONS)),
        st.tuples(st.just("window"), st.integers(0, len(_WINDOWS) - 1)),
    ),
)
_ACTS = st.lists(_ACT, min_size=1, max_size=4)

#: Acts, then a pass over changes (None), or a full pass in whose midst (after so many clients) others happen.
_STEPS = st.lists(st.tuples(_ACTS, st.none() | st.tuples(st.integers(0, 5), _ACTS)), min_size=1, max_size=4)


class _Midst:
    """A reporter that acts when so many clients are done."""

    def __init__(self, after: int, act: Any) -> None:
        self._after = after
        self._act = act

    def update(self, done: int, total: int) -> None:
        if done >= min(self._after, total) and self._act:
            act, self._act = self._act, None
            act()


async def test_T02_changes_carried_out_at_any_time_end_in_what_a_full_pass_makes(stage: Stage) -> None:
    stage.set(ledger_batch=1)
    pool = sorted(stage.institution.agent_clients[:5])
    counter = iter(range(1000))

    def act(name: str, operation: str, argument: Any) -> None:
        with stage.database.begin() as connection:
            if operation == "link":
                granting.link(connection, TESTER, name, [pool[argument]])
            elif operation == "unlink" and pool[argument] in people.show(connection, name).clients:
                granting.unlink(connection, TESTER, name, [pool[argument]])
            elif operation in ("grant", "deny"):
                granting.permit(connection, TESTER, name, **{operation: [argument]})
            elif operation == "window":
                granting.permit(connection, TESTER, name, window=_WINDOWS[argument])

    async def settled(one: Worker, names: dict[str, str]) -> None:
        while await one.run_changes():
            pass
        await one.withdrawals.settle(SETTLED_WITHIN)
        for name in names.values():
            report = await one.verifier().verify(_Midst(0, None), only=f"person-{name}")
            assert report.findings == []
            added, removed = sums(stage, name)
            assert added - removed == len(await stage.copies(name))

    async def play(one: Worker, history: list[Any]) -> None:
        number = next(counter)
        names = {name: f"{name}{number}" for name in ("agent", "colleague")}
        for name in names.values():
            stage.add(name, pool[:2])
        for acts, midst in history:
            for who, what in acts:
                act(names[who], *what)
            if midst:
                after, others = midst

                def meanwhile(others: Any = others) -> None:
                    for who, what in others:
                        act(names[who], *what)
                    one.hurry.set()

                await one.run_pass(_Midst(after, meanwhile))
            await settled(one, names)
        with stage.database.begin() as connection:
            for name in names.values():
                people.begin_deletion(connection, TESTER, name)

    loop = asyncio.get_running_loop()
    async with stage.worker() as one:

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
        @given(_STEPS)
        def check(history: list[Any]) -> None:
            asyncio.run_coroutine_threadsafe(play(one, history), loop).result()

        await asyncio.to_thread(check)
