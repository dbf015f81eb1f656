"""Whether somebody exists: neither the answer, nor its time, nor the work behind it, nor the waits tell."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import argon2
import pytest
from sqlalchemy import event, insert, update

from auth_service import passwords
from auth_service.limits import Limits
from passbook.credentials import new_id
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from tests.auth.test_signing_in import basic
from tests.support.api import HASH, Answer, Api, serving

TRIALS = 200
#: The chance of calling two samples of the same kind different, and of doing so twice in a row its square.
LEVEL = 0.01

PEOPLE_S = "POST /oauth/token"
ADMINISTRATORS_S = "POST /admin/oauth/token"
BASIC = "POST /authentication"
ROUTES = (PEOPLE_S, ADMINISTRATORS_S, BASIC)


@dataclass(frozen=True)
class Names:
    """Names that somebody has, and names of the same length that nobody has."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]


def populated(database: ServiceDatabase) -> Names:
    """People and administrators with the same names, all with the same hash of a password."""
    known = tuple(f"known-{number:04}" for number in range(TRIALS))
    with database.begin() as connection:
        connection.execute(
            insert(tables.person),
            [
                {
                    "id": new_id("person"),
                    "username": name,
                    "kind": "customer",
                    "password_hash": HASH,
                    "must_change_password": False,
                    "permissions": [],
                    "database_name": new_id("passbook"),
                }
                for name in known
            ],
        )
        connection.execute(
            insert(tables.administrator),
            [
                {"id": new_id("administrator"), "username": name, "role": "support", "password_hash": HASH}
                for name in known
            ],
        )
    return Names(known, tuple(f"other-{number:04}" for number in range(TRIALS)))


@pytest.fixture
async def wide(service_url: str) -> AsyncIterator[Api]:
    """A service that slows nobody: its limits are not what is tested, and every trial is another account."""
    never = {
        "PASSBOOK_SIGN_IN_ADDRESS_BURST": "1000000",
        "PASSBOOK_SIGN_IN_ADDRESS_PER_SECOND": "1000000",
        "PASSBOOK_SIGN_IN_PER_SECOND": "1000000",
    }
    async with serving(service_url, never) as api:
        yield api


async def tried(api: Api, route: str, name: str) -> Answer:
    """The answer to a wrong password."""
    if route == BASIC:
        return await api.call("POST", "/authentication", headers=basic(name, "not the password"))
    return await api.sign_in(name, "not the password", administrator=route == ADMINISTRATORS_S)


