"""Many at the same moment, at one auth service or two: nothing is lost or done twice, and nobody slips in."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select, text

from auth_service import administrators, devices, keys, people, preparation
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from sync_gateway.credentials import DatabaseCredentials
from tests.support import truth
from tests.support.actors import TESTER
from tests.support.api import HASH, PASSWORD, SECRET, Answer, Api, Crowd, serving

ROOMY = {"PASSBOOK_DEVICES_PER_PERSON": "100"}
NEW = "seven blue boats sail south"
TERMS = devices.Terms("http://127.0.0.1:8710", days=90, most=10)
REASON = {"reason": "a test of many at once"}


@pytest.fixture
async def gateway(service_url: str) -> AsyncIterator[DatabaseCredentials]:
    """The gateway's look at credentials."""
    one = DatabaseCredentials.at(service_url)
    yield one
    await one.close()


@asynccontextmanager
async def two(service_url: str, settings: dict[str, str] | None = None) -> AsyncIterator[tuple[Api, Api]]:
    """Two auth services on one database."""
    async with serving(service_url, settings) as one, serving(service_url, settings) as other:
        yield one, other


async def together(calls: Iterable[Awaitable[Answer]]) -> list[Answer]:
    """All at once; none may be answered with a defect or an outage."""
    answers = list(await asyncio.gather(*calls))
    assert all(one.status < 500 for one in answers), [one.body for one in answers if one.status >= 500]
    return answers


def statuses(answers: list[Answer]) -> dict[int, int]:
    return dict(Counter(one.status for one in answers))


def count(database: ServiceDatabase, table: Any) -> int:
    with database.begin() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


async def usable(gateway: DatabaseCredentials, made: Iterable[Answer]) -> list[str]:
    """Those of the registered devices that the gateway would serve."""
    said = {one["device"]: await truth.gateway_says(gateway, one["username"], one["password"]) for one in made}
    return [device for device, answer in said.items() if answer.startswith("person-")]


# Signing in


async def test_forty_people_sign_in_at_once(service_url: str, crowd: Crowd, database: ServiceDatabase) -> None:
    names = [f"person number {number}" for number in range(40)]
    for name in names:
        crowd.person(name)
    async with two(service_url) as services:
        answers = await together(services[number % 2].sign_in(name) for number, name in enumerate(names))
        assert statuses(answers) == {200: 40}
        assert len({one["refresh_token"] for one in answers}) == 40
        me = await together(
            services[number % 2].call("GET", "/me", token=one["access_token"]) for number, one in enumerate(answers)
        )
        assert [one["username"] for one in me] == names
    assert count(database, tables.session) == 40
    truth.check(database)


