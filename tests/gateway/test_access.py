"""Who gets in, and to what."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from passbook.credentials import new_id
from passbook.servicedb import tables
from sync_gateway.app import build, serving
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.proxy import Upstream
from tests.gateway.conftest import NOW, Device, People, basic, settled
from tests.support.couch import Couch


async def ask(http: aiohttp.ClientSession, path: str, authorization: str | None) -> tuple[int, Any, dict[str, str]]:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with http.get(path, headers=headers) as response:
        return response.status, await response.json(), dict(response.headers)


async def test_each_device_reaches_its_own_database_only(
    couch: Couch, people: People, http: aiohttp.ClientSession
) -> None:
    devices = [await settled(couch, people) for _ in range(6)]
    for device in devices:
        await couch.write(device.database, {"_id": "passbook", "owner": device.person})

    async def reads(device: Device, database: str) -> bool:
        """Whether this device, naming that database in every way there is, gets its document."""
        tries = [
            (f"/{database}/passbook", {}),
            (f"/{database}/_changes?include_docs=true", {}),
            (f"/passbook/../{database}/passbook", {}),
            (f"/passbook/%2e%2e%2f{database}/passbook", {}),
            (
                f"/passbook/passbook?database={database}&db={database}",
                {"X-Database": database, "X-Person": database},
            ),
        ]
        for path, more in tries:
            async with http.get(path, headers={**device.headers, **more}) as response:
                owner = next(other.person for other in devices if other.database == database)
                if owner in await response.text():
                    return True
        return False

    seen = await asyncio.gather(*(reads(device, other.database) for device in devices for other in devices))
    assert seen == [device is other for device in devices for other in devices]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("device", {"revoked_at": NOW}), "revoked"),
        (("person", {"state": "suspended"}), "suspended"),
        (("person", {"state": "deleting"}), "revoked"),
        (("device", {"expires_at": NOW - dt.timedelta(seconds=1)}), "expired"),
        (("device", {"expires_at": NOW - dt.timedelta(days=1), "revoked_at": NOW}), "revoked"),
    ],
)
async def test_the_next_request_is_refused(
    device: Device, people: People, http: aiohttp.ClientSession, change: tuple[str, dict[str, Any]], code: str
) -> None:
    right = basic(device.id, device.secret)
    assert (await ask(http, "/passbook", right))[0] == 200
    table, values = change
    people.change(
        tables.device if table == "device" else tables.person,
        device.id if table == "device" else device.person,
        **values,
    )
    status, body, headers = await ask(http, "/passbook", right)
    assert (status, body["code"], body["error"]) == (401, code, "unauthorized")
    assert body["message"] == body["reason"]
    assert "Basic" not in headers["WWW-Authenticate"]
    # Who does not know the secret learns nothing of this.
    status, body, _ = await ask(http, "/passbook", basic(device.id, "wrong"))
    assert (status, body["code"]) == (401, "unknown")


async def test_access_given_back(device: Device, people: People, http: aiohttp.ClientSession) -> None:
    right = basic(device.id, device.secret)
    people.change(tables.person, device.person, state="suspended")
    assert (await ask(http, "/passbook", right))[0] == 401
    people.change(tables.person, device.person, state="active")
    assert (await ask(http, "/passbook", right))[0] == 200


PATHS = [
    "/",
    "/passbook",
    "/passbook/loan:1",
    "/passbook/_security",
    "/_all_dbs",
    "/nothing/at/all",
    "/a/../b",
    "//",
]


async def test_every_bad_credential_gets_the_same_answer(device: Device, http: aiohttp.ClientSession) -> None:
    encoded = base64.b64encode(f"{device.id}:{device.secret}".encode()).decode()
    bad = [
        "",
        "Basic",
        "Basic ",
        "Basic ===",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Basic " + base64.b64encode(b"nul\0:x").decode(),
        "Basic " + base64.b64encode(b":").decode(),
        "Basic " + "A" * 4000,
        f"Bearer {encoded}",
        f"Basic {encoded}x",
        basic("unknown", device.secret),
        basic(device.id, "wrong"),
        basic(device.id, ""),
        basic(device.id, device.secret + " "),
        basic(device.id.upper(), device.secret),
        basic(device.person, device.secret),
        basic("' OR 1=1 --", device.secret),
    ]
    answers = set()
    for authorization in bad:
        for path in PATHS:
            status, body, headers = await ask(http, path, authorization)
            headers.pop("Date")
            answers.add((status, str(body), str(sorted(headers.items()))))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 401


async def test_two_authorization_headers(device: Device, http: aiohttp.ClientSession) -> None:
    headers = [("Authorization", basic(device.id, device.secret)), ("Authorization", basic("x", "y"))]
    async with http.get("/passbook", headers=headers) as response:
        assert response.status == 401


async def test_database_not_ready(couch: Couch, people: People, http: aiohttp.ClientSession) -> None:
    device = await settled(couch, people, ready=False)
    status, body, headers = await ask(http, "/passbook", basic(device.id, device.secret))
    assert (status, body["code"]) == (503, "not_ready")
    assert int(headers["Retry-After"]) > 0
    assert (await ask(http, "/", basic(device.id, device.secret)))[0] == 200


async def test_database_lost(device: Device, couch: Couch, http: aiohttp.ClientSession) -> None:
    await couch.ask("DELETE", device.database)
    for path in ("/passbook", "/passbook/_changes", "/passbook/loan:1", "/passbook/_local/abcdefghijklmnop"):
        status, body, _ = await ask(http, path, basic(device.id, device.secret))
        assert (status, body["code"]) == (503, "not_ready")
        assert device.database not in str(body)


async def test_couchdb_down(credentials: DatabaseCredentials, people: People, unused_tcp_port: int) -> None:
    device = people.add("somewhere" + people.__class__.__name__.lower())
    application = build(credentials, Upstream(f"http://a:b@127.0.0.1:{unused_tcp_port}"))
    async with (
        serving(application, "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        for path in ("/passbook", "/passbook/_changes?feed=continuous", "/passbook/loan:1"):
            status, body, headers = await ask(http, path, basic(device.id, device.secret))
            assert (status, body["code"]) == (503, "unavailable")
            assert "Retry-After" in headers
    people.change(tables.person, device.person, database_name=device.person)


@pytest.mark.parametrize("status", [401, 403, 500, 502])
async def test_couchdb_refuses_us(credentials: DatabaseCredentials, people: People, status: int) -> None:
    """That is our fault; a device told 401 would throw its data away."""
    device = people.add(new_id("db"))

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": "unauthorized", "reason": "secret text"}, status=status)

    couch = web.Application()
    couch.router.add_route("*", "/{tail:.*}", refuse)
    async with serving(couch, "127.0.0.1", 0) as couch_port:
        application = build(credentials, Upstream(f"http://a:b@127.0.0.1:{couch_port}"))
        async with (
            serving(application, "127.0.0.1", 0) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        ):
            for path in ("/passbook", "/passbook/_changes"):
                answer = await ask(http, path, basic(device.id, device.secret))
                assert (answer[0], answer[1]["code"]) == (503, "unavailable")
                assert "secret text" not in str(answer)


async def test_service_database_down(tmp_path: Any, couch_url: str) -> None:
    credentials = DatabaseCredentials.at(f"postgresql+psycopg://postgres@/passbook?host={tmp_path}")
    async with (
        serving(build(credentials, Upstream(couch_url)), "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        status, body, _ = await ask(http, "/passbook", basic("device", "secret"))
        assert (status, body["code"]) == (503, "unavailable")
    await credentials.close()


async def test_no_secret_in_logs_or_answers(
    device: Device,
    couch: Couch,
    http: aiohttp.ClientSession,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    text = ""
    for path in [*PATHS, "/passbook/_changes?include_docs=true", "/passbook/_all_docs", "/passbook/nothing"]:
        for authorization in (basic(device.id, device.secret), basic(device.id, device.secret + "x")):
            async with http.get(path, headers={"Authorization": authorization}) as response:
                text += str(response.headers) + await response.text()
    captured = capsys.readouterr()
    text += captured.out + captured.err + caplog.text
    assert "request" in captured.out + captured.err + caplog.text
    for secret in (device.secret, device.database, couch.url.password or "-"):
        assert secret not in text


async def test_the_switch_for_everybody(device: Device, people: People, http: aiohttp.ClientSession) -> None:
    right = basic(device.id, device.secret)
    people.switch(False)
    try:
        status, body, _ = await ask(http, "/passbook", right)
        assert (status, body["code"]) == (401, "maintenance")
        # Who does not know the secret learns nothing of this, and what is final is told first.
        assert (await ask(http, "/passbook", basic(device.id, "wrong")))[1]["code"] == "unknown"
        people.change(tables.device, device.id, revoked_at=NOW)
        assert (await ask(http, "/passbook", right))[1]["code"] == "revoked"
    finally:
        people.switch(True)


async def test_a_device_that_synchronises_is_seen_now_and_then_and_goes_on_being_good(
    device: Device, people: People, http: aiohttp.ClientSession
) -> None:
    right = basic(device.id, device.secret)
    soon = NOW + dt.timedelta(days=1)
    people.change(tables.device, device.id, expires_at=soon)
    await ask(http, "/passbook", right)
    assert people.row(device.id).last_synchronised_at is None  # looking is not synchronising
    await ask(http, "/passbook/_changes", right)
    first = people.row(device.id)
    assert first.last_synchronised_at is not None
    assert first.expires_at > soon + dt.timedelta(days=80)
    await ask(http, "/passbook/_changes", right)
    assert people.row(device.id).last_synchronised_at == first.last_synchronised_at  # seldom written
    people.change(tables.device, device.id, last_synchronised_at=NOW - dt.timedelta(minutes=6))
    await ask(http, "/passbook/_changes", right)
    assert people.row(device.id).last_synchronised_at > NOW - dt.timedelta(minutes=1)
    # One that was given longer than the rule is not cut short, and one that has expired stays so.
    late = NOW + dt.timedelta(days=300)
    people.change(tables.device, device.id, expires_at=late, last_synchronised_at=None)
    await ask(http, "/passbook/_changes", right)
    assert people.row(device.id).expires_at == late
    # None goes on for longer than its longest life.
    end = NOW + dt.timedelta(days=40)
    people.change(tables.device, device.id, expires_at=soon, ends_at=end, last_synchronised_at=None)
    await ask(http, "/passbook/_changes", right)
    assert people.row(device.id).expires_at == end
    people.change(tables.device, device.id, expires_at=NOW, last_synchronised_at=None)
    assert (await ask(http, "/passbook/_changes", right))[0] == 401
    assert people.row(device.id).expires_at == NOW


@pytest.mark.parametrize("form", ["json", "data"])
async def test_there_are_no_sessions_and_the_answer_names_basic(
    device: Device, people: People, http: aiohttp.ClientSession, form: str
) -> None:
    sent: dict[str, Any] = {form: {"name": device.id, "password": device.secret}}

    async def begins(**headers: str) -> tuple[int, Any]:
        async with http.post("/_session", headers=headers, **sent) as response:
            told = await response.json()
            assert "Set-Cookie" not in response.headers
            return response.status, told

    status, told = await begins()
    assert (status, told["code"], "HTTP Basic" in told["reason"]) == (401, "credentials_missing", True)
    assert (await ask(http, "/passbook", None))[1] == told  # whatever is asked for without a credential
    status, told = await begins(**device.headers)
    assert (status, told["error"], told["code"], "HTTP Basic" in told["reason"]) == (
        404,
        "not_found",
        "no_sessions",
        True,
    )
    # A cookie counts for nothing, with whatever name.
    cookie = {"Cookie": f"AuthSession={device.id}:{device.secret}; session={device.secret}"}
    assert (await begins(**cookie))[0] == 401
    people.change(tables.device, device.id, revoked_at=NOW)
    assert (await begins(**device.headers))[1]["code"] == "revoked"