def bare(answer: Answer) -> tuple[Any, ...]:
    """Everything of an answer that could tell something: all but the date and the request's id."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    request_id = headers.pop("x-request-id")
    headers.pop("date", None)
    body = dict(answer.body)
    assert body.pop("request_id") == request_id
    # Ids are of one length, so the length is left among the headers.
    return answer.status, tuple(sorted(headers.items())), tuple(sorted((k, str(v)) for k, v in body.items()))


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> float:
    """p of the two-sided Mann-Whitney U test: normal approximation, with corrections for ties and continuity."""
    n, m = len(one), len(other)
    ordered = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks, ties, at = 0.0, 0.0, 0
    while at < len(ordered):
        end = at
        while end < len(ordered) and ordered[end][0] == ordered[at][0]:
            end += 1
        ranks += (at + 1 + end) / 2 * sum(1 for _, which in ordered[at:end] if which == 0)
        ties += (end - at) ** 3 - (end - at)
        at = end
    u = ranks - n * (n + 1) / 2
    spread = math.sqrt(n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1))))
    z = max(0.0, abs(u - n * m / 2) - 0.5) / spread
    return math.erfc(z / math.sqrt(2))


def test_T17_the_statistics_tell_what_they_should() -> None:
    # By hand: U = 0 of 25; then U = 5 of 25 with ties of 2, 4 and 3, z = 7 / 4.564.
    assert mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(0.01219, abs=1e-4)
    assert mann_whitney([1, 1, 2, 2, 3], [2, 2, 3, 3, 4]) == pytest.approx(0.1251, abs=1e-4)
    assert mann_whitney([1, 2, 3], [1, 2, 3]) == 1
    # A millisecond of difference among 25 with a spread of 3 is found; none is not.
    noise = [3 * math.sin(7.1 * number) + number % 5 for number in range(400)]
    alike, apart = [25 + one for one in noise[:200]], [26.5 + one for one in noise[200:]]
    assert mann_whitney(alike, apart) < LEVEL
    assert mann_whitney([25 + one for one in noise[::2]], [25 + one for one in noise[1::2]]) > LEVEL


async def measured(
    names: Names, attempt: Callable[[str], Awaitable[Answer]]
) -> tuple[list[float], list[float], set[Any]]:
    """Times for known and unknown names, a pair at a time, each first every other time: noise hits both alike."""
    times: dict[bool, list[float]] = {True: [], False: []}
    seen = set()
    for number, (known, unknown) in enumerate(zip(names.known, names.unknown, strict=True)):
        pair = [(True, known), (False, unknown)]
        for somebody, name in pair if number % 2 else reversed(pair):
            began = time.perf_counter()
            answer = await attempt(name)
            times[somebody].append(time.perf_counter() - began)
            seen.add(bare(answer))
    return times[True], times[False], seen


@pytest.mark.parametrize("route", ROUTES)
async def test_T17_a_name_that_nobody_has_looks_and_takes_as_long_as_a_wrong_password(
    wide: Api, database: ServiceDatabase, route: str
) -> None:
    names = populated(database)
    for name in (names.known[0], names.unknown[0]):
        await tried(wide, route, name)  # the first of all pays for connections
    # On a machine that does other things too one run in a hundred fails by the test's own level; a difference that
    # is there shows in both.
    for again in (True, False):
        known, unknown, seen = await measured(names, lambda name: tried(wide, route, name))
        assert len(seen) == 1, seen
        (status, _, _) = seen.pop()
        assert status == (401 if route == BASIC else 400)
        p = mann_whitney(known, unknown)
        medians = [1000 * statistics.median(times) for times in (known, unknown)]
        print(f"{route}: {TRIALS} each, medians {medians[0]:.2f} and {medians[1]:.2f} ms, p = {p:.3f}")
        if p > LEVEL:
            break
        # As an hour later: what was counted must not make the second run another one.
        with database.begin() as connection:
            connection.execute(tables.sign_in_counter.delete())
        assert again, (p, medians)


@contextmanager
def counted(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, Any]]]:
    """What work is done: the statements, in their order, and how often a hash is computed or compared."""
    assert api.service is not None
    engine = api.service.database.engine
    statements: list[str] = []
    hashes: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    hasher = passwords._HASHER

    class Counting:
        def verify(self, hashed: str, password: Any) -> bool:
            parameters = argon2.extract_parameters(hashed)  # raises for what is no hash: nothing is computed
            hashes.append(f"{parameters.type} {parameters.memory_cost} {parameters.time_cost}")
            return hasher.verify(hashed, password)

        def __getattr__(self, name: str) -> Any:
            return getattr(hasher, name)

    def taken() -> dict[str, Any]:
        found = {"statements": list(statements), "hashes": list(hashes)}
        statements.clear()
        hashes.clear()
        return found

    event.listen(engine, "before_cursor_execute", note)
    with monkeypatch.context() as patch:
        patch.setattr(passwords, "_HASHER", Counting())
        yield taken
    event.remove(engine, "before_cursor_execute", note)


#: Whom a wrong password may be meant for; what is done must be the same for all.
KINDS = ("active", "suspended", "must change", "without a password", "being erased", "nobody")


@pytest.mark.parametrize("route", ROUTES)
async def test_T17_the_work_is_the_same_whoever_it_is(
    wide: Api, database: ServiceDatabase, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    names = populated(database)
    table = tables.administrator if route == ADMINISTRATORS_S else tables.person
    who = dict(zip(KINDS, (*names.known[:5], names.unknown[0]), strict=True))
    changes: dict[str, dict[str, Any]] = {
        "suspended": {"state": "suspended"},
        "must change": {"must_change_password": True},
        "without a password": {"password_hash": "-"},
        "being erased": {"state": "deleting", "password_hash": "-"},
    }
    if route == ADMINISTRATORS_S:
        del changes["being erased"]  # only people are
    with database.begin() as connection:
        for kind, values in changes.items():
            connection.execute(update(table).where(table.c.username == who[kind]).values(**values))
    with counted(wide, monkeypatch) as taken:
        await tried(wide, route, names.unknown[-1])
        taken()
        done, answers = {}, {}
        for kind, name in who.items():
            answers[kind] = bare(await tried(wide, route, name))
            done[kind] = taken()
    assert set(answers.values()) == {answers["nobody"]}
    for kind, work in done.items():
        # With the same parameters, so of the same cost. What is no hash is compared like a name that nobody has.
        assert work["hashes"] == done["nobody"]["hashes"], kind
        assert Counter(work["statements"]) == Counter(done["nobody"]["statements"]), kind
        assert work["statements"] == done["nobody"]["statements"], kind
    assert done["nobody"]["hashes"] == ["Type.ID 19456 2"]
    assert len(done["nobody"]["statements"]) >= 3


async def test_T17_the_waits_are_the_same_for_a_name_that_nobody_has(api: Api, database: ServiceDatabase) -> None:
    """Forty guesses each, each as soon as it is let: the same answers and the same waits, to the second."""
    names = populated(database)
    at = datetime.now(UTC)
    passed = [timedelta(0)]
    assert api.service is not None
    # A clock that stands still but for the waits.
    limits = Limits(clock=lambda: at + passed[0], monotonic=lambda: passed[0].total_seconds())
    api.service.sign_in._limits = limits
    for route in ROUTES:
        waits: dict[str, list[Any]] = {}
        for name in (names.known[ROUTES.index(route)], names.unknown[ROUTES.index(route)]):
            passed[0] += timedelta(hours=12)
            told = waits[name] = []
            for _ in range(40):
                answer = await tried(api, route, name)
                told.append((bare(answer), answer.headers.get("Retry-After")))
                if answer.status == 429:
                    assert int(answer.headers["Retry-After"]) == answer["detail"]["retry_after"]
                    passed[0] += timedelta(seconds=int(answer.headers["Retry-After"]))
        known, unknown = waits.values()
        assert known == unknown
        slowed = [int(wait) for _, wait in known if wait is not None]
        assert slowed == sorted(slowed)
        assert slowed[:3] == [1, 2, 4]
        assert slowed[-1] == 60


async def test_T17_many_at_once_are_told_the_same(api: Api, database: ServiceDatabase) -> None:
    """Guesses at the same moment: as many are let through for a known as for an unknown name."""
    names = populated(database)
    told = []
    for name in (names.known[0], names.unknown[0]):
        answers = await asyncio.gather(*(tried(api, PEOPLE_S, name) for _ in range(12)))
        told.append(Counter((answer.status, answer.code) for answer in answers))
    assert told[0] == told[1]
    assert told[0][(429, "too_many_requests")] == 7


async def test_T17_a_right_password_is_the_only_difference(wide: Api, database: ServiceDatabase) -> None:
    """That somebody is suspended, or everybody switched off, is for those alone who know the password."""
    names = populated(database)
    with database.begin() as connection:
        connection.execute(update(tables.person).values(state="suspended"))
        connection.execute(update(tables.tenant).values(open=False))
    wrong = {bare(await tried(wide, PEOPLE_S, name)) for name in (names.known[0], names.unknown[0])}
    assert len(wrong) == 1
    right = await wide.sign_in(names.known[0])
    assert (right.status, right.code) == (400, "suspended")


async def test_T17_other_routes_do_not_tell_either(wide: Api, database: ServiceDatabase) -> None:
    """What a stranger may ask without a password: the answers do not depend on who there is."""
    populated(database)
    for known, unknown in (("known-0001", "other-0001"), ("known-0001", "")):
        for method, path in (
            ("GET", "/me"),
            ("GET", "/devices/{}"),
            ("GET", "/admin/people/{}"),
            ("POST", "/register"),
        ):
            seen = {bare(await wide.call(method, path.format(name))) for name in (known, unknown or "x")}
            assert len(seen) == 1
