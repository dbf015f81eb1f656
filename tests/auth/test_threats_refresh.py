"""Refresh tokens: good once, again for an answer that got lost and that nobody used, and worthless to a thief."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update

from auth_service import sessions
from auth_service.sessions import Ended, Opened, Principal, Terms
from passbook.credentials import secret_digest
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from tests.support.actors import TESTER
from tests.support.api import Answer, Api, Crowd

GRACE, LOST = timedelta(seconds=30), timedelta(days=7)
DOORS = pytest.mark.parametrize("administrator", [False, True], ids=["people", "administrators"])


class Clock:
    """Lets time pass by moving what is in the database into the past."""

    def __init__(self, database: ServiceDatabase) -> None:
        self._database = database

    def forward(self, by: timedelta, *, session: str | None = None) -> None:
        """For everybody, or for one session alone."""
        for table, key in ((tables.session, "id"), (tables.refresh_token, "session_id")):
            moments = [column for column in table.c if column.name.endswith("_at")]
            moved = {column.name: column - by for column in moments}
            statement = update(table).values(moved)
            if session is not None:
                statement = statement.where(table.c[key] == session)
            with self._database.begin() as connection:
                connection.execute(statement)


@pytest.fixture
def clock(database: ServiceDatabase) -> Clock:
    return Clock(database)


@dataclass
class Somebody:
    """Somebody who signs in at their door."""

    api: Api
    name: str
    administrator: bool

    @property
    def home(self) -> str:
        return "/admin/me" if self.administrator else "/me"

    async def sign_in(self) -> Answer:
        answer = await self.api.sign_in(self.name, administrator=self.administrator)
        assert answer.status == 200
        return answer

    async def refresh(self, answer: Answer) -> Answer:
        return await self.api.refresh(answer["refresh_token"], administrator=self.administrator)

    async def is_in(self, answer: Answer) -> bool:
        """Whether the access token opens the door."""
        me = await self.api.call("GET", self.home, token=answer["access_token"])
        assert me.status == 200 or (me.status, me.code) == (401, "session_ended")
        return me.status == 200


@pytest.fixture
def somebody(api: Api, crowd: Crowd, administrator: bool) -> Somebody:
    crowd.administrator("olga", "owner")
    crowd.person("amina")
    return Somebody(api, "olga" if administrator else "amina", administrator)


def ended(answer: Answer) -> bool:
    if answer.status == 200:
        return False
    assert (answer.status, answer.code, answer["error"]) == (400, "session_ended", "invalid_grant")
    return True


def recorded(database: ServiceDatabase, event: str) -> list[Any]:
    with database.begin() as connection:
        query = select(tables.audit_event).where(tables.audit_event.c.event == event)
        return list(connection.execute(query.order_by(tables.audit_event.c.id)))


@DOORS
async def test_T21_every_exchange_gives_another_token(somebody: Somebody, clock: Clock) -> None:
    answers = [await somebody.sign_in()]
    for _ in range(10):
        answers.append(await somebody.refresh(answers[-1]))
        assert not ended(answers[-1])
        clock.forward(timedelta(hours=1))
    assert len({answer["refresh_token"] for answer in answers}) == 11
    assert len({answer["access_token"] for answer in answers}) == 11
    for answer in answers:
        assert await somebody.is_in(answer)


@DOORS
async def test_T21_a_repeated_request_gets_tokens_within_the_grace(somebody: Somebody, clock: Clock) -> None:
    first = await somebody.sign_in()
    lost = await somebody.refresh(first)
    clock.forward(GRACE - timedelta(seconds=10))
    again = await somebody.refresh(first)
    assert not ended(again)
    assert again["refresh_token"] != lost["refresh_token"]
    after = await somebody.refresh(again)
    assert not ended(after)
    assert await somebody.is_in(after)


@DOORS
async def test_T21_the_same_request_many_times_at_once_is_one_client(somebody: Somebody) -> None:
    first = await somebody.sign_in()
    answers = await asyncio.gather(*(somebody.refresh(first) for _ in range(8)))
    assert not any(ended(answer) for answer in answers)
    assert len({answer["refresh_token"] for answer in answers}) == 8
    assert not ended(await somebody.refresh(answers[3]))


async def test_T21_an_answer_that_got_lost_can_be_had_for_days(
    api: Api, crowd: Crowd, clock: Clock, database: ServiceDatabase
) -> None:
    """The phone asked, and was out of reach of any network before the answer came."""
    crowd.person("amina")
    somebody = Somebody(api, "amina", False)
    first = await somebody.sign_in()
    for _ in range(3):
        assert not ended(await somebody.refresh(first))
        clock.forward(timedelta(days=2, hours=7))
    second = await somebody.refresh(first)
    assert not ended(second)
    clock.forward(timedelta(hours=1))
    third = await somebody.refresh(second)
    assert not ended(third)
    # Not for ever: this answer got lost too, and a week is over.
    clock.forward(LOST + timedelta(seconds=1))
    late = await somebody.refresh(second)
    assert ended(late)
    assert late["because"] == "token_reused"
    assert len(recorded(database, "RefreshTokenReused")) == 1


async def test_T21_the_bound_for_a_lost_answer_is_from_the_first_time(api: Api, crowd: Crowd, clock: Clock) -> None:
    crowd.person("amina")
    somebody = Somebody(api, "amina", False)
    first = await somebody.sign_in()
    for _ in range(4):
        assert not ended(await somebody.refresh(first))
        clock.forward(LOST / 4 + timedelta(seconds=1))
    assert ended(await somebody.refresh(first))


async def test_T21_a_token_whose_answer_arrived_is_worth_nothing_after_the_grace(
    api: Api, crowd: Crowd, clock: Clock, database: ServiceDatabase
) -> None:
    """A refresh is followed by a request with the new access token: from then on the old token is a stolen one."""
    crowd.person("amina")
    somebody = Somebody(api, "amina", False)
    first = await somebody.sign_in()
    second = await somebody.refresh(first)
    assert await somebody.is_in(second)
    # Two parts of an app that refresh at the same moment are one client still.
    assert not ended(await somebody.refresh(first))
    clock.forward(GRACE + timedelta(seconds=1))
    assert ended(await somebody.refresh(first))
    assert not await somebody.is_in(second)
    assert ended(await somebody.refresh(second))
    assert len(recorded(database, "RefreshTokenReused")) == 1


async def test_T21_the_answer_counts_as_arrived_however_its_first_request_ended(
    api: Api, crowd: Crowd, clock: Clock
) -> None:
    crowd.person("amina", must_change=True)
    somebody = Somebody(api, "amina", False)
    first = await somebody.sign_in()
    second = await somebody.refresh(first)
    refused = await api.call("GET", "/devices", token=second["access_token"])
    assert (refused.status, refused.code) == (403, "password_change_required")
    clock.forward(GRACE + timedelta(seconds=1))
    assert ended(await somebody.refresh(first))


async def test_T21_an_administrators_answer_can_be_had_within_the_grace_alone(
    api: Api, crowd: Crowd, clock: Clock
) -> None:
    crowd.administrator("olga", "owner")
    somebody = Somebody(api, "olga", True)
    first = await somebody.sign_in()
    assert not ended(await somebody.refresh(first))
    clock.forward(GRACE + timedelta(seconds=1))
    assert ended(await somebody.refresh(first))


async def test_T21_of_tokens_from_before_an_upgrade_nobody_knows_whether_their_answer_arrived(
    api: Api, crowd: Crowd, clock: Clock, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    somebody = Somebody(api, "amina", False)
    first = await somebody.sign_in()
    await somebody.refresh(first)
    with database.begin() as connection:
        connection.execute(update(tables.refresh_token).values(access_id=None))
    clock.forward(GRACE + timedelta(seconds=1))
    assert ended(await somebody.refresh(first))


@DOORS
async def test_T21_reuse_after_the_grace_ends_the_family_and_no_other(
    somebody: Somebody, clock: Clock, database: ServiceDatabase
) -> None:
    elsewhere = await somebody.sign_in()
    family = [await somebody.sign_in()]
    for _ in range(3):
        family.append(await somebody.refresh(family[-1]))
    clock.forward(GRACE + timedelta(seconds=1))
    assert ended(await somebody.refresh(family[0]))
    for answer in family:
        assert ended(await somebody.refresh(answer))
        assert not await somebody.is_in(answer)
    assert await somebody.is_in(elsewhere)
    assert not ended(await somebody.refresh(elsewhere))
    (event,) = recorded(database, "RefreshTokenReused")
    assert event.person is None if somebody.administrator else event.person.startswith("person-")
    assert "administrator-" in event.detail or not somebody.administrator


@DOORS
async def test_T21_reuse_within_the_grace_ends_the_family_once_the_answer_arrived(
    somebody: Somebody, database: ServiceDatabase
) -> None:
    first = await somebody.sign_in()
    second = await somebody.refresh(first)
    third = await somebody.refresh(second)
    assert ended(await somebody.refresh(first))
    for answer in (first, second, third):
        assert ended(await somebody.refresh(answer))
        assert not await somebody.is_in(answer)
    assert len(recorded(database, "RefreshTokenReused")) == 1


@DOORS
async def test_T21_the_token_of_a_lost_answer_is_worth_nothing_once_its_sibling_was_used(
    somebody: Somebody, database: ServiceDatabase
) -> None:
    first = await somebody.sign_in()
    lost = await somebody.refresh(first)
    again = await somebody.refresh(first)
    after = await somebody.refresh(again)
    assert not ended(after)
    # At once, well within the grace: two who go on from the same token are not one client.
    assert ended(await somebody.refresh(lost))
    assert ended(await somebody.refresh(after))
    assert len(recorded(database, "RefreshTokenReused")) == 1


@DOORS
async def test_T21_the_token_of_a_lost_answer_may_be_the_one_that_goes_on(somebody: Somebody) -> None:
    """The first answer was only late: whichever of the two is used first is the client's."""
    first = await somebody.sign_in()
    late = await somebody.refresh(first)
    again = await somebody.refresh(first)
    after = await somebody.refresh(late)
    assert not ended(after)
    assert ended(await somebody.refresh(again))


