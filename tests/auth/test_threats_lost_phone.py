"""A lost phone: whatever was begun on it ends with its device, and what cannot be told from that ends too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.credentials import DatabaseCredentials
from tests.auth.running import passbook
from tests.auth.test_signing_in import NEW, basic
from tests.support import truth
from tests.support.api import PASSWORD, Answer, Api, Crowd, serving
from tests.support.processes import eventually

REASON = {"reason": "a phone was lost, ticket 4711"}
Way = Callable[[Api, str, str], Awaitable[Any]]


class Phone:
    """An app on one phone: the key of its installation, the sessions begun there, its device."""

    def __init__(self, api: Api, username: str = "amina") -> None:
        self.api, self.username = api, username
        self.key: str | None = str(uuid4())
        self.sessions: list[Answer] = []
        self.device: Answer | None = None

    async def sign_in(self) -> Answer:
        form = {"grant_type": "password", "username": self.username, "password": PASSWORD}
        if self.key is not None:
            form["installation_key"] = self.key
        opened = await self.api.call("POST", "/oauth/token", form=form)
        assert opened.status == 200, opened.body
        self.sessions.append(opened)
        return opened

    async def register(self, session: Answer, **headers: str) -> Answer:
        made = await self.api.call("POST", "/devices", {}, token=session["access_token"], headers=headers)
        assert made.status == 201, made.body
        self.device = made
        return made


async def is_over(api: Api, session: Answer) -> bool:
    """Whether nothing can be had with a session any more; asserts that it is over, or goes on, in every way."""
    me = await api.call("GET", "/me", token=session["access_token"])
    if me.status == 200:
        again = await api.refresh(session["refresh_token"])
        assert again.status == 200, again.body
        session.body.update(again.body)
        return False
    assert (me.status, me.code) == (401, "session_ended")
    device = await api.call("POST", "/devices", {}, token=session["access_token"])
    assert (device.status, device.code) == (401, "session_ended")
    again = await api.refresh(session["refresh_token"])
    assert (again.status, again.code) == (400, "session_ended")
    return True


async def _by_an_administrator(api: Api, device: str, _: str, what: str = "revoke") -> None:
    olga = await api.token("olga", administrator=True)
    done = await api.call("POST", f"/admin/devices/{device}/{what}", REASON, token=olga)
    assert (done.status, done["state"]) == (200, "revoked")


async def _wiped(api: Api, device: str, _: str) -> None:
    await _by_an_administrator(api, device, _, "wipe")


async def _among_many(api: Api, device: str, _: str) -> None:
    olga = await api.token("olga", administrator=True)
    done = await api.call("POST", "/admin/devices/revoke", {"devices": [device], **REASON}, token=olga)
    assert (done.status, done["revoked"]) == (200, 1)


async def _by_its_person(api: Api, device: str, token: str) -> None:
    assert (await api.call("DELETE", f"/devices/{device}", token=token)).status == 200


_WAYS: dict[str, Way] = {
    "an administrator": _by_an_administrator,
    "a wipe": _wiped,
    "many at once": _among_many,
    "its person": _by_its_person,
}


@pytest.mark.parametrize("way", _WAYS)
async def test_T34_every_session_begun_on_a_lost_phone_ends_with_its_device(
    api: Api, crowd: Crowd, database: ServiceDatabase, way: str
) -> None:
    crowd.person("amina")
    crowd.person("bela")
    crowd.administrator("olga", "owner")
    lost, other, web, stranger = Phone(api), Phone(api), Phone(api), Phone(api, "bela")
    web.key = None
    before_registering = await lost.sign_in()
    first = await lost.sign_in()
    await lost.register(first)
    later = [await lost.sign_in(), await lost.sign_in()]
    await other.register(await other.sign_in())
    away = await other.sign_in()
    nowhere = await web.sign_in()
    await stranger.register(await stranger.sign_in())
    assert lost.device is not None
    assert not any([await is_over(api, one) for one in (before_registering, first, *later, nowhere)])

    await _WAYS[way](api, lost.device["device"], away["access_token"])
    assert all([await is_over(api, one) for one in (before_registering, first, *later)])
    # What cannot be told apart ends with it; another phone of hers, and other people, notice nothing.
    assert await is_over(api, nowhere)
    assert not any([await is_over(api, one) for one in (*other.sessions, *stranger.sessions)])
    truth.check(database)
    # The password lets her in again on the same phone, and that is a new beginning.
    await lost.register(await lost.sign_in())
    assert not await is_over(api, lost.sessions[-1])
    assert all([await is_over(api, one) for one in (before_registering, first, *later)])


async def test_T34_sessions_that_name_no_phone_end_however_late_they_began(api: Api, crowd: Crowd) -> None:
    """The attack as it was seen: an app that knows nothing of installation keys."""
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    phone = Phone(api)
    phone.key = None
    a = await phone.sign_in()
    device = await phone.register(a)
    b = await phone.sign_in()
    await _by_an_administrator(api, device["device"], "")
    assert await is_over(api, a)
    assert await is_over(api, b)


async def test_T34_the_command_line_ends_them_too(
    api: Api, crowd: Crowd, service_url: str, tmp_path: Path, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    phone = Phone(api)
    device = await phone.register(await phone.sign_in())
    await phone.sign_in()
    done = await asyncio.to_thread(passbook, service_url, tmp_path, "device", "revoke", device["device"])
    assert done.returncode == 0, done.stderr
    assert all([await is_over(api, one) for one in phone.sessions])
    truth.check(database)


async def test_T34_what_a_session_of_the_phone_registered_elsewhere_ends_with_it(
    api: Api, crowd: Crowd, database: ServiceDatabase, service_url: str
) -> None:
    """Whoever has the unlocked phone for a minute takes a second credential home."""
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    phone = Phone(api)
    mine = await phone.register(await phone.sign_in())
    taken = [await phone.register(phone.sessions[0]), await phone.register(await phone.sign_in())]
    gateway = DatabaseCredentials.at(service_url)
    try:
        for one in (mine, *taken):
            assert (await truth.gateway_says(gateway, one["username"], one["password"])).startswith("person-")
        await _wiped(api, mine["device"], "")
        for one in (mine, *taken):
            assert await truth.gateway_says(gateway, one["username"], one["password"]) == "revoked"
    finally:
        await gateway.close()
    assert all([await is_over(api, one) for one in phone.sessions])
    olga = await api.token("olga", administrator=True)
    shown = (await api.call("GET", "/admin/devices", token=olga))["items"]
    assert {(one["state"], one["wipe"]) for one in shown} == {("revoked", "delivered")}
    truth.check(database)


async def test_T34_a_wipe_does_not_reach_what_was_registered_after_the_revocation(api: Api, crowd: Crowd) -> None:
    """The phone was found again; that the old device is to wipe concerns the old device."""
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    phone = Phone(api)
    old = await phone.register(await phone.sign_in())
    await _by_an_administrator(api, old["device"], "")
    new = await phone.register(await phone.sign_in())
    await _wiped(api, old["device"], "")
    assert not await is_over(api, phone.sessions[-1])
    shown = (await api.call("GET", "/devices", token=phone.sessions[-1]["access_token"]))["items"]
    assert {one["device"]: one["state"] for one in shown} == {old["device"]: "revoked", new["device"]: "active"}


async def test_T34_a_claim_that_is_not_proved_attaches_and_ends_nothing(api: Api, crowd: Crowd) -> None:
    """Bela knows everything about Amina's phone but its key; and a thief of hers guesses."""
    crowd.person("amina")
    crowd.person("bela")
    crowd.administrator("olga", "owner")
    good = Phone(api)
    device = await good.register(await good.sign_in())
    # The same key, but of somebody else: her sessions are her own.
    bela = Phone(api, "bela")
    bela.key = good.key
    hers = await bela.register(await bela.sign_in())
    # A wrong key, a device's id for a key, no key: none is a session of Amina's phone, all of them end with it …
    claims = [Phone(api) for _ in range(3)]
    claims[0].key, claims[1].key = device["device"], None
    for one in claims:
        await one.sign_in()
    away = Phone(api)
    other = await away.register(await away.sign_in())
    # … and already with another phone that is revoked, as they belong to none that is there.
    await _by_an_administrator(api, other["device"], "")
    assert all([await is_over(api, one.sessions[0]) for one in (*claims, away)])
    assert not any([await is_over(api, one) for one in (*good.sessions, *bela.sessions)])
    await _by_an_administrator(api, hers["device"], "")
    assert not await is_over(api, good.sessions[0])
    assert await is_over(api, bela.sessions[0])