async def test_forty_sign_ins_of_one_person_are_sessions_or_told_to_wait(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    amina = crowd.person("amina")
    async with two(service_url) as services:
        answers = await together(services[number % 2].sign_in("amina") for number in range(40))
        # So many guesses at once could be guesses of passwords: five are let through, the others wait a second.
        assert set(statuses(answers)) <= {200, 429}
        opened = [one for one in answers if one.status == 200]
        assert len(opened) >= 5
        assert all(int(one.headers["Retry-After"]) >= 1 for one in answers if one.status == 429)
        assert count(database, tables.session) == len(opened)
        assert count(database, tables.refresh_token) == len(opened)
        with database.begin() as connection:
            assert people.sign_out(connection, TESTER, amina, revoke_devices=False) == (len(opened), 0)
        for one in opened:
            assert (await services[0].call("GET", "/me", token=one["access_token"])).code == "session_ended"
            assert (await services[1].refresh(one["refresh_token"])).code == "session_ended"
    truth.check(database)


# Devices


async def test_forty_registrations_at_once_are_forty_devices_that_can_be_revoked(
    service_url: str, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    async with two(service_url, ROOMY) as services:
        token = await services[0].token("amina")
        made = await together(
            services[number % 2].call("POST", "/devices", {"name": str(number)}, token=token)
            for number in range(40)
        )
        assert statuses(made) == {201: 40}
        listed = (await services[0].call("GET", "/devices", token=token))["items"]
        assert {one["device"] for one in listed} == {one["device"] for one in made}
        assert len(await usable(gateway, made)) == 40
        olga = await services[0].token("olga", administrator=True)
        gone = await together(
            services[number % 2].call("POST", f"/admin/devices/{one['device']}/revoke", REASON, token=olga)
            for number, one in enumerate(made)
        )
        assert {one["state"] for one in gone} == {"revoked"}
    assert await usable(gateway, made) == []
    truth.check(database)


async def test_the_limit_of_devices_is_kept_exactly(
    service_url: str, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    crowd.person("amina")
    async with two(service_url) as services:
        token = await services[0].token("amina")
        for _ in range(2):
            answers = await together(
                services[number % 2].call("POST", "/devices", {}, token=token) for number in range(40)
            )
            assert statuses(answers) == {201: 10, 409: 30}
            assert {one.code for one in answers if one.status == 409} == {"too_many_devices"}
            made = [one for one in answers if one.status == 201]
            assert len(await usable(gateway, made)) == 10
            with database.begin() as connection:
                people.sign_out(connection, TESTER, "amina", revoke_devices=True)
            assert await usable(gateway, made) == []
            token = await services[0].token("amina")
    assert count(database, tables.device) == 20
    truth.check(database)


async def test_one_idempotency_key_forty_times_is_one_device(
    service_url: str, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    crowd.person("amina")
    crowd.person("baraka")
    headers = {"Idempotency-Key": "6f1c9f52-1d0b-4b5e-9f0e-0c8f6f1a2b3c"}
    async with two(service_url, {"PASSBOOK_DEVICES_PER_PERSON": "1"}) as services:
        for name in ("amina", "baraka"):
            token = await services[0].token(name)
            answers = await together(
                services[number % 2].call("POST", "/devices", {"name": "phone"}, token=token, headers=headers)
                for number in range(40)
            )
            assert statuses(answers) == {201: 40}
            assert len({one.raw for one in answers}) == 1
            assert len(await usable(gateway, answers)) == 1
    assert count(database, tables.device) == 2
    truth.check(database)


async def test_revocations_that_overlap_are_all_made(
    service_url: str, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    crowd.administrator("olga", "owner")
    many = "/admin/devices/revoke"
    async with two(service_url, ROOMY) as services:
        admin = await services[0].token("olga", administrator=True)
        for number in range(4):
            name = f"person number {number}"
            crowd.person(name)
            tokens = [await services[0].token(name) for _ in range(3)]
            made = await together(
                services[1].call("POST", "/devices", {}, token=tokens[one % 3]) for one in range(60)
            )
            everyone = [one["device"] for one in made]
            new = {"current": PASSWORD, "new": NEW, "sign_out_others": True}
            answers = await together(
                [
                    services[1].call("POST", "/password", new, token=tokens[0]),
                    *(
                        services[one % 2].call("DELETE", f"/devices/{device}", token=tokens[one % 3])
                        for one, device in enumerate(everyone[::7])
                    ),
                    services[0].call("POST", many, {"devices": everyone, **REASON}, token=admin),
                    services[1].call("POST", many, {"devices": everyone[::-1], **REASON}, token=admin),
                    services[0].call("POST", many, {"devices": everyone[::2], **REASON}, token=admin),
                    *(
                        services[1].call("POST", f"/admin/devices/{one}/revoke", REASON, token=admin)
                        for one in everyone[::5]
                    ),
                ]
            )
            # The sign-in of a device ends with it: whoever comes with it after that is nobody.
            assert set(statuses(answers)) <= {200, 401}
            assert await usable(gateway, made) == []
    truth.check(database)


@pytest.mark.parametrize("by", ["their person", "an administrator", "many at once"])
async def test_two_ways_to_end_the_same_device_do_not_wait_for_each_other(
    service_url: str, crowd: Crowd, database: ServiceDatabase, by: str
) -> None:
    """A device is revoked while somebody is signed out everywhere: sessions are ended, devices come next."""
    crowd.administrator("olga", "owner")
    amina = crowd.person("amina")
    async with serving(service_url) as api:
        token, admin = await api.token("amina"), await api.token("olga", administrator=True)
        device = (await api.call("POST", "/devices", {}, token=token))["device"]
        revoke = {
            "their person": lambda: api.call("DELETE", f"/devices/{device}", token=token),
            "an administrator": lambda: api.call("POST", f"/admin/devices/{device}/revoke", REASON, token=admin),
            "many at once": lambda: api.call(
                "POST", "/admin/devices/revoke", {"devices": [device], **REASON}, token=admin
            ),
        }
        asked: list[asyncio.Task[Answer]] = []
        loop = asyncio.get_running_loop()

        async def arrive() -> None:
            asked.append(asyncio.create_task(revoke[by]()))
            await waiting_for_a_lock(database, asked[0])

        def midway(*details: Any) -> None:
            if details[2].startswith("UPDATE session") and not asked:
                asyncio.run_coroutine_threadsafe(arrive(), loop).result()

        event.listen(database.engine, "after_cursor_execute", midway)
        await asyncio.to_thread(database.run, people.sign_out, TESTER, amina, revoke_devices=True)
        (late,) = await asyncio.gather(*asked)
        assert late.status in (200, 401), late.body
    truth.check(database)


# Refreshing


async def test_a_refresh_repeated_at_once_is_answered_each_time_and_one_answer_counts(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    async with two(service_url) as services:
        first = await services[0].sign_in("amina")
        answers = await together(services[number % 2].refresh(first["refresh_token"]) for number in range(20))
        # Which of them arrived nobody knows: each is good, until one is used.
        assert statuses(answers) == {200: 20}
        tokens = [one["refresh_token"] for one in answers]
        assert len(set(tokens)) == 20
        used = await services[1].refresh(tokens[7])
        assert used.status == 200
        again = await services[0].refresh(tokens[8])
        assert (again.status, again.code) == (400, "session_ended")
        # That it came at all means that two hold the session: nobody keeps it.
        assert (await services[0].refresh(used["refresh_token"])).code == "session_ended"
        assert (await services[0].call("GET", "/me", token=used["access_token"])).code == "session_ended"
    assert count(database, tables.refresh_token) == 22
    assert [row.event for row in truth.events(database)].count("RefreshTokenReused") == 1
    truth.check(database)


async def test_without_grace_one_refresh_wins_and_the_session_ends(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    async with two(service_url, {"PASSBOOK_REFRESH_GRACE_SECONDS": "0"}) as services:
        first = await services[0].sign_in("amina")
        answers = await together(services[number % 2].refresh(first["refresh_token"]) for number in range(20))
        assert statuses(answers) == {200: 1, 400: 19}
        assert {one.code for one in answers if one.status == 400} == {"session_ended"}
        (winner,) = [one for one in answers if one.status == 200]
        assert (await services[0].refresh(winner["refresh_token"])).code == "session_ended"
    truth.check(database)


# Against access that ends at the same moment

_ACTS: dict[str, Callable[[Connection, str], Any]] = {
    "suspend": lambda connection, one: people.suspend(connection, TESTER, one),
    "sign out": lambda connection, one: people.sign_out(connection, TESTER, one, revoke_devices=True),
    "new password": lambda connection, one: people.reset_password(
        connection, TESTER, one, HASH[:-4] + "AAAA", revoke_devices=True
    ),
    "delete": lambda connection, one: people.begin_deletion(connection, TESTER, one),
    # The session belongs to no device: it ends with any.
    "revoke a device": lambda connection, one: devices.revoke(
        connection, TESTER, devices.add(connection, TESTER, one, terms=TERMS).device
    ),
}


@pytest.mark.parametrize("act", _ACTS)
@pytest.mark.parametrize("what", ["register", "refresh", "sign in"])
async def test_what_is_asked_while_access_ends_comes_too_late(
    service_url: str, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials, act: str, what: str
) -> None:
    """The request arrives when the act is done, and its commit is still to come."""
    amina = crowd.person("amina")
    async with serving(service_url) as api:
        before = await api.sign_in("amina")
        requests = {
            "register": lambda: api.call("POST", "/devices", {}, token=before["access_token"]),
            "refresh": lambda: api.refresh(before["refresh_token"]),
            "sign in": lambda: api.sign_in("amina"),
        }
        with database.begin() as connection:
            _ACTS[act](connection, amina)
            asked = asyncio.create_task(requests[what]())
            await waiting_for_a_lock(database, asked)
        late = await asked
        if act in ("sign out", "revoke a device") and what == "sign in":
            assert late.status == 200  # the password proves it anew; what went before is over
        else:
            assert late.status in (400, 401, 403), late.body
        assert (await api.refresh(before["refresh_token"])).status == 400
    with database.begin() as connection:
        active = connection.execute(select(tables.device.c.id).where(tables.device.c.revoked_at.is_(None))).all()
    assert active == []
    truth.check(database)


async def waiting_for_a_lock(database: ServiceDatabase, asked: asyncio.Task[Answer]) -> None:
    """Return when a request waits for a lock in this database (or is answered without)."""
    blocked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    end = time.monotonic() + 30
    while not asked.done():
        with database.begin() as connection:
            if connection.execute(blocked).scalar_one():
                return
        assert time.monotonic() < end, "the request neither waits nor is answered"
        await asyncio.sleep(0.01)


async def test_nobody_slips_in_while_they_are_suspended(
    service_url: str, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    crowd.administrator("olga", "owner")
    async with two(service_url, ROOMY) as services:
        admin = await services[0].token("olga", administrator=True)
        for number in range(5):
            name = f"person number {number}"
            person = crowd.person(name)
            first = await services[0].sign_in(name)
            token = first["access_token"]
            answers = await together(
                [
                    *(services[one % 2].call("POST", "/devices", {}, token=token) for one in range(8)),
                    *(services[one % 2].sign_in(name) for one in range(3)),
                    *(services[one % 2].refresh(first["refresh_token"]) for one in range(4)),
                    services[number % 2].call("POST", f"/admin/people/{person}/suspend", REASON, token=admin),
                    *(services[one % 2].call("POST", "/devices", {}, token=token) for one in range(8)),
                    *(services[one % 2].sign_in(name) for one in range(2)),
                    *(services[one % 2].refresh(first["refresh_token"]) for one in range(4)),
                ]
            )
            registered = [one for one in answers if one.status == 201]
            opened = [one for one in answers if one.status == 200 and "access_token" in one.body]
            assert await usable(gateway, registered) == []
            for one in opened:
                assert (await services[0].call("GET", "/me", token=one["access_token"])).code == "suspended"
                assert (await services[1].refresh(one["refresh_token"])).status == 400
            # Restored, the devices work again, and so do the sessions: nothing was ended.
            with database.begin() as connection:
                people.restore(connection, TESTER, person)
            assert len(await usable(gateway, registered)) == len(registered)
            for one in opened:
                assert (await services[0].call("GET", "/me", token=one["access_token"])).status == 200
    truth.check(database)


# Administration


async def test_of_many_changes_of_one_version_one_is_made(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.administrator("olga", "owner")
    amina = crowd.person("amina", clients=(1, 2, 3))
    path = f"/admin/people/{amina}"
    async with two(service_url) as services:
        admin = await services[0].token("olga", administrator=True)
        for round_number in range(3):
            seen = (await services[0].call("GET", path, token=admin)).headers["ETag"]
            # Each would change something, whatever was changed before.
            headers = {"If-Match": seen}
            calls: list[tuple[str, str, Any]] = [
                *(("PATCH", path, {"username": f"amina {round_number} {one}"}) for one in range(6)),
                *(("POST", f"{path}/clients", {"clients": [100 * round_number + one + 4]}) for one in range(6)),
                *(
                    (
                        "PUT",
                        f"{path}/permissions",
                        {"permissions": [], "history_months": 10 * round_number + one + 1},
                    )
                    for one in range(6)
                ),
                ("DELETE", f"{path}/clients/{round_number + 1}", None),
            ]
            answers = await together(
                services[number % 2].call(method, where, body, token=admin, headers=headers)
                for number, (method, where, body) in enumerate(calls)
            )
            assert statuses(answers) == {200: 1, 412: len(calls) - 1}
            (winner,) = [one for one in answers if one.status == 200]
            assert winner["version"] == round_number + 2
            assert winner.headers["ETag"] != seen
    truth.check(database)


async def test_changes_of_whatever_version_are_all_made(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.administrator("olga", "owner")
    amina = crowd.person("amina", clients=(1,))
    async with two(service_url) as services:
        admin = await services[0].token("olga", administrator=True)
        answers = await together(
            services[number % 2].call(
                "POST",
                f"/admin/people/{amina}/clients",
                {"clients": [number // 2 + 2, 3]},
                token=admin,
                headers={"If-Match": "*"},
            )
            for number in range(30)
        )
    assert statuses(answers) == {200: 30}
    with database.begin() as connection:
        shown = people.show(connection, amina)
    assert shown.clients == list(range(1, 17))
    assert shown.version == 1 + [row.event for row in truth.events(database)].count("ClientsLinked")
    truth.check(database)


async def test_one_of_many_takes_a_user_name(service_url: str, crowd: Crowd, database: ServiceDatabase) -> None:
    crowd.administrator("olga", "owner")
    async with two(service_url) as services:
        admin = await services[0].token("olga", administrator=True)
        answers = await together(
            services[number % 2].call("POST", "/admin/people", {"username": name}, token=admin)
            for number, name in enumerate(["amina", "AMINA", " Amina "] * 4)
        )
    assert statuses(answers) == {201: 1, 409: 11}
    truth.check(database)


async def test_one_of_many_erases_a_person_and_the_others_find_nobody(
    service_url: str, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    crowd.administrator("olga", "owner")
    async with two(service_url) as services:
        admin = await services[0].token("olga", administrator=True)
        for number in range(5):
            name = f"person number {number}"
            person = crowd.person(name, clients=(1, 2))
            first = await services[0].sign_in(name)
            token = first["access_token"]
            device = await services[0].call("POST", "/devices", {}, token=token)
            path = f"/admin/people/{person}"
            erasing = [services[one % 2].call("POST", f"{path}/erase", REASON, token=admin) for one in range(8)]
            looking = [
                services[one % 2].call("GET", where, token=whose)
                for one in range(6)
                for where, whose in (
                    (path, admin),
                    (f"{path}/devices", admin),
                    (f"{path}/preview", admin),
                    ("/me", token),
                    ("/devices", token),
                )
            ]
            changing = [
                services[0].call("POST", f"{path}/suspend", REASON, token=admin),
                services[1].call("POST", "/devices", {}, token=token),
                services[0].refresh(first["refresh_token"]),
                services[1].sign_in(name),
                services[0].call(
                    "POST", f"{path}/clients", {"clients": [3]}, token=admin, headers={"If-Match": "*"}
                ),
            ]
            answers = await together([*erasing, *looking, *changing])
            assert statuses(answers[: len(erasing)]) == {200: 1, 404: 7}
            assert await truth.gateway_says(gateway, device["username"], device["password"]) == "unknown"
            assert (await services[0].call("GET", "/me", token=token)).status == 401
            told = [row.event for row in truth.events(database) if row.person == person]
            assert told.count("PersonDeleted") == 1
        assert (await services[0].call("GET", "/admin/people", token=admin))["items"] == []
    truth.check(database)


@pytest.mark.parametrize(
    "path", ["/me", "/admin/people/{}", "/admin/people/{}/devices", "/admin/people/{}/preview"]
)
async def test_whoever_is_deleted_during_a_look_is_not_found(
    service_url: str, crowd: Crowd, database: ServiceDatabase, path: str
) -> None:
    crowd.administrator("olga", "owner")
    amina = crowd.person("amina")
    async with serving(service_url) as api:
        token = await (api.token("amina") if path == "/me" else api.token("olga", administrator=True))
        assert api.service is not None

        search = "WHERE session.id =" if path == "/me" else "lower(person.username) = lower("
        deleted: list[str] = []

        def delete(*details: Any) -> None:
            # Between the search for the person, or for who asks, and the reading of what is known of them.
            if search in details[2] and not deleted:
                deleted.append(amina)
                database.run(people.begin_deletion, TESTER, amina)

        event.listen(api.service.database.engine, "after_cursor_execute", delete)
        answer = await api.call("GET", path.format(amina), token=token)
        assert deleted
        assert (answer.status, answer.code) == (404, "not_found")
    truth.check(database)


async def test_the_last_owner_cannot_be_lost(service_url: str, crowd: Crowd, database: ServiceDatabase) -> None:
    names = ("olga", "omar")
    async with two(service_url) as services:
        ids = {name: crowd.administrator(name, "owner") for name in names}
        for change in ({"role": "support"}, {"state": "suspended"}, {"role": "manager"}):
            tokens = {name: await services[0].token(name, administrator=True) for name in names}
            answers = await together(
                services[number % 2].call(
                    "PATCH",
                    f"/admin/administrators/{ids[victim]}",
                    change,
                    token=tokens[who],
                    headers={"If-Match": "*"},
                )
                for number, (who, victim) in enumerate([("olga", "omar"), ("omar", "olga")] * 3)
            )
            # The second comes too late, in one way or another; who is changed already stays so.
            assert set(statuses(answers)) <= {200, 401, 403, 409}
            administrator = tables.administrator
            with database.begin() as connection:
                owners = select(administrator.c.id).where(
                    administrator.c.role == "owner", administrator.c.state == "active"
                )
                assert len(connection.execute(owners).all()) == 1
            with database.begin() as connection:
                for one in ids.values():
                    administrators.change(connection, TESTER, one, role="owner", state="active")
    truth.check(database)


async def test_an_approval_is_decided_once(service_url: str, crowd: Crowd, database: ServiceDatabase) -> None:
    crowd.administrator("olga", "owner")
    crowd.administrator("omar", "owner")
    async with two(service_url, {"PASSBOOK_SECOND_APPROVER": "true"}) as services:
        olga, omar = [await services[0].token(name, administrator=True) for name in ("olga", "omar")]
        for number in range(3):
            person = crowd.person(f"person number {number}")
            asked = await services[0].call("POST", f"/admin/people/{person}/erase", REASON, token=olga)
            assert asked.status == 202
            path = f"/admin/approvals/{asked['approval']}"
            answers = await together(
                [
                    *(services[one % 2].call("POST", f"{path}/approve", token=omar) for one in range(6)),
                    services[0].call("POST", f"{path}/refuse", token=olga),
                ]
            )
            assert statuses(answers) == {200: 1, 409: 6}
            (winner,) = [one for one in answers if one.status == 200]
            gone = (await services[0].call("GET", f"/admin/people/{person}", token=olga)).status == 404
            assert gone == (winner["state"] == "approved")
    truth.check(database)


def test_the_first_administrator_is_made_once(service_url: str, database: ServiceDatabase) -> None:
    parts = [ServiceDatabase(service_url) for _ in range(5)]
    settings = Settings.load({"PASSBOOK_AUTH_SECRET": SECRET})
    barrier = Barrier(len(parts))

    def prepare(one: ServiceDatabase) -> Any:
        barrier.wait()
        return preparation.prepare(settings, one, administrator="owner")

    with ThreadPoolExecutor(len(parts)) as threads:
        done = list(threads.map(prepare, parts))
    assert [one["signing_key"] for one in done].count("made") == 1
    assert len([one for one in done if one["administrator"] != "there"]) == 1
    assert count(database, tables.administrator) == 1
    assert count(database, tables.signing_key) == len(keys.PURPOSES)
    for one in parts:
        one.dispose()
    truth.check(database)


async def test_access_switched_off_and_on_by_many_is_told_in_order(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.administrator("olga", "owner")
    async with two(service_url) as services:
        admin = await services[0].token("olga", administrator=True)
        answers = await together(
            services[number % 2].call("PUT", "/admin/tenant", {"open": number % 3 == 0, **REASON}, token=admin)
            for number in range(30)
        )
    assert statuses(answers) == {200: 30}
    truth.check(database)