@DOORS
async def test_T21_a_chain_whose_every_answer_is_lost_once(somebody: Somebody, clock: Clock) -> None:
    answer = await somebody.sign_in()
    for _ in range(10):
        assert not ended(await somebody.refresh(answer))
        clock.forward(GRACE / 2)
        answer = await somebody.refresh(answer)
        assert not ended(answer)
        clock.forward(timedelta(minutes=20))
    assert await somebody.is_in(answer)


async def test_T21_a_session_not_used_for_long_ends(api: Api, crowd: Crowd, clock: Clock) -> None:
    crowd.person("amina")
    somebody = Somebody(api, "amina", False)
    assert api.service is not None
    terms = api.service.session_terms(administrators=False)
    answer = await somebody.sign_in()
    for _ in range(3):
        clock.forward(terms.idle - timedelta(minutes=1))
        answer = await somebody.refresh(answer)
        assert not ended(answer)
    clock.forward(terms.idle + timedelta(minutes=1))
    assert ended(await somebody.refresh(answer))


@DOORS
async def test_T21_a_session_ends_however_often_it_is_used(somebody: Somebody, clock: Clock) -> None:
    assert somebody.api.service is not None
    terms = somebody.api.service.session_terms(administrators=somebody.administrator)
    answer = await somebody.sign_in()
    steps = 14
    for _ in range(steps - 1):
        clock.forward(terms.longest / steps)
        answer = await somebody.refresh(answer)
        assert not ended(answer)
    assert await somebody.is_in(answer)
    clock.forward(terms.longest / steps)
    assert ended(await somebody.refresh(answer))
    # The access token that was given a moment before goes with it.
    assert not await somebody.is_in(answer)


