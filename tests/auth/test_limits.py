"""The limits on signing in: each rule, several processes at once, and that nobody is locked out."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth_service import limits as module
from auth_service.limits import FAMILIAR_BURST, LONGEST_WAIT, Admission, Attempt, Limits, prefix_of
from passbook.errors import TooMany
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import familiar_place, sign_in_counter
from passbook.settings import Settings

HOME = "203.0.113.7"
ASHA = "person-asha"
WIDE = {"address_burst": 10_000, "address_rate": 1000.0, "everybody_rate": 10_000.0}


class Clock:
    """Time that passes when it is told to, for the database and for the process."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Door:
    """Limits, their database and their clock."""

    def __init__(self, url: str, clock: Clock, **rules: Any) -> None:
        self.database = ServiceDatabase(url)
        self.clock = clock
        self.limits = Limits(clock=clock, monotonic=clock.monotonic, **{**WIDE, **rules})

    def ask(
        self, name: str, address: str = HOME, principal: str | None = None, audience: Any = "passbook"
    ) -> Admission:
        attempt = Attempt.of(audience, name, address)
        return self.database.run(self.limits.admit, attempt, principal)

    def wrong(self, name: str, address: str = HOME, principal: str | None = None) -> int:
        """Seconds to wait; 0 for a guess that was looked at, and was wrong."""
        refusal = self.ask(name, address, principal).refusal
        return refusal.retry_after if refusal else 0

    def right(self, name: str, address: str = HOME, principal: str = ASHA) -> Admission:
        attempt = Attempt.of("passbook", name, address)
        admission = self.database.run(self.limits.admit, attempt, principal)
        if admission.refusal is None:
            self.database.run(self.limits.succeeded, attempt, admission, principal)
        return admission

    def recall(self, name: str, address: str = HOME) -> None:
        self.limits.recall(Attempt.of("passbook", name, address))

    def rows(self, table: sa.Table) -> Sequence[Any]:
        with self.database.begin() as connection:
            return connection.execute(sa.select(table)).all()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(service_url: str, clock: Clock) -> Iterator[Door]:
    one = Door(service_url, clock)
    yield one
    one.database.dispose()


@pytest.fixture
def narrow(service_url: str, clock: Clock) -> Iterator[Door]:
    """30 attempts at once from a place, 40 from everybody."""
    one = Door(service_url, clock, address_burst=30, address_rate=5.0, everybody_rate=20.0)
    yield one
    one.database.dispose()


def place(number: int) -> str:
    return f"198.{18 + number // 250}.{number % 250}.9"


# Places and names


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("::ffff:203.0.113.9", "203.0.113.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", "unknown"),
        ("testclient", "unknown"),
        ("203.0.113.7:80", "unknown"),
        ("1.2.3.4\0", "unknown"),
    ],
)
def test_a_place_is_a_prefix(address: str, prefix: str) -> None:
    assert prefix_of(address) == prefix


@given(st.text(max_size=60))
def test_every_address_is_at_some_place(address: str) -> None:
    assert prefix_of(address)


@given(st.text(max_size=30), st.sampled_from([str.upper, str.lower, str.title, "  {} ".format]))
def test_spellings_that_find_the_same_person_are_one_account(name: str, other: Any) -> None:
    spelt = other(name)
    if spelt.strip().lower() == name.strip().lower():
        assert Attempt.of("passbook", spelt, HOME) == Attempt.of("passbook", name, HOME)


def test_what_the_database_takes_for_one_letter_is_one_account(door: Door) -> None:
    """Else each spelling of a name that finds the same person would be five guesses more."""
    every = "SELECT chr(n), lower(chr(n)) FROM generate_series(1, 1114111) AS n WHERE n NOT BETWEEN 55296 AND 57343"
    with door.database.begin() as connection:
        pairs = connection.execute(sa.text(f"SELECT * FROM ({every}) AS p (c, l) WHERE c <> l")).all()
    assert len(pairs) > 1000
    for letter, lower in pairs:
        assert module.account_key("passbook", f"as{letter}a") == module.account_key("passbook", f"as{lower}a")


def test_audiences_have_accounts_of_their_own(door: Door) -> None:
    for _ in range(6):
        door.wrong("asha")
    assert door.wrong("ASHA ") == 1
    assert door.ask("asha", audience="passbook-admin").refusal is None
    assert Attempt.of("passbook", "Ａsha", HOME).account == Attempt.of("passbook", "asha", HOME).account


# An account at a place


