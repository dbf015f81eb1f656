"""Signing in, going on, signing out: as an app does it, over HTTP."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

import argon2
import pytest
from sqlalchemy import select, update

from auth_service import devices, keys, passwords, people, tenant
from auth_service.tokens import PEOPLE
from passbook.audit import chain
from passbook.errors import Refused
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from tests.support.actors import TESTER
from tests.support.api import METRICS_TOKEN, PASSWORD, SECRET, Api, Crowd, serving

NEW = "seven blue boats sail south"


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


async def test_from_name_and_password_to_a_device(api: Api, crowd: Crowd) -> None:
    amina = crowd.person("amina", clients=(17, 18))
    answer = await api.sign_in("Amina")  # in any case
    assert answer.status == 200
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 600
    assert answer["must_change_password"] is False
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer["access_token"]
    for path in ("/me", "/oauth/userdetails"):
        me = await api.call("GET", path, token=token)
        assert me.status == 200
        assert me["person"] == amina
        assert me["clients"] == [17, 18]
    made = await api.call("POST", "/devices", {"name": "phone", "platform": "android"}, token=token)
    assert made.status == 201
    assert made["url"].endswith("/passbook")
    assert len(made["password"]) >= 43
    listed = await api.call("GET", "/devices", token=token)
    assert [(one["device"], one["name"], one["platform"], one["state"]) for one in listed["items"]] == [
        (made["device"], "phone", "android", "active")
    ]
    gone = await api.call("DELETE", f"/devices/{made['device']}", token=token)
    assert gone["state"] == "revoked"


async def test_a_revoked_phone_cannot_register_itself_anew(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    phone, tablet = await api.sign_in("amina"), await api.sign_in("amina")
    made = await api.call("POST", "/devices", {"name": "phone"}, token=phone["access_token"])
    await api.call("POST", "/devices", {"name": "tablet"}, token=tablet["access_token"])
    with database.begin() as connection:
        devices.revoke(connection, TESTER, made["device"], reason="stolen")
    again = await api.call("POST", "/devices", {"name": "phone"}, token=phone["access_token"])
    assert (again.status, again.code) == (401, "session_ended")
    assert (await api.refresh(phone["refresh_token"])).code == "session_ended"
    assert (await api.refresh(tablet["refresh_token"])).status == 200


async def test_basic_is_the_simple_way(api: Api, crowd: Crowd) -> None:
    amina = crowd.person("amina")
    answer = await api.call("POST", "/authentication", headers=basic("amina", PASSWORD))
    assert answer.status == 200
    assert answer["authenticated"] is True
    assert answer["me"]["person"] == amina
    assert (await api.call("GET", "/me", token=answer["access_token"])).status == 200
    for headers in (basic("amina", "wrong"), basic("nobody", PASSWORD), {}, {"Authorization": "Basic !!!"}):
        refused = await api.call("POST", "/authentication", headers=headers)
        assert refused.status == 401
        assert "WWW-Authenticate" in refused.headers


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password", "username": "amina"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "amina", "password": "wrong"}, "invalid_grant"),
        ({"grant_type": "password", "username": "am\0na", "password": PASSWORD}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "pbr_none"}, "invalid_grant"),
        ({"grant_type": "password", "username": "amina", "password": "x" * 3000}, "invalid_request"),
    ],
)
async def test_errors_are_those_of_rfc_6749(api: Api, crowd: Crowd, form: dict[str, str], error: str) -> None:
    crowd.person("amina")
    answer = await api.call("POST", "/oauth/token", form=form)
    assert answer.status == 400
    assert answer["error"] == error
    assert answer["error_description"] == answer["message"]
    assert answer["request_id"]


async def test_json_is_no_form(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    body = {"grant_type": "password", "username": "amina", "password": PASSWORD}
    answer = await api.call("POST", "/oauth/token", body)
    assert (answer.status, answer["error"]) == (400, "invalid_request")


async def test_an_initial_password_opens_nothing_but_the_change_of_it(api: Api, crowd: Crowd) -> None:
    crowd.person("amina", must_change=True)
    answer = await api.sign_in("amina")
    assert answer["must_change_password"] is True
    token = answer["access_token"]
    assert (await api.call("GET", "/me", token=token)).status == 200
    for method, path in (("POST", "/devices"), ("GET", "/devices")):
        refused = await api.call(method, path, {} if method == "POST" else None, token=token)
        assert (refused.status, refused.code) == (403, "password_change_required")
    changed = await api.call("POST", "/password", {"current": PASSWORD, "new": NEW}, token=token)
    assert changed.status == 200
    assert (await api.call("GET", "/devices", token=token)).status == 200
    assert (await api.sign_in("amina")).status == 400
    assert (await api.sign_in("amina", NEW))["must_change_password"] is False


async def test_a_weak_new_password_changes_nothing(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    token = await api.token("amina")
    for weak in ("short", "password123", "amina-amina-amina", "x" * 500):
        answer = await api.call("POST", "/password", {"current": PASSWORD, "new": weak}, token=token)
        assert (answer.status, answer.code) == (400, "weak_password")
        assert weak not in answer.raw.decode()
    wrong = await api.call("POST", "/password", {"current": "not it", "new": NEW}, token=token)
    assert (wrong.status, wrong.code) == (401, "unknown")
    assert (await api.sign_in("amina")).status == 200


async def test_a_new_password_signs_the_others_out_on_request(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    first, second = await api.sign_in("amina"), await api.sign_in("amina")
    token = first["access_token"]
    kept = await api.call("POST", "/devices", {}, token=token)
    await api.call("POST", "/devices", {}, token=token)
    body = {"current": PASSWORD, "new": NEW, "sign_out_others": True, "keep_device": kept["device"]}
    answer = await api.call("POST", "/password", body, token=token)
    assert answer.body == {"sessions_ended": 1, "devices_revoked": 1}
    assert (await api.refresh(second["refresh_token"])).code == "session_ended"
    assert (await api.call("GET", "/me", token=second["access_token"])).status == 401
    listed = await api.call("GET", "/devices", token=token)
    assert {one["device"]: one["state"] for one in listed["items"]}[kept["device"]] == "active"
    assert sorted(one["state"] for one in listed["items"]) == ["active", "revoked"]


async def test_signing_out_ends_refreshing_and_the_access_token(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    answer = await api.sign_in("amina")
    out = await api.call("POST", "/oauth/revoke", form={"token": answer["refresh_token"]})
    assert out.status == 200
    assert (await api.refresh(answer["refresh_token"])).code == "session_ended"
    again = await api.call("GET", "/me", token=answer["access_token"])
    assert (again.status, again.code) == (401, "session_ended")
    # RFC 7009, 2.2: a token that is none is no error.
    assert (await api.call("POST", "/oauth/revoke", form={"token": "none"})).status == 200


async def test_somebody_suspended_is_told_so_only_with_the_right_password(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    before = await api.sign_in("amina")
    with database.begin() as connection:
        people.suspend(connection, TESTER, "amina")
    assert (await api.sign_in("amina")).code == "suspended"
    assert (await api.sign_in("amina", "wrong password")).code == "unknown"
    assert (await api.call("GET", "/me", token=before["access_token"])).code == "suspended"
    assert (await api.refresh(before["refresh_token"])).status == 400
    with database.begin() as connection:
        people.restore(connection, TESTER, "amina")
    # What was there goes on, as after the switch.
    assert (await api.call("GET", "/me", token=before["access_token"])).status == 200
    assert (await api.refresh(before["refresh_token"])).status == 200
    assert (await api.sign_in("amina")).status == 200


async def test_the_switch_keeps_everybody_out_and_administrators_in(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    before = await api.sign_in("amina")
    admin = await api.token("olga", administrator=True)
    off = await api.call("PUT", "/admin/tenant", {"open": False, "reason": "core migration"}, token=admin)
    assert off["open"] is False
    assert (await api.sign_in("amina")).code == "maintenance"
    assert (await api.refresh(before["refresh_token"])).code == "maintenance"
    assert (await api.call("GET", "/me", token=before["access_token"])).code == "maintenance"
    await api.token("olga", administrator=True)
    with database.begin() as connection:
        tenant.switch(connection, TESTER, to_open=True, reason="done")
    # What was there goes on: nobody has to sign in again.
    assert (await api.call("GET", "/me", token=before["access_token"])).status == 200
    assert (await api.refresh(before["refresh_token"])).status == 200


async def test_keys_are_rotated_without_logging_anybody_out(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    old = await api.sign_in("amina")
    with database.begin() as connection:
        kid = keys.rotate(connection, TESTER, SECRET, tokens_live=timedelta(seconds=600))
    assert api.service is not None
    api.service.keyring._read_at = float("-inf")  # as after the time for which keys are remembered
    assert (await api.call("GET", "/me", token=old["access_token"])).status == 200
    new = await api.refresh(old["refresh_token"])
    assert new.status == 200
    header = base64.urlsafe_b64decode(new["access_token"].split(".")[0] + "==")
    assert kid in header.decode()
    jwks = await api.call("GET", "/.well-known/jwks.json")
    assert len(jwks["keys"]) == 2
    assert all("d" not in key for key in jwks["keys"])
    # Another process that has not looked for a while meets the new key, and looks.
    api.service.keyring._keys.pop(kid)
    api.service.keyring._read_at -= 5
    assert (await api.call("GET", "/me", token=new["access_token"])).status == 200
    with database.begin() as connection:
        retired = tables.signing_key.c.retires_at.is_not(None)
        connection.execute(
            update(tables.signing_key).where(retired).values(retires_at=tables.signing_key.c.created_at)
        )
    api.service.keyring._read_at = float("-inf")
    assert (await api.call("GET", "/me", token=old["access_token"])).code == "token_invalid"


async def test_forty_devices_sign_in_at_once_with_the_right_password(api: Api, crowd: Crowd) -> None:
    """Though an attempt counts as failed until it has turned out well, and five are free."""
    crowd.person("amina")
    answers = await asyncio.gather(*(api.sign_in("amina") for _ in range(40)))
    assert [answer.status for answer in answers] == [200] * 40
    assert len({answer["refresh_token"] for answer in answers}) == 40


async def test_forty_guesses_at_once_are_five(api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
    crowd.person("amina")
    answers = await asyncio.gather(*(api.sign_in("amina", f"guess {number} of many") for number in range(40)))
    assert sorted(answer.status for answer in answers) == [400] * 5 + [429] * 35
    with database.begin() as connection:
        failed = chain.entries(connection, event="SignInFailed")
        assert len(failed) == 5
        assert len(chain.entries(connection, event="SignInSlowed")) == 1


async def test_a_hash_of_other_days_is_renewed(api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
    amina = crowd.person("amina")
    mine = tables.person.c.id == amina
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with database.begin() as connection:
        connection.execute(update(tables.person).where(mine).values(password_hash=old))
    await api.token("amina")
    with database.begin() as connection:
        now = connection.execute(select(tables.person.c.password_hash).where(mine)).scalar_one()
    assert now != old
    assert not passwords.needs_rehash(now)
    await api.token("amina")


async def test_a_lost_secret_costs_a_rotation_and_no_sign_in(service_url: str, crowd: Crowd) -> None:
    crowd.person("amina")
    async with serving(service_url) as api:
        before = await api.sign_in("amina")
    with pytest.raises(Refused, match="sealed with another secret"):
        async with serving(service_url, secret="another secret, which nobody has had so far"):
            pass
    with crowd.database.begin() as connection:
        keys.rotate(
            connection, TESTER, "another secret, which nobody has had so far", tokens_live=timedelta(seconds=600)
        )
    settings = {"PASSBOOK_AUTH_URL": "http://127.0.0.1:8720"}
    async with serving(service_url, settings, secret="another secret, which nobody has had so far") as api:
        assert (await api.call("GET", "/me", token=before["access_token"])).status == 200
        assert (await api.refresh(before["refresh_token"])).status == 200


async def test_metrics_count_every_outcome(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    await api.token("amina")
    await api.sign_in("amina", "wrong password")
    await api.sign_in("nobody")
    text = (await api.call("GET", "/metrics", token=METRICS_TOKEN)).raw.decode()
    for outcome in ("ok", "wrong_password", "unknown_name"):
        expected = f'passbook_auth_outcomes_total{{audience="{PEOPLE}",outcome="{outcome}",what="sign_in"}} 1.0'
        assert expected in text
    assert 'route="/oauth/token"' in text
    assert "amina" not in text


async def test_health_says_what_is_missing(api: Api, database: ServiceDatabase) -> None:
    assert (await api.call("GET", "/health/live")).body == {"ok": True, "missing": []}
    assert (await api.call("GET", "/health/ready")).status == 200
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    ready = await api.call("GET", "/health/ready")
    assert ready.status == 503
    assert ready["missing"] == ["service database: refused"]
    assert (await api.call("GET", "/health/live")).status == 200
