"""T02: whatever happens to links and permissions, a database holds exactly what the person may see."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth_service import granting, people
from passbook.scope import PERMISSIONS, Scope, scope_of
from tests.support.actors import TESTER
from tests.support.stage import Stage

TODAY = date(2026, 6, 30)

#: Which permissions a document needs, told again from its id alone: independent of `passbook.scope`.
RULES = [
    (r"client:\d+", {"profile"}),
    (r"client:\d+:image", {"image"}),
    (r"client:\d+:charges", {"charges"}),
    (r"client:\d+:transactions:\d{4}", {"transactions"}),
    (r"loan:\d+", {"loans"}),
    (r"loan:\d+:schedule", {"loans", "schedules"}),
    (r"loan:\d+:charges", {"loans", "charges"}),
    (r"loan:\d+:transactions:\d{4}", {"loans", "transactions"}),
    (r"savings:\d+", {"savings"}),
    (r"savings:\d+:charges", {"savings", "charges"}),
    (r"savings:\d+:transactions:\d{4}-\d{2}", {"savings", "transactions"}),
]


def _may(document: dict[str, Any], clients: set[int], permissions: set[str]) -> bool:
    needed = next(needed for pattern, needed in RULES if re.fullmatch(pattern, document["_id"]))
    return document["client_id"] in clients and needed <= permissions


def _scope(**changes: Any) -> Scope:
    given_ = {
        "state": "active",
        "clients": [1, 2],
        "permissions": PERMISSIONS,
        "history_from": None,
        "history_months": None,
        "today": TODAY,
    }
    return scope_of(**{**given_, **changes})


def test_nothing_for_a_state_that_is_not_known() -> None:
    for state in ("deleting", "", "ACTIVE", "new"):
        scope = _scope(state=state)
        assert not scope.clients
        assert not scope.types
        assert not scope.allows(1, "client")


def test_a_permission_that_is_not_known_counts_for_nothing() -> None:
    assert _scope(permissions=["everything", "profile"]).types == {"client"}


def test_details_of_an_account_need_the_account() -> None:
    assert _scope(permissions=["schedules", "charges", "transactions"]).types == {
        "client_charges",
        "client_transactions",
    }


def test_a_document_type_that_is_not_known_is_not_allowed() -> None:
    assert not _scope().allows(1, "secret_file")
    assert not _scope().allows(3, "client")


@pytest.mark.parametrize(
    ("months", "since"),
    [(1, date(2026, 5, 1)), (6, date(2025, 12, 1)), (18, date(2024, 12, 1)), (100_000, date.min)],
)
def test_a_rolling_window_moves_once_a_month(months: int, since: date) -> None:
    assert _scope(history_months=months).since == since
    assert _scope(history_months=months, today=date(2026, 6, 1)).since == since


def test_of_two_windows_the_shorter_counts() -> None:
    assert _scope(history_months=6, history_from=date(2026, 2, 3)).since == date(2026, 2, 3)
    assert _scope(history_months=6, history_from=date(2020, 2, 3)).since == date(2025, 12, 1)


_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("link"), st.integers(0, 4)),
        st.tuples(st.just("unlink"), st.integers(0, 4)),
        st.tuples(st.just("grant"), st.sampled_from(PERMISSIONS)),
        st.tuples(st.just("deny"), st.sampled_from(PERMISSIONS)),
        st.tuples(st.just("suspend"), st.none()),
        st.tuples(st.just("pass"), st.none()),
    ),
    min_size=3,
    max_size=12,
)


async def test_T02_a_database_holds_exactly_what_its_person_may_see(stage: Stage) -> None:
    pool = list(stage.institution.agent_clients[:5])
    stage.add("everything", pool)
    await stage.run()
    everything = list((await stage.copies("everything")).values())
    counter = iter(range(1000))

    async def play(history: list[tuple[str, Any]]) -> None:
        name = f"agent{next(counter)}"
        clients, permissions = {pool[0]}, set(PERMISSIONS)
        stage.add(name, clients)
        for operation, argument in [*history, ("pass", None)]:
            with stage.database.begin() as connection:
                if operation == "link":
                    granting.link(connection, TESTER, name, [pool[argument]])
                    clients.add(pool[argument])
                elif operation == "unlink" and pool[argument] in clients:
                    granting.unlink(connection, TESTER, name, [pool[argument]])
                    clients.remove(pool[argument])
                elif operation in ("grant", "deny"):
                    granting.permit(connection, TESTER, name, **{operation: [argument]})
                    (permissions.add if operation == "grant" else permissions.discard)(argument)
                elif operation == "suspend":
                    people.suspend(connection, TESTER, name)
                    people.restore(connection, TESTER, name)
            if operation != "pass":
                continue
            await stage.run()
            found = set(await stage.copies(name)) - {"~passbook"}
            wanted = {
                one["_id"] for one in everything if one["_id"] != "~passbook" and _may(one, clients, permissions)
            }
            assert found == wanted
        assert (await stage.verify(only=f"person-{name}")).ok
        with stage.database.begin() as connection:
            people.begin_deletion(connection, TESTER, name)

    import asyncio

    loop = asyncio.get_running_loop()

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_OPERATIONS)
    def check(history: list[tuple[str, Any]]) -> None:
        asyncio.run_coroutine_threadsafe(play(history), loop).result()

    await asyncio.to_thread(check)