def test_five_failures_are_free_then_waits_double_to_a_minute(door: Door, clock: Clock) -> None:
    assert [door.wrong("asha") for _ in range(5)] == [0] * 5
    waits = []
    for _ in range(9):
        waits.append(door.wrong("asha"))
        clock.advance(waits[-1] - 0.01)
        assert door.wrong("asha") == 1  # not a moment too early
        clock.advance(0.01)
        assert door.wrong("asha") == 0  # ends by itself
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_asking_again_during_a_wait_does_not_lengthen_it(door: Door, clock: Clock) -> None:
    for _ in range(5):
        door.wrong("asha")
    for _ in range(50):
        assert door.wrong("asha") == 1
    clock.advance(1)
    assert door.wrong("asha") == 0


def test_failures_are_forgotten(door: Door, clock: Clock) -> None:
    for _ in range(7):
        door.wrong("asha")
        clock.advance(2)
    clock.advance(15 * 60)
    assert [door.wrong("asha") for _ in range(3)] == [0, 0, 1]  # half of the seven count still
    clock.advance(2 * 60 * 60)
    assert [door.wrong("asha") for _ in range(6)] == [0] * 5 + [1]
    clock.advance(10 * 365 * 86_400)
    assert [door.wrong("asha") for _ in range(6)] == [0] * 5 + [1]


def test_a_success_clears_the_account_at_this_place(door: Door) -> None:
    for _ in range(4):
        door.wrong("asha")
    assert door.right("asha").refusal is None
    assert [door.wrong("asha") for _ in range(6)] == [0] * 5 + [1]


def test_an_attempt_nobody_looked_at_is_given_back(door: Door) -> None:
    attempt = Attempt.of("passbook", "asha", HOME)
    for _ in range(60):
        admission = door.database.run(door.limits.admit, attempt, None)
        assert admission.refusal is None
        door.database.run(door.limits.withdraw, attempt, admission)
    assert [door.wrong("asha") for _ in range(6)] == [0] * 5 + [1]


def test_a_wait_that_a_withdrawn_attempt_began_goes_with_it(door: Door) -> None:
    attempt = Attempt.of("passbook", "asha", HOME)
    for _ in range(4):
        door.wrong("asha")
    admission = door.database.run(door.limits.admit, attempt, None)
    assert door.wrong("asha") == 1
    door.database.run(door.limits.withdraw, attempt, admission)
    assert door.wrong("asha") == 0


# An account over all places


def test_an_account_is_guarded_over_all_places_together(door: Door, clock: Clock) -> None:
    places = count()
    assert [door.wrong("asha", place(next(places))) for _ in range(20)] == [0] * 20
    waits = []
    for _ in range(9):
        waits.append(door.wrong("asha", place(next(places))))
        clock.advance(waits[-1])
        assert door.wrong("asha", place(next(places))) == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_victim_signs_in_from_a_familiar_place(door: Door, narrow: Door, clock: Clock) -> None:
    door.right("asha")
    for number in range(60):
        narrow.wrong("asha", place(number), ASHA)
        narrow.wrong(f"nobody-{number}", HOME)
    assert narrow.ask("asha", place(99), ASHA).refusal is not None
    assert narrow.ask("baraka", HOME, "person-baraka").refusal is not None
    admission = narrow.right("asha")
    assert admission.refusal is None
    assert admission.familiar


def test_somebody_familiar_at_home_is_a_stranger_elsewhere_and_others_are_at_home(door: Door) -> None:
    door.right("asha")
    assert door.ask("asha", HOME, ASHA).familiar
    assert door.ask("asha", "203.0.113.200", ASHA).familiar
    assert not door.ask("asha", "203.0.114.7", ASHA).familiar
    assert not door.ask("baraka", HOME, "person-baraka").familiar
    assert not door.ask("asha", HOME, None).familiar


def test_a_familiar_place_feels_the_waits_of_its_own_guesses(door: Door) -> None:
    door.right("asha")
    assert [door.wrong("asha", HOME, ASHA) for _ in range(6)] == [0] * 5 + [1]


def test_with_the_right_password_too_nobody_signs_in_without_end(door: Door, clock: Clock) -> None:
    door.right("asha")
    let_in = [door.right("asha").refusal is None for _ in range(FAMILIAR_BURST + 1)]
    assert let_in == [True] * FAMILIAR_BURST + [False]
    refusal = door.ask("asha", HOME, ASHA).refusal
    assert refusal is not None
    assert (refusal.limit, refusal.retry_after) == ("account", 1)
    assert door.right("baraka", HOME, "person-baraka").refusal is None
    clock.advance(1)
    assert door.right("asha").familiar


