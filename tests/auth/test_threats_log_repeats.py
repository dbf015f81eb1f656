"""The audit log cannot be filled: what somebody repeats is told a few times in full, and then as a number."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from passbook.audit import chain
from passbook.audit.chain import Actor, Entry, record
from passbook.audit.events import SignInFailed, WrongDoor
from passbook.servicedb.engine import ServiceDatabase
from tests.support import truth
from tests.support.api import Api, Crowd, serving

#: So that a limit of requests is not what keeps the log small.
ROOMY = {"PASSBOOK_SIGN_IN_ADDRESS_BURST": "100000", "PASSBOOK_ACCESS_TOKEN_SECONDS": "3600"}


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[Api]:
    async with serving(service_url, ROOMY) as one:
        yield one


def told(database: ServiceDatabase) -> Counter[str]:
    return Counter(row.event for row in truth.events(database))


def pass_time(database: ServiceDatabase) -> None:
    """The while passes in which repeats are counted together."""
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_repeat SET since = since - interval '11 minutes'")


def repeats(database: ServiceDatabase) -> list[Entry]:
    return [row for row in truth.events(database) if row.event == "Repeated"]


async def test_T27_one_refresh_token_does_not_fill_the_log(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    amina = crowd.person("amina")
    token = (await api.sign_in("amina"))["refresh_token"]
    times = 0
    for _ in range(60):
        answer = await api.refresh(token)
        if answer.status == 200:
            token, times = answer["refresh_token"], times + 1
    assert times == 60
    assert told(database)["SessionRefreshed"] == 5
    truth.check(database)
    # The next one after that while tells how many there were.
    pass_time(database)
    await asyncio.sleep(1.1)  # a second for one session's next refresh
    assert (await api.refresh(token)).status == 200
    (row,) = repeats(database)
    assert (row.person, row.actor_kind, row.address) == (amina, "anonymous", "127.0.0.0/24")
    assert (row.detail["of"], row.detail["times"]) == ("SessionRefreshed", 55)
    assert told(database)["SessionRefreshed"] == 6
    truth.check(database)


async def test_T27_the_wrong_login_does_not_fill_the_log(
    api: Api, crowd: Crowd, database: ServiceDatabase, service_url: str
) -> None:
    amina, bela = crowd.person("amina"), crowd.person("bela")
    tokens = [await api.token(name) for name in ("amina", "bela")]
    before = len(truth.events(database))
    answers = await asyncio.gather(
        *(api.call("GET", "/admin/people", token=tokens[number % 2]) for number in range(300))
    )
    assert {one.code for one in answers} == {"wrong_audience"}
    assert len(truth.events(database)) - before == 10
    pass_time(database)
    # Nobody comes again: the sweep tells it, once.
    async with serving(service_url, ROOMY), serving(service_url, ROOMY):
        async with asyncio.timeout(30):
            while len(repeats(database)) < 2:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.02)
    with database.begin() as connection:
        chain.tell_repeats(connection)
    assert sorted((row.actor, row.detail["of"], row.detail["times"]) for row in repeats(database)) == sorted(
        (person, "WrongDoor", 145) for person in (amina, bela)
    )
    truth.check(database)


async def test_T17_failures_are_counted_by_place_whomever_they_concern(database: ServiceDatabase) -> None:
    """What is counted takes less time than what is written: that must not depend on whether there is somebody."""

    def fail(person: str | None, address: str) -> None:
        why = "wrong_password" if person else "unknown_name"
        with database.begin() as connection:
            record(
                connection,
                Actor("anonymous", "", "request", address),
                SignInFailed(audience="passbook", why=why, person=person),
            )

    for number in range(40):
        fail("person-1" if number % 2 else None, "203.0.113.0/24")
    fail("person-1", "198.51.100.0/24")
    fail("person-2", "203.0.113.0/24")
    seen = Counter((row.person, row.address) for row in truth.events(database))
    assert seen == {
        (None, "203.0.113.0/24"): 10,
        ("person-1", "203.0.113.0/24"): 10,
        ("person-1", "198.51.100.0/24"): 1,
    }


async def test_T27_counts_are_as_certain_as_what_they_count(database: ServiceDatabase) -> None:
    """What is taken back is not counted; many at once are all counted; a lost table of numbers loses numbers."""
    by = Actor("person", "person-1", "request", "203.0.113.0/24")

    def one(fails: bool = False) -> None:
        with database.begin() as connection:
            record(connection, by, WrongDoor(wanted="passbook-admin"))
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one(fails=True)
    await asyncio.gather(*(asyncio.to_thread(one) for _ in range(25)))
    assert told(database) == {"WrongDoor": 5}
    with database.begin() as connection:
        assert connection.exec_driver_sql("SELECT written, counted FROM audit_repeat").one() == (5, 20)
        connection.exec_driver_sql("TRUNCATE audit_repeat")  # as a crash of the server does
    one()
    assert told(database) == {"WrongDoor": 6}
    # Several in one transaction, in either order, and what stands between them keeps its place.
    with database.begin() as connection:
        for number in range(8):
            record(connection, by, WrongDoor(wanted=f"door {number}"))
    assert [row.detail["wanted"] for row in truth.events(database)][-4:] == [f"door {one}" for one in range(4)]
    with database.begin() as connection:
        assert chain.verify(connection).ok