async def test_T21_the_end_of_a_session_is_not_moved_by_a_refresh(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.administrator("olga", "owner")
    somebody = Somebody(api, "olga", True)
    answer = await somebody.sign_in()
    ends = select(tables.session.c.expires_at - tables.session.c.created_at)
    with database.begin() as connection:
        before = connection.execute(ends).scalar_one()
    await somebody.refresh(answer)
    with database.begin() as connection:
        assert connection.execute(ends).scalar_one() == before == timedelta(hours=12)


@DOORS
async def test_T21_the_other_door_neither_takes_nor_spends_a_token(
    somebody: Somebody, clock: Clock, database: ServiceDatabase
) -> None:
    answer = await somebody.sign_in()
    other = not somebody.administrator
    for _ in range(2):
        assert ended(await somebody.api.refresh(answer["refresh_token"], administrator=other))
        clock.forward(GRACE * 2)
    path = "/admin/oauth/revoke" if other else "/oauth/revoke"
    signed_out = await somebody.api.call("POST", path, form={"token": answer["refresh_token"]})
    assert signed_out.status == 200
    assert await somebody.is_in(answer)
    assert not ended(await somebody.refresh(answer))
    assert recorded(database, "RefreshTokenReused") == []
    assert recorded(database, "SessionEnded") == []


@DOORS
async def test_T21_what_is_no_refresh_token(somebody: Somebody) -> None:
    answer = await somebody.sign_in()
    token = answer["refresh_token"]
    for wrong in (
        "",
        "pbr_",
        token[:-1],
        token + "A",
        token.upper(),
        answer["access_token"],
        f" {token}",
        "é",
        "\0",
    ):
        assert ended(await somebody.api.refresh(wrong, administrator=somebody.administrator)), wrong
    for wrong in (secret_digest(token).hex(), token.removeprefix("pbr_")):
        assert ended(await somebody.api.refresh(wrong, administrator=somebody.administrator))
    assert not ended(await somebody.refresh(answer))


async def test_T21_no_token_is_kept(api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
    crowd.person("amina")
    answer = await api.sign_in("amina")
    await api.refresh(answer["refresh_token"])
    with database.begin() as connection:
        for table in (tables.refresh_token, tables.session, tables.audit_event):
            for row in connection.execute(select(table)):
                for value in row:
                    kept = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    for issued in (answer, api.answers[-1]):
                        assert issued["refresh_token"].removeprefix("pbr_").encode() not in kept


async def test_T21_nobody_who_may_not_come_in_can_go_on(api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
    crowd.administrator("olga", "owner")
    crowd.administrator("otto", "owner")
    answer = await api.sign_in("olga", administrator=True)
    with database.begin() as connection:
        suspended = tables.administrator.c.username == "olga"
        connection.execute(update(tables.administrator).where(suspended).values(state="suspended"))
    refused = await api.refresh(answer["refresh_token"], administrator=True)
    assert (refused.status, refused.code) == (400, "suspended")
    assert (await api.call("GET", "/admin/me", token=answer["access_token"])).status == 401


# A client that loses answers, and a thief who copies what there is and comes whenever they like.

IDLE, LONGEST = timedelta(days=30), timedelta(days=365)
TERMS = Terms(IDLE, LONGEST, GRACE, LOST)


@dataclass
class Token:
    """A token that was given, by the text, and what is known about it."""

    text: str
    access_id: str
    parent: Token | None
    used_at: float | None = None
    #: Whether the access token that came with it was used.
    arrived: bool = False


@dataclass
class World:
    """One session, with a clock in seconds; everything is done as the service does it."""

    database: ServiceDatabase
    session: str
    now: float = 0.0
    over: bool = False
    tokens: list[Token] = field(default_factory=list)

    def exchange(self, token: Token) -> Token | None:
        """What the exchange gives, held against what it must not give."""
        with self.database.begin() as connection:
            result = sessions.refresh(connection, TESTER, token.text, TERMS, administrators=False)
        used = [one for one in self.tokens if one.parent is token.parent and one.used_at is not None]
        sibling_used = token.parent is not None and any(one is not token for one in used)
        successors = [one for one in self.tokens if one.parent is token]
        successor_used = any(one.used_at is not None for one in successors)
        first = token.used_at is None
        since = 0.0 if token.used_at is None else self.now - token.used_at
        bound = GRACE if any(one.arrived for one in successors) else LOST
        late = since >= bound.total_seconds()
        if isinstance(result, Ended):
            # Only for a reason: nobody is logged out for nothing.
            assert self.over or sibling_used or successor_used or late
            self.over = True
            with self.database.begin() as connection:
                query = select(tables.session.c.ended_at).where(tables.session.c.id == self.session)
                assert connection.execute(query).scalar_one() is not None
            return None
        assert isinstance(result, Opened)
        # Dead for good once it is dead; and where two have gone on from one token, the second ends it.
        assert not self.over
        assert not sibling_used
        assert not successor_used
        assert not late
        if first:
            token.used_at = self.now
        made = Token(result.refresh_token, result.access_id, token)
        self.tokens.append(made)
        return made

    def use(self, token: Token) -> None:
        """A request with the access token that came with this one."""
        sessions.arrived(self.database, token.access_id)
        token.arrived = True

    def wait(self, seconds: float) -> None:
        self.now += seconds
        Clock(self.database).forward(timedelta(seconds=seconds), session=self.session)


@pytest.fixture
def world(database: ServiceDatabase, crowd: Crowd) -> Iterator[Any]:
    person = crowd.person("amina")

    def begin() -> World:
        with database.begin() as connection:
            opened = sessions.start(connection, Principal(person=person), TERMS)
        made = World(database, opened.session)
        made.tokens.append(Token(opened.refresh_token, opened.access_id, None))
        return made

    return begin


PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
#: Seconds between two requests of a client whose answers get lost: it gives up before a week is over.
RETRIES = st.lists(st.floats(0, 200_000), max_size=3)


def test_T21_a_client_that_loses_answers_is_never_logged_out(world: Any) -> None:
    @PROPERTY
    @given(st.lists(st.tuples(RETRIES, st.floats(0, 2_000_000)), max_size=12))
    def run(turns: list[tuple[list[float], float]]) -> None:
        here = world()
        token = here.tokens[0]
        for retries, pause in turns:
            if here.now + pause + 30 >= LONGEST.total_seconds():
                break
            answer = here.exchange(token)
            for wait in retries:  # the answer did not arrive: the same request again
                here.wait(wait)
                answer = here.exchange(token)
            assert answer is not None
            token = answer
            here.use(token)
            here.wait(pause)

    run()


#: Who acts, with which token of those there have been (0 is the newest), and how long they wait before.
#: No wait, and no sum of some, is just short of the grace: the time that the test takes counts as well.
THIEF = st.tuples(
    st.sampled_from(["thief", "thief uses"]),
    st.integers(0, 6),
    st.sampled_from([0.0, 10.0, 40.0, 4000.0, 400_000.0]),
)
CLIENT = st.tuples(
    st.sampled_from(["client", "client loses", "client uses"]),
    st.just(0),
    st.sampled_from([0.0, 10.0, 600.0, 90_000.0]),
)


def test_T21_a_thief_and_the_client_cannot_both_go_on(world: Any) -> None:
    """Whatever the order: `World.exchange` holds every exchange against the rules."""

    @PROPERTY
    @given(st.lists(st.one_of(THIEF, CLIENT), min_size=1, max_size=14))
    def run(acts: list[tuple[str, int, float]]) -> None:
        here = world()
        token = here.tokens[0]
        for who, which, wait in acts:
            here.wait(wait)
            stolen = here.tokens[-1 - which % len(here.tokens)]
            if who == "thief":
                here.exchange(stolen)
                continue
            if who.endswith("uses"):
                here.use(stolen if who.startswith("thief") else token)
                continue
            answer = here.exchange(token)
            if answer is not None and who == "client":
                token = answer

    run()


@pytest.mark.parametrize("first", ["client", "thief"])
@pytest.mark.parametrize("depth", [1, 4])
def test_T21_a_thief_who_goes_on_from_the_same_token_is_found_out_at_the_next_exchange(
    world: Any, first: str, depth: int
) -> None:
    here = world()
    stolen = here.tokens[0]
    mine = here.exchange(stolen)  # within the grace both get an answer, and neither can tell
    theirs = here.exchange(stolen)
    assert mine is not None
    assert theirs is not None
    ahead, behind = (mine, theirs) if first == "client" else (theirs, mine)
    for _ in range(depth):
        ahead = here.exchange(ahead)
        assert ahead is not None
        here.wait(600)
    assert here.exchange(behind) is None
    assert here.exchange(ahead) is None


async def test_T21_two_at_once_cannot_both_go_on(api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
    """The successors of one token sent at the same moment: at most one is answered with tokens."""
    crowd.person("amina")
    for _ in range(5):
        first = await api.sign_in("amina")
        pair = [await api.refresh(first["refresh_token"]) for _ in range(2)]
        answers = await asyncio.gather(*(api.refresh(one["refresh_token"]) for one in pair))
        assert sorted(answer.status for answer in answers) == [200, 400]
        lives = [answer for answer in answers if answer.status == 200]
        assert ended(await api.refresh(lives[0]["refresh_token"]))


async def test_T21_many_sessions_do_not_touch_one_another(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    person = crowd.person("amina")
    kept = [await api.sign_in("amina") for _ in range(3)]
    with database.begin() as connection:
        connection.execute(
            insert(tables.session).values(
                id="session-other", person_id=person, expires_at=func.now() + timedelta(days=1)
            )
        )
    gone = await api.sign_in("amina")
    await api.refresh((await api.refresh(gone["refresh_token"]))["refresh_token"])
    assert ended(await api.refresh(gone["refresh_token"]))
    with database.begin() as connection:
        ends = select(func.count()).select_from(tables.session).where(tables.session.c.ended_at.is_not(None))
        assert connection.execute(ends).scalar_one() == 1
    for answer in kept:
        assert not ended(await api.refresh(answer["refresh_token"]))