def test_a_place_is_familiar_for_90_days_from_the_last_time(door: Door, clock: Clock) -> None:
    door.right("asha")
    clock.advance(89 * 86_400)
    assert door.right("asha").familiar
    clock.advance(89 * 86_400)
    assert door.ask("asha", HOME, ASHA).familiar
    clock.advance(86_401)
    assert not door.ask("asha", HOME, ASHA).familiar


def test_the_newest_twenty_places_are_kept(door: Door, clock: Clock) -> None:
    for number in range(25):
        door.right("asha", place(number))
        door.right("asha", place(0))
        clock.advance(60)
    assert len(door.rows(familiar_place)) == 20
    assert door.ask("asha", place(24), ASHA).familiar
    assert door.ask("asha", place(0), ASHA).familiar
    assert not door.ask("asha", place(1), ASHA).familiar


def test_nobody_is_familiar_where_the_address_cannot_be_read(door: Door) -> None:
    door.right("asha", "testclient")
    assert door.rows(familiar_place) == []
    assert not door.ask("asha", "testclient", ASHA).familiar


def test_a_name_that_nobody_has_is_treated_alike(door: Door, clock: Clock) -> None:
    """The same attempts, from the same places, at the same times: the same answers."""
    chance = random.Random(7)
    told = []
    for _ in range(300):
        clock.advance(chance.choice([0, 0, 0, 0.5, 3, 70]))
        address = place(chance.randrange(12))
        pair = []
        for name, principal in (("asha", ASHA), ("nobody", None)):
            admission = door.ask(name, address, principal)
            refusal = admission.refusal
            pair.append(
                (admission.familiar, refusal and (str(refusal), refusal.limit, refusal.retry_after, refusal.began))
            )
        assert pair[0] == pair[1]
        told.append(pair[0][1])
    assert any(told)
    assert not all(told)


# Places and everybody


def test_a_place_has_a_bucket_of_attempts(narrow: Door, clock: Clock) -> None:
    waits = [narrow.wrong(f"name-{number}") for number in range(31)]
    assert waits == [0] * 30 + [1]
    assert narrow.wrong("elsewhere", place(1)) == 0
    clock.advance(0.2)
    assert [narrow.wrong(f"next-{number}") for number in range(2)] == [0, 1]
    clock.advance(3600)
    assert [narrow.wrong(f"later-{number}") for number in range(31)] == [0] * 30 + [1]


def test_everybody_together_has_a_bucket(narrow: Door, clock: Clock) -> None:
    asked = [narrow.ask(f"name-{number}", place(number)).refusal for number in range(41)]
    assert asked[:40] == [None] * 40
    assert asked[40] is not None
    assert asked[40].limit == "everybody"
    clock.advance(0.05)
    assert [narrow.wrong(f"next-{number}", place(number)) for number in range(2)] == [0, 1]


def test_what_an_account_refuses_takes_nothing_from_the_others(narrow: Door) -> None:
    for _ in range(200):
        narrow.wrong("asha")
    assert narrow.wrong("baraka") == 0
    assert [narrow.wrong(f"name-{number}") for number in range(25)] == [0] * 24 + [1]


# Refusals


def test_a_refusal_says_which_limit_and_for_how_long_but_not_to_the_guesser(door: Door) -> None:
    for _ in range(5):
        door.wrong("asha")
    refusal = door.ask("asha").refusal
    assert isinstance(refusal, TooMany)
    assert (refusal.code, refusal.limit, refusal.retry_after) == ("too_many_requests", "account", 1)
    assert str(refusal) == "Too many attempts to sign in; try again in 1 second."


def test_refusals_are_told_once_a_minute(door: Door, clock: Clock) -> None:
    def began() -> bool:
        refusal = door.ask("asha").refusal
        assert refusal is not None
        return refusal.began

    for _ in range(5):
        door.wrong("asha")
    assert [began() for _ in range(5)] == [True] + [False] * 4
    clock.advance(1)
    door.wrong("asha")
    assert not began()
    for _ in range(7):
        clock.advance(60)
        door.wrong("asha")
    assert [began() for _ in range(3)] == [True, False, False]


def test_one_round_trip_and_a_repeated_refusal_writes_nothing(door: Door) -> None:
    statements: list[str] = []
    sa.event.listen(
        door.database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]), named=False
    )
    for _ in range(7):
        door.ask("asha")
    assert len(statements) == 7
    with door.database.begin() as connection:
        door.limits.admit(connection, Attempt.of("passbook", "asha", HOME), None)
        assert connection.execute(sa.text("SELECT pg_current_xact_id_if_assigned()")).scalar() is None


# At once