async def test_T34_a_repeated_registration_shows_on_which_phone_a_session_is(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    for keyed in (False, True):
        phone = Phone(api)
        if not keyed:
            phone.key = None
        key = {"Idempotency-Key": str(uuid4())}
        first = await phone.register(await phone.sign_in(), **key)
        phone.key = str(uuid4()) if keyed else None  # the app lost it
        again = await phone.register(await phone.sign_in(), **key)
        assert again["device"] == first["device"]
        # Another phone is revoked: both sessions are known to be elsewhere.
        other = Phone(api)
        gone = await other.register(await other.sign_in())
        await _by_an_administrator(api, gone["device"], "")
        assert not any([await is_over(api, one) for one in phone.sessions])
        await _by_an_administrator(api, first["device"], "")
        assert all([await is_over(api, one) for one in phone.sessions])


async def test_T34_basic_sign_in_names_its_phone_in_a_header(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    phone, other = Phone(api), Phone(api)
    await phone.register(await phone.sign_in())
    headers = {**basic("amina", PASSWORD), "Installation-Key": str(phone.key)}
    simple = await api.call("POST", "/authentication", headers=headers)
    assert simple.status == 200
    gone = await other.register(await other.sign_in())
    await _by_an_administrator(api, gone["device"], "")
    assert not await is_over(api, simple)


@pytest.mark.parametrize(
    "key", ["", "short", "x" * 15, "x" * 201, "a key with spaces in it", "ключ-ключ-ключ-ключ"]
)
async def test_T34_a_key_that_could_be_guessed_is_refused(api: Api, crowd: Crowd, key: str) -> None:
    crowd.person("amina")
    form = {"grant_type": "password", "username": "amina", "password": PASSWORD, "installation_key": key}
    refused = await api.call("POST", "/oauth/token", form=form)
    assert (refused.status, refused.code, refused["error"]) == (400, "invalid_request", "invalid_request")


async def test_T34_an_expired_device_is_no_lost_one(api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
    """It has not synchronised for long: the session may register it again, and belongs to the phone as before."""
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    phone = Phone(api)
    old = await phone.register(await phone.sign_in())
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE device SET expires_at = now()")
    assert not await is_over(api, phone.sessions[0])
    new = await phone.register(phone.sessions[0])
    await _by_an_administrator(api, old["device"], "")
    assert await is_over(api, phone.sessions[0])
    listed = await api.call(
        "GET", f"/admin/devices/{new['device']}", token=await api.token("olga", administrator=True)
    )
    assert listed["state"] == "revoked"


async def test_T34_whoever_ends_all_devices_but_this_session_can_go_on(api: Api, crowd: Crowd) -> None:
    """A new password, everything else signed out: the session that proved the password registers anew."""
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    phone = Phone(api)
    await phone.register(await phone.sign_in())
    here = phone.sessions[0]
    body = {"current": PASSWORD, "new": NEW, "sign_out_others": True}
    changed = await api.call("POST", "/password", body, token=here["access_token"])
    assert changed.body == {"sessions_ended": 0, "devices_revoked": 1}
    device = await phone.register(here)
    await _by_an_administrator(api, device["device"], "")
    assert await is_over(api, here)


async def test_T34_a_credential_has_a_longest_life_however_often_it_is_used(
    service_url: str, crowd: Crowd, database: ServiceDatabase, tmp_path: Path
) -> None:
    """A phone that nobody misses goes on synchronising, but not for ever."""
    crowd.person("amina")
    gateway = DatabaseCredentials.at(service_url, device_days=90)
    lives = {"PASSBOOK_DEVICE_LONGEST_DAYS": "100"}
    try:
        async with serving(service_url, lives) as api:
            phone = Phone(api)
            made = await phone.register(await phone.sign_in())

        def days(column: str) -> float:
            with database.begin() as connection:
                row = connection.exec_driver_sql(f"SELECT extract(epoch FROM {column} - now()) / 86400 FROM device")
                return round(float(row.scalar_one()), 2)

        def pass_time(length: int) -> None:
            # As if it had all been so many days ago, end and expiry included.
            moved = ", ".join(
                f"{column} = {column} - interval '{length} days'"
                for column in ("created_at", "expires_at", "ends_at", "last_synchronised_at")
            )
            with database.begin() as connection:
                connection.exec_driver_sql(f"UPDATE device SET {moved}")

        assert (days("expires_at"), days("ends_at")) == (90, 100)
        for passed, expires, ends in ((5, 90, 95), (15, 80, 80), (40, 40, 40)):
            pass_time(passed)
            assert (await truth.gateway_says(gateway, made["username"], made["password"])).startswith("person-")
            await gateway.seen(made["device"])
            assert (days("expires_at"), days("ends_at")) == (expires, ends)
        listed = await asyncio.to_thread(passbook, service_url, tmp_path, "device", "list", "--json")
        assert (
            json.loads(listed.stdout)[0]["ends_at"][:10]
            == (datetime.now(UTC) + timedelta(days=40)).isoformat()[:10]
        )
        pass_time(40)
        await gateway.seen(made["device"])
        assert await truth.gateway_says(gateway, made["username"], made["password"]) == "expired"
        # The setting holds for devices that are there already, in both directions, once the service has swept.
        pass_time(-60)
        for setting, ends in (("70", 30), ("365", 325)):
            async with serving(service_url, {"PASSBOOK_DEVICE_LONGEST_DAYS": setting}):
                await asyncio.to_thread(eventually, lambda ends=ends: days("ends_at") == ends, "the sweep")
            assert days("expires_at") == 30
        assert (await truth.gateway_says(gateway, made["username"], made["password"])).startswith("person-")
    finally:
        await gateway.close()


async def test_T34_a_new_password_ends_sessions_and_says_how_many_devices_go_on(
    api: Api, crowd: Crowd, service_url: str, tmp_path: Path
) -> None:
    amina = crowd.person("amina")
    crowd.administrator("olga", "owner")
    phone = Phone(api)
    made = await phone.register(await phone.sign_in())
    olga = await api.token("olga", administrator=True)
    path = f"/admin/people/{amina}/reset-password"
    gateway = DatabaseCredentials.at(service_url)
    try:
        for body, devices, says in (({}, 1, amina), ({"revoke_devices": True}, 0, "revoked")):
            reset = await api.call("POST", path, body, token=olga)
            assert (reset.status, reset["person"]["devices"]) == (200, devices)
            assert await is_over(api, phone.sessions[0])
            assert await truth.gateway_says(gateway, made["username"], made["password"]) == says
    finally:
        await gateway.close()
    said = await asyncio.to_thread(passbook, service_url, tmp_path, "person", "reset-password", "--help")
    assert "Devices go on synchronising" in said.stdout
