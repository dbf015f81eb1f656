"""Floods of sign-ins and guesses from elsewhere: they cost little, and keep out nobody who belongs here."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from auth_service import passwords
from auth_service.limits import PAIR_FREE, prefix_of
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.credentials import DatabaseCredentials
from tests.auth.running import auth
from tests.auth.test_signing_in import basic
from tests.support.api import METRICS_TOKEN, PASSWORD, Answer, Api, Crowd

USUAL, ELSEWHERE, ABROAD = "198.51.100.7", "203.0.113.66", "2001:db8:7::1"
PROXY = {"PASSBOOK_TRUSTED_PROXIES": "127.0.0.1"}

#: Sends 5,000 sign-ins as fast as it can, or as many as it can in 15 s, for accounts that nobody has, from one
#: prefix; then says what was answered. Bare sockets, so that little of the machine goes into asking.
FLOOD = r"""
import asyncio, json, re, sys, time
host, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answered, number, began = {}, 0, time.monotonic()

async def one(mine):
    global number
    reader, writer = await asyncio.open_connection(host, port)
    while number < 5000 and time.monotonic() < began + 15:
        number += 1
        body = f"grant_type=password&username=nobody-{number % 400}&password=guess-{number}".encode()
        writer.write(
            b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            + f"X-Forwarded-For: 203.0.113.{mine % 250 + 1}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
        status = head.split()[1].decode()
        answered[status] = answered.get(status, 0) + 1
    writer.close()

async def main():
    print("begun", flush=True)
    await asyncio.gather(*(one(mine) for mine in range(connections)))
    print(json.dumps({"answered": answered, "seconds": time.monotonic() - began}), flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def process(service_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A real `passbook auth` behind a proxy on this machine that says who asks."""
    async with auth(tmp_path, service_url, PROXY) as api:
        yield api


async def sign_in_from(api: Api, address: str, username: str, password: str = PASSWORD) -> Answer:
    form = {"grant_type": "password", "username": username, "password": password}
    return await api.call("POST", "/oauth/token", form=form, headers={"X-Forwarded-For": address})


async def patiently(api: Api, address: str, username: str) -> tuple[Answer, list[int]]:
    """Signs in as an app does that waits as long as it is told; the waits."""
    waits: list[int] = []
    while True:
        answer = await sign_in_from(api, address, username)
        if answer.status != 429:
            return answer, waits
        waits.append(int(answer.headers["Retry-After"]))
        assert sum(waits) < 60
        await asyncio.sleep(waits[-1])


def transactions(database: ServiceDatabase) -> int:
    with database.begin() as connection:
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.exec_driver_sql(query).scalar_one())


async def outcomes(api: Api) -> dict[str, int]:
    text = (await api.call("GET", "/metrics", token=METRICS_TOKEN)).raw.decode()
    found = re.findall(r'outcomes_total\{audience="passbook",outcome="(\w+)",what="sign_in"\} ([\d.]+)', text)
    return {name: int(float(count)) for name, count in found}


def refused(answer: Answer, limit: str) -> int:
    """A 429 in the usual shape; how long to wait."""
    assert answer.status == 429
    assert answer.code == "too_many_requests"
    assert answer["error"] == "temporarily_unavailable"
    assert answer["request_id"] == answer.headers["X-Request-Id"]
    assert answer["detail"]["limit"] == limit
    wait = int(answer.headers["Retry-After"])
    assert wait == answer["detail"]["retry_after"] >= 1
    return wait


async def test_T18_a_flood_of_sign_ins_meets_a_wall_and_everybody_else_gets_in(
    process: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    for name in ("amina", "bela", "chike"):
        crowd.person(name)
    assert (await sign_in_from(process, USUAL, "amina")).status == 200
    before, counted = await outcomes(process), transactions(database)

    host, port = process.url.removeprefix("http://").split(":")
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, host, port, "40"], stdout=subprocess.PIPE, text=True)
    try:
        assert flood.stdout is not None
        assert (await asyncio.to_thread(flood.stdout.readline)) == "begun\n"
        lives: list[float] = []
        inside: list[str] = []

        async def watch() -> None:
            while True:
                asked = time.perf_counter()
                assert (await process.call("GET", "/health/live")).status == 200
                lives.append(time.perf_counter() - asked)
                await asyncio.sleep(0.02)

        async def come(name: str, address: str) -> None:
            answer, waits = await patiently(process, address, name)
            assert answer.status == 200
            inside.append(f"{name} after {waits}")

        watching = asyncio.create_task(watch())
        # Amina where she usually is; two others where nobody has seen them, who wait as they are told.
        usual = await sign_in_from(process, USUAL, "amina")
        await asyncio.gather(come("bela", "192.0.2.9"), come("chike", ABROAD))
        again = await sign_in_from(process, USUAL, "amina")
        out, _ = await asyncio.to_thread(flood.communicate)
        watching.cancel()
    finally:
        flood.kill()
        flood.wait()

    assert (usual.status, again.status) == (200, 200)
    report = json.loads(out)
    asked, seconds = sum(report["answered"].values()), report["seconds"]
    after = await outcomes(process)
    done = {name: count - before.get(name, 0) for name, count in after.items()}
    hashes = sum(done.get(name, 0) for name in ("ok", "unknown_name", "wrong_password"))
    worked = transactions(database) - counted
    lives.sort()
    p99 = lives[int(0.99 * len(lives))]
    print(
        f"{asked / seconds:.0f} sign-ins a second for {seconds:.1f} s: {report['answered']}, {done}; "
        f"{hashes} hashes, {worked} transactions; health/live {1000 * lives[len(lives) // 2]:.1f} ms, "
        f"p99 {1000 * p99:.0f} ms, of {len(lives)}; {inside}"
    )
    assert set(report["answered"]) == {"400", "429"}
    # What the flood costs is what its prefix may cost: 100 hashes, and 5 a second. Four were the others'.
    assert hashes <= 100 + 5 * (seconds + 2) + 4
    assert asked > 2 * hashes or seconds > 15
    # A refusal takes at most one look into the database, and most take none.
    assert worked <= 8 * hashes + asked / 2 + 100
    assert p99 < 1
    with database.begin() as connection:
        log = tables.audit_event
        query = sa.select(log.c.event, sa.func.count().label("times")).group_by(log.c.event)
        events = {row.event: row.times for row in connection.execute(query)}
        repeat = tables.audit_repeat
        counted = sa.select(sa.func.sum(repeat.c.counted)).where(repeat.c.event == "SignInFailed")
        more = connection.execute(counted).scalar_one() or 0
    # A few failures are told in full and the others counted; a wait is told when it begins, not at every try.
    assert events["SignInFailed"] + more == done["unknown_name"]
    assert events["SignInSlowed"] <= 400


async def test_T18_guesses_from_elsewhere_lock_nobody_out(
    process: Api, crowd: Crowd, database: ServiceDatabase, service_url: str
) -> None:
    amina = crowd.person("amina")
    first = await sign_in_from(process, USUAL, "amina")
    made = await process.call("POST", "/devices", {}, token=first["access_token"])
    told = [await sign_in_from(process, ELSEWHERE, "amina", f"guess {number}") for number in range(6)]
    assert [answer.status for answer in told] == [400] * PAIR_FREE + [429]
    refused(told[-1], "account")
    # Where she usually is she does not notice, and neither does her phone.
    assert (await sign_in_from(process, USUAL, "amina")).status == 200
    assert (await process.refresh(first["refresh_token"])).status == 200
    credentials = DatabaseCredentials.at(service_url)
    principal = await credentials.principal([basic(made["username"], made["password"])["Authorization"]])
    await credentials.close()
    assert (principal.person_id, principal.device_id) == (amina, made["device"])
    # From many places at once, more than an account has free anywhere: still she does not notice.
    for place in range(40):
        await sign_in_from(process, f"203.0.{place}.1", "amina", "guess")
    assert (await sign_in_from(process, USUAL, "amina")).status == 200
    # Where she has never been she waits, with the right password too, and then gets in.
    waiting = await sign_in_from(process, ABROAD, "amina")
    assert refused(waiting, "account") <= 60
    with database.begin() as connection:
        log = tables.audit_event
        rows = connection.execute(sa.select(log).where(log.c.event == "SignInFailed")).all()
    assert {row.person for row in rows} == {amina}
    assert prefix_of(ELSEWHERE) in {row.address for row in rows}
    assert not any(ELSEWHERE in row.address for row in rows)


async def test_T18_a_wait_ends(process: Api, crowd: Crowd) -> None:
    """No lock-out: whoever was refused gets in with the right password when the time that was said is over."""
    crowd.person("amina")
    for _ in range(PAIR_FREE):
        await sign_in_from(process, ELSEWHERE, "amina", "wrong")
    wait = refused(await sign_in_from(process, ELSEWHERE, "amina"), "account")
    assert wait <= 2
    answer, waits = await patiently(process, ELSEWHERE, "amina")
    assert answer.status == 200
    assert sum(waits) <= 2 * wait


async def said_of(database: ServiceDatabase, count: int) -> list[str]:
    """The addresses of the last so many failures."""
    with database.begin() as connection:
        log = tables.audit_event
        query = sa.select(log.c.address).where(log.c.event == "SignInFailed").order_by(log.c.id.desc()).limit(count)
        return list(connection.execute(query).scalars())[::-1]


async def test_T18_the_proxy_is_believed_and_nobody_behind_it(process: Api, database: ServiceDatabase) -> None:
    """Of several addresses the last counts that no trusted proxy has: what the caller put before it does not."""
    expected: dict[str, str] = {
        ELSEWHERE: "203.0.113.0/24",
        f"{USUAL}, {ELSEWHERE}": "203.0.113.0/24",
        f"127.0.0.1, {USUAL}, {ELSEWHERE}, 127.0.0.1": "203.0.113.0/24",
        ABROAD: "2001:db8:7::/48",
        f"::ffff:{ELSEWHERE}": "203.0.113.0/24",
        "unknown": "unknown",
        "'; DROP TABLE person; --": "unknown",
        "999.1.1.1": "unknown",
        "x" * 4000: "unknown",
    }
    for number, address in enumerate(expected):
        answer = await sign_in_from(process, address, f"nobody-{number}")
        assert answer.status == 400, address[:50]
    assert await said_of(database, len(expected)) == list(expected.values())


async def test_T18_from_anybody_else_the_header_changes_nothing(
    service_url: str, tmp_path: Path, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    for trusted in ({}, {"PASSBOOK_TRUSTED_PROXIES": "10.0.0.7,192.0.2.0/24"}):
        async with auth(tmp_path / str(len(trusted)), service_url, trusted) as api:
            # Another place for every guess, as it says; to the limits they are all one.
            answers = [await sign_in_from(api, f"203.0.{number}.1", "amina", "guess") for number in range(6)]
            assert [answer.status for answer in answers] == [400] * PAIR_FREE + [429]
            refused(answers[-1], "account")
            for name in ("X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip"):
                form = {"grant_type": "password", "username": "amina", "password": "guess"}
                again = await api.call("POST", "/oauth/token", form=form, headers={name: "203.0.113.9"})
                assert again.status == 429, name
            assert set(await said_of(database, PAIR_FREE)) == {"127.0.0.0/24"}
        with database.begin() as connection:
            connection.execute(tables.sign_in_counter.delete())


async def test_T18_metrics_are_for_nobody_without_the_token(process: Api) -> None:
    """Not for this machine either: that is where a proxy is, which need not say for whom it speaks."""
    for headers in ({}, {"X-Forwarded-For": ELSEWHERE}, {"X-Forwarded-For": "127.0.0.1"}):
        assert (await process.call("GET", "/metrics", headers=headers)).status == 403
        assert (await process.call("GET", "/metrics", headers=headers, token=METRICS_TOKEN)).status == 200


async def test_T18_changes_of_one_password_slow_nobody_else(
    api: Api, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a time: however many somebody sends, few are scored, which takes the processor of many sign-ins."""
    crowd.person("amina")
    crowd.person("bahati")
    token = await api.token("amina")
    scored = 0
    score = passwords._score

    def counted(password: str, name: str) -> tuple[int, str]:
        nonlocal scored
        scored += password.startswith("ab!")
        return score(password, name)

    monkeypatch.setattr(passwords, "_score", counted)
    body = {"current": PASSWORD, "new": "ab!" * 12}
    answers = await asyncio.gather(
        *(api.call("POST", "/password", body, token=token) for _ in range(30)), api.sign_in("bahati")
    )
    assert answers.pop().status == 200
    assert scored <= 5
    assert {answer.status for answer in answers} <= {200, 400, 429}
    waits = [answer["detail"] for answer in answers if answer.status == 429]
    assert waits
    assert all(one == {"retry_after": 2, "limit": "account"} for one in waits)


async def test_T18_refusals_are_as_cheap_at_every_door(process: Api, crowd: Crowd) -> None:
    """The administrators' door and HTTP Basic are limited like the token route, and told so in their own form."""
    crowd.administrator("olga", "owner")
    crowd.person("amina")
    form = {"grant_type": "password", "username": "olga", "password": "guess"}
    at = {"X-Forwarded-For": ELSEWHERE}
    statuses = []
    for _ in range(PAIR_FREE + 1):
        last = await process.call("POST", "/admin/oauth/token", form=form, headers=at)
        statuses.append(last.status)
    assert statuses == [400] * PAIR_FREE + [429]
    refused(last, "account")
    seen: list[Any] = []
    for _ in range(PAIR_FREE + 1):
        answer = await process.call("POST", "/authentication", headers=basic("amina", "guess") | at)
        seen.append((answer.status, answer.code))
    assert seen == [(401, "unknown")] * PAIR_FREE + [(429, "too_many_requests")]
    # They are accounts of different doors: guessing at one does not slow the other.
    assert (await sign_in_from(process, ELSEWHERE, "olga", "guess")).status == 400


async def test_T18_answers_on_a_kept_connection_come_at_once(process: Api) -> None:
    """Not 40 ms later, when the caller's system acknowledges the first half of each."""
    times = []
    for _ in range(30):
        began = time.perf_counter()
        assert (await process.call("GET", "/health/live")).status == 200
        times.append(time.perf_counter() - began)
    # The first ones come at once in any case.
    assert statistics.median(times) < 0.035