def test_guesses_in_parallel_gain_nothing(door: Door) -> None:
    assert len(_admitted(door, [("asha", HOME)] * 100)) == 5
    assert len(_admitted(door, [("baraka", place(number)) for number in range(100)])) == 20


def test_buckets_hold_in_parallel_and_nothing_is_counted_that_was_refused(narrow: Door) -> None:
    """Several buckets are full at the same moment: whoever one of them refuses is given back at the others."""
    # Two thirds from one place, which has room for 30; everybody has room for 40.
    admitted = _admitted(narrow, [(f"name-{n}", HOME if n % 3 else place(n)) for n in range(120)])
    assert len(admitted) == 40
    assert sum(address == HOME for _, address in admitted) <= 30
    attempts = [Attempt.of("passbook", *one) for one in admitted]
    counted = {row.bucket for row in narrow.rows(sign_in_counter) if row.level >= 0.5}
    accounts = {key for one in attempts for key in (one.account, one.pair)}
    assert accounts <= counted
    assert len(counted - accounts) <= 1 + len({one.place for one in attempts})


def _admitted(door: Door, attempts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    start = threading.Barrier(12)

    def some(mine: list[tuple[str, str]]) -> list[tuple[str, str]]:
        start.wait()
        return [one for one in mine if door.ask(*one).refusal is None]

    with ThreadPoolExecutor(12) as threads:
        found = threads.map(some, [attempts[number::12] for number in range(12)])
        return [one for mine in found for one in mine]


def test_several_processes_count_together(service_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        counts = pool.map(_guess, [service_url] * 3, chunksize=1)
    assert sum(counts) == 5


def _guess(url: str) -> int:
    door = Door(url, Clock())
    try:
        return sum(door.wrong("asha") == 0 for _ in range(40))
    finally:
        door.database.dispose()


def test_everything_at_once_blocks_nobody_for_good(service_url: str) -> None:
    """Attempts, successes, erasures and sweeps on the same rows: no deadlock, no error, nothing negative."""
    door = Door(service_url, Clock(), address_burst=20, everybody_rate=200.0)

    def busy(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            name = f"name-{chance.randrange(3)}"
            attempt = Attempt.of("passbook", name, place(chance.randrange(3)))
            admission = door.database.run(door.limits.admit, attempt, f"person-{name}")
            door.clock.advance(chance.choice([0, 0.3, 20]))
            action = chance.randrange(6)
            if admission.refusal is None and action < 3:
                door.database.run(door.limits.succeeded, attempt, admission, f"person-{name}")
            elif admission.refusal is None and action == 3:
                door.database.run(door.limits.withdraw, attempt, admission)
            elif action == 4:
                door.database.run(door.limits.forget, "passbook", name, f"person-{name}")
            elif action == 5:
                door.database.run(door.limits.sweep)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(busy, range(8)))
    assert all(row.level >= 0 for row in door.rows(sign_in_counter))
    door.database.dispose()


# Whatever happens


@pytest.fixture(scope="module")
def names() -> Iterator[int]:
    return count()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.0, 0.0, 0.4, 1.0, 7.0, 61.0, 1000.0]),
            st.integers(0, 3),
            st.sampled_from(["wrong"] * 6 + ["right", "withdrawn"]),
        ),
        max_size=60,
    )
)
def test_no_wait_of_an_account_exceeds_a_minute_and_silence_ends_it(
    steps: list[tuple[float, int, str]], door: Door, clock: Clock, names: Iterator[int]
) -> None:
    name = f"name-{next(names)}"
    for pause, where, outcome in steps:
        clock.advance(pause)
        attempt = Attempt.of("passbook", name, place(where))
        admission = door.database.run(door.limits.admit, attempt, name)
        if admission.refusal is not None:
            assert 1 <= admission.refusal.retry_after <= LONGEST_WAIT
        elif outcome == "right":
            door.database.run(door.limits.succeeded, attempt, admission, name)
        elif outcome == "withdrawn":
            door.database.run(door.limits.withdraw, attempt, admission)
    clock.advance(LONGEST_WAIT)
    assert door.wrong(name, place(0), name) == 0


# Memory


def test_a_process_remembers_a_full_place_while_the_wait_lasts(narrow: Door, clock: Clock) -> None:
    for number in range(31):
        narrow.wrong(f"name-{number}")
    with pytest.raises(TooMany) as refused:
        narrow.recall("name-3")  # found a stranger before
    assert (refused.value.limit, refused.value.retry_after, refused.value.began) == ("address", 1, False)
    narrow.recall("never-seen")  # may be somebody familiar: the database knows
    narrow.recall("name-3", place(5))
    clock.advance(0.2)
    narrow.recall("name-3")
    assert narrow.wrong("name-3") == 0


