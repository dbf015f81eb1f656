"""Signing a phone out, suspending a person, and what an app is told about the end of its access."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import func, update

from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.credentials import DatabaseCredentials
from tests.auth.test_threats_lost_phone import REASON, Phone, is_over
from tests.support import truth
from tests.support.api import HASH, PASSWORD, Answer, Api, Crowd

NEW = "seven blue boats sail south"


@pytest.fixture
async def gateway(database: ServiceDatabase) -> AsyncIterator[DatabaseCredentials]:
    made = DatabaseCredentials.at(database.url.render_as_string(hide_password=False))
    yield made
    await made.close()


async def says(gateway: DatabaseCredentials, device: Answer | None) -> tuple[str, str | None]:
    """What the gateway tells a device: whose database, or why not."""
    assert device is not None
    return await truth.gateway_tells(gateway, device["device"], device["password"])


async def sign_out(api: Api, session: Answer, **more: str) -> Answer:
    return await api.call("POST", "/sign-out", {"refresh_token": session["refresh_token"], **more})


async def because(api: Api, session: Answer) -> str | None:
    """Why a session is over, as it is told with either of its tokens."""
    assert await is_over(api, session)
    me = await api.call("GET", "/me", token=session["access_token"])
    refreshed = await api.refresh(session["refresh_token"])
    told: set[str | None] = {answer.body.get("because") for answer in (me, refreshed)}
    assert len(told) == 1
    return told.pop()


@pytest.mark.parametrize("by", ["refresh token", "access token"])
async def test_one_call_signs_a_phone_out_and_no_other(
    api: Api, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials, by: str
) -> None:
    amina, bela = crowd.person("amina"), crowd.person("bela")
    phone, other, stranger = Phone(api), Phone(api), Phone(api, "bela")
    for one in (phone, other, stranger):
        await one.register(await one.sign_in())
    later = await phone.sign_in()
    phone_before = phone.device
    await phone.register(later)
    web = Phone(api)
    web.key = None
    nowhere = await web.sign_in()

    async def ask() -> Answer:
        if by == "refresh token":
            return await sign_out(api, later)
        return await api.call("POST", "/sign-out", token=later["access_token"])

    done = await ask()
    assert (done.status, done.body) == (200, {"sessions_ended": 2, "devices_revoked": 2})
    for device in (phone_before, phone.device):
        assert await says(gateway, device) == ("revoked", "signed_out")
    assert [await because(api, one) for one in phone.sessions] == ["signed_out"] * 2
    assert (await says(gateway, other.device), await says(gateway, stranger.device)) == (
        (amina, None),
        (bela, None),
    )
    assert not any([await is_over(api, one) for one in (*other.sessions, *stranger.sessions, nowhere)])
    # The answer got lost, and it is asked again.
    again = await ask()
    assert (again.status, again.body) == (200, {"sessions_ended": 0, "devices_revoked": 0})
    truth.check(database)


async def test_a_request_to_sign_out_that_comes_late_ends_nothing_of_who_came_after(
    api: Api, crowd: Crowd, gateway: DatabaseCredentials
) -> None:
    amina = crowd.person("amina")
    phone = Phone(api)
    before = await phone.sign_in()
    await phone.register(before)
    await sign_out(api, before)
    await phone.register(await phone.sign_in())
    late = await sign_out(api, before)
    assert (late.status, late.body) == (200, {"sessions_ended": 0, "devices_revoked": 0})
    assert await says(gateway, phone.device) == (amina, None)
    assert not await is_over(api, phone.sessions[-1])


async def test_whatever_became_of_the_token_the_phone_is_signed_out(
    api: Api, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    """Somebody who presses "sign out" is not to be told that it is done while the phone goes on."""
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    spent, expired, ended = Phone(api), Phone(api), Phone(api)
    for one in (spent, expired, ended):
        await one.register(await one.sign_in())
    await api.refresh(spent.sessions[0]["refresh_token"])
    assert (await sign_out(api, spent.sessions[0]))["devices_revoked"] == 1
    with database.begin() as connection:
        connection.execute(update(tables.session).values(expires_at=func.now()))
    assert await because(api, expired.sessions[0]) == "expired"
    assert (await sign_out(api, expired.sessions[0]))["devices_revoked"] == 1
    # A new password ends sessions and leaves the phone alone.
    olga = await api.token("olga", administrator=True)
    path = f"/admin/people/{(await people(api, olga))['amina']}"
    reset = await api.call("POST", f"{path}/reset-password", REASON, token=olga)
    assert reset.status == 200
    assert (await sign_out(api, ended.sessions[0]))["devices_revoked"] == 1
    for one in (spent, expired, ended):
        assert await says(gateway, one.device) == ("revoked", "signed_out")
    truth.check(database)


async def people(api: Api, token: str) -> dict[str, str]:
    listed = await api.call("GET", "/admin/people", token=token)
    return {one["username"]: one["person"] for one in listed["items"]}


async def test_an_app_that_sends_no_installation_key_names_its_device(
    api: Api, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    amina = crowd.person("amina")
    crowd.person("bela")
    phone, stranger = Phone(api), Phone(api, "bela")
    phone.key = None
    first = await phone.sign_in()
    device = await phone.register(first)
    second = await phone.sign_in()  # nothing tells that it is on the same phone
    theirs = await stranger.register(await stranger.sign_in())
    refused = await sign_out(api, second, device=theirs["device"])
    assert (refused.status, refused.code) == (404, "not_found")
    assert await says(gateway, device) == (amina, None)
    for ends in ({"sessions_ended": 2, "devices_revoked": 1}, {"sessions_ended": 0, "devices_revoked": 0}):
        done = await sign_out(api, second, device=device["device"])
        assert (done.status, done.body) == (200, ends)
    assert [await because(api, one) for one in (first, second)] == ["signed_out"] * 2
    # A session that is over says nothing about other phones.
    other = Phone(api)
    tablet = await other.register(await other.sign_in())
    refused = await sign_out(api, second, device=tablet["device"])
    assert (refused.status, refused.code) == (401, "session_ended")
    assert (await says(gateway, tablet))[0] == amina
    truth.check(database)


async def test_who_has_no_token_signs_nobody_out(api: Api, crowd: Crowd, gateway: DatabaseCredentials) -> None:
    amina = crowd.person("amina")
    crowd.administrator("olga", "owner")
    phone = Phone(api)
    device = await phone.register(await phone.sign_in())
    olga = await api.sign_in("olga", administrator=True)
    for body, token, code in (
        (None, None, "token_missing"),
        ({}, None, "token_missing"),
        ({"device": device["device"]}, None, "token_missing"),
        ({"refresh_token": "pbr_none"}, None, "session_ended"),
        ({"refresh_token": "pbr_none", "device": device["device"]}, None, "session_ended"),
        ({"refresh_token": olga["refresh_token"]}, None, "session_ended"),
        ({}, olga["access_token"], "wrong_audience"),
        ({}, "no.token.atall", "token_invalid"),
    ):
        refused = await api.call("POST", "/sign-out", body, token=token)
        assert (refused.status, refused.code) == (401, code), body
        assert "because" not in refused.body
    assert await says(gateway, device) == (amina, None)


async def test_revoking_a_token_ends_its_session_alone(
    api: Api, crowd: Crowd, gateway: DatabaseCredentials
) -> None:
    amina = crowd.person("amina")
    phone = Phone(api)
    device = await phone.register(await phone.sign_in())
    token = phone.sessions[0]["refresh_token"]
    assert (await api.call("POST", "/oauth/revoke", form={"token": token})).status == 200
    assert await because(api, phone.sessions[0]) == "signed_out"
    assert await says(gateway, device) == (amina, None)
    # With the same token the phone can still be signed out.
    assert (await sign_out(api, phone.sessions[0])).body == {"sessions_ended": 0, "devices_revoked": 1}


async def test_registering_and_signing_out_at_the_same_moment_leave_no_device_behind(
    api: Api, crowd: Crowd, gateway: DatabaseCredentials
) -> None:
    crowd.person("amina")
    for _ in range(3):
        phone = Phone(api)
        session = await phone.sign_in()
        made, done = await asyncio.gather(
            api.call("POST", "/devices", {}, token=session["access_token"]), sign_out(api, session)
        )
        assert done.status == 200
        if made.status == 201:
            assert await says(gateway, made) == ("revoked", "signed_out")
        else:
            assert (made.status, made.code) == (401, "session_ended")


async def test_suspension_keeps_somebody_out_and_ends_nothing(
    api: Api, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    amina = crowd.person("amina")
    crowd.administrator("olga", "owner")
    olga = await api.token("olga", administrator=True)
    phone = Phone(api)
    device = await phone.register(await phone.sign_in())
    session = phone.sessions[0]

    async def act(what: str) -> None:
        done = await api.call("POST", f"/admin/people/{amina}/{what}", REASON, token=olga)
        assert done.status == 200, done.body

    for _ in range(2):
        await act("suspend")
        assert await says(gateway, device) == ("suspended", None)
        for _ in range(2):  # refused as often as it is asked, and nothing is spent
            refreshed = await api.refresh(session["refresh_token"])
            assert (refreshed.status, refreshed.code) == (400, "suspended")
        for method, path in (("GET", "/me"), ("POST", "/devices"), ("GET", "/devices")):
            refused = await api.call(method, path, {} if method == "POST" else None, token=session["access_token"])
            assert (refused.status, refused.code) == (403, "suspended")
        refused = await api.sign_in("amina")
        assert (refused.status, refused.code) == (400, "suspended")
        await act("restore")
        assert await says(gateway, device) == (amina, None)
        assert not await is_over(api, session)
        again = await api.call("GET", "/devices", token=session["access_token"])
        assert [one["device"] for one in again["items"]] == [device["device"]]
    truth.check(database)


async def test_what_is_ended_while_somebody_is_suspended_stays_ended(
    api: Api, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    """Suspended because a phone was stolen: who restores them does not let the thief in again."""
    amina = crowd.person("amina")
    crowd.administrator("olga", "owner")
    olga = await api.token("olga", administrator=True)
    stolen, kept = Phone(api), Phone(api)
    for one in (stolen, kept):
        await one.register(await one.sign_in())
    assert stolen.device is not None
    await api.call("POST", f"/admin/people/{amina}/suspend", REASON, token=olga)
    done = await api.call("POST", f"/admin/devices/{stolen.device['device']}/revoke", REASON, token=olga)
    assert done.status == 200
    await api.call("POST", f"/admin/people/{amina}/restore", REASON, token=olga)
    assert await says(gateway, stolen.device) == ("revoked", "institution")
    assert await because(api, stolen.sessions[0]) == "institution"
    assert await says(gateway, kept.device) == (amina, None)
    assert not await is_over(api, kept.sessions[0])
    truth.check(database)


async def test_an_app_is_told_why_its_access_has_ended(
    api: Api, crowd: Crowd, database: ServiceDatabase, gateway: DatabaseCredentials
) -> None:
    amina = crowd.person("amina")
    crowd.administrator("olga", "owner")
    olga = await api.token("olga", administrator=True)

    async def a_phone() -> Phone:
        made = Phone(api)
        await made.register(await made.sign_in())
        return made

    here, there = await a_phone(), await a_phone()
    assert here.device is not None
    assert there.device is not None
    token = here.sessions[0]["access_token"]
    await api.call("DELETE", f"/devices/{there.device['device']}", token=token)
    assert await says(gateway, there.device) == ("revoked", "other_device")
    assert await because(api, there.sessions[0]) == "other_device"

    there = await a_phone()
    assert there.device is not None
    change = {"current": PASSWORD, "new": NEW, "sign_out_others": True, "keep_device": here.device["device"]}
    assert (await api.call("POST", "/password", change, token=token)).status == 200
    assert await says(gateway, there.device) == ("revoked", "password_changed")
    assert await because(api, there.sessions[0]) == "password_changed"

    await api.call("DELETE", f"/devices/{here.device['device']}", token=token)
    assert await says(gateway, here.device) == ("revoked", "signed_out")
    assert await because(api, here.sessions[0]) == "signed_out"

    with database.begin() as connection:
        connection.execute(update(tables.person).values(password_hash=HASH))
    one, two = await a_phone(), await a_phone()
    assert one.device is not None
    await api.call("POST", f"/admin/devices/{one.device['device']}/revoke", REASON, token=olga)
    assert await says(gateway, one.device) == ("revoked", "institution")
    assert await because(api, one.sessions[0]) == "institution"
    path = f"/admin/people/{amina}"
    await api.call("POST", f"{path}/reset-password", {"revoke_devices": True, **REASON}, token=olga)
    assert await says(gateway, two.device) == ("revoked", "password_changed")
    assert await because(api, two.sessions[0]) == "password_changed"
    # Somebody with the name of the device alone learns nothing, nor does a made-up token.
    assert two.device is not None
    assert await truth.gateway_tells(gateway, two.device["device"], uuid4().hex) == ("unknown", None)
    assert "because" not in (await api.refresh("pbr_none")).body