def test_a_process_remembers_that_everybody_must_wait(narrow: Door, clock: Clock) -> None:
    for number in range(41):
        narrow.wrong(f"name-{number}", place(number))
    with pytest.raises(TooMany) as refused:
        narrow.recall("name-7", place(7))
    assert refused.value.limit == "everybody"
    clock.advance(0.05)
    narrow.recall("name-7", place(7))


def test_memory_never_holds_up_somebody_familiar(narrow: Door) -> None:
    narrow.right("asha")
    for number in range(60):
        narrow.wrong(f"name-{number}")
        narrow.wrong("asha", place(number), ASHA)
    assert narrow.ask("asha", HOME, ASHA).familiar
    narrow.recall("asha")
    assert narrow.right("asha").refusal is None


def test_memory_asks_the_database_again_within_a_second(door: Door, clock: Clock) -> None:
    for _ in range(11):
        clock.advance(door.wrong("asha"))
    assert door.wrong("asha") > 1
    with pytest.raises(TooMany):
        door.recall("asha")
    clock.advance(1)
    door.recall("asha")


def test_memory_is_forgotten_by_a_success(door: Door) -> None:
    attempt = Attempt.of("passbook", "asha", HOME)
    admissions = [door.database.run(door.limits.admit, attempt, ASHA) for _ in range(6)]
    with pytest.raises(TooMany):
        door.limits.recall(attempt)
    door.database.run(door.limits.succeeded, attempt, admissions[4], ASHA)
    door.limits.recall(attempt)


def test_memory_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    for number in range(30):
        door.wrong(f"name-{number}", place(number))
    for _ in range(6):
        door.wrong("asha")
    assert len(door.limits._memory) == 10
    with pytest.raises(TooMany):
        door.recall("asha")


# Housekeeping


def test_what_makes_no_difference_is_swept(narrow: Door, clock: Clock) -> None:
    narrow.right("asha")
    for number in range(12):
        narrow.wrong("baraka", place(number % 2))
    narrow.wrong("once")
    assert narrow.database.run(narrow.limits.sweep) == 0
    before = {row.bucket for row in narrow.rows(sign_in_counter)}
    clock.advance(16 * 60)
    assert narrow.database.run(narrow.limits.sweep) > 0
    kept = {row.bucket for row in narrow.rows(sign_in_counter)}
    assert Attempt.of("passbook", "baraka", place(0)).account in kept < before
    assert Attempt.of("passbook", "once", HOME).account not in kept
    clock.advance(91 * 86_400)
    narrow.database.run(narrow.limits.sweep)
    assert narrow.rows(sign_in_counter) == narrow.rows(familiar_place) == []


def test_nothing_about_somebody_erased_remains(door: Door) -> None:
    door.right("asha")
    for number in range(30):
        door.wrong("asha", place(number % 3), ASHA)
    door.wrong("baraka")
    door.database.run(door.limits.forget, "passbook", "Asha", ASHA)
    account = Attempt.of("passbook", "asha", HOME).account
    assert not [row for row in door.rows(sign_in_counter) if row.bucket.startswith(account)]
    assert door.rows(familiar_place) == []
    assert Attempt.of("passbook", "baraka", HOME).account in {row.bucket for row in door.rows(sign_in_counter)}


def test_no_name_and_no_address_is_kept_in_clear(door: Door) -> None:
    door.right("asha")
    door.wrong("asha", place(3))
    kept = repr(door.rows(sign_in_counter)) + repr(door.rows(familiar_place))
    assert "asha" not in kept.replace(ASHA, "")
    assert "198.18" not in kept


def test_the_settings_and_the_clock_of_the_database_are_used(service_url: str) -> None:
    rules = {"PASSBOOK_SIGN_IN_ADDRESS_BURST": "2", "PASSBOOK_SIGN_IN_ADDRESS_PER_SECOND": "0.01"}
    limits = Limits.of(Settings.load(rules))
    database = ServiceDatabase(service_url)
    asked = [
        database.run(limits.admit, Attempt.of("passbook", f"name-{number}", HOME), None) for number in range(3)
    ]
    assert [one.refusal is None for one in asked] == [True, True, False]
    refusal = asked[2].refusal
    assert refusal is not None
    assert (refusal.limit, refusal.retry_after) == ("address", 100)
    with database.begin() as connection:
        row = connection.execute(sa.select(sa.func.max(sign_in_counter.c.updated_at), sa.func.now())).one()
    assert abs((row[1] - row[0]).total_seconds()) < 60
    database.dispose()
