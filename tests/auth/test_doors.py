"""The two doors, and what is the same at both: sizes, headers, origins, ids of requests, metrics."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import select

from passbook.audit.events import WrongDoor
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from tests.auth.running import auth, clean
from tests.support.api import METRICS_TOKEN, SECRET, Answer, Api, Crowd, serving

LIMIT = 64 * 1024
SECURITY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def operations(document: Any) -> list[tuple[str, str]]:
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item]


async def test_a_token_of_the_other_door_is_refused_and_on_record(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    ids = {"person": crowd.person("amina"), "administrator": crowd.administrator("olga", "owner")}
    tokens = {"person": await api.token("amina"), "administrator": await api.token("olga", administrator=True)}
    document = (await api.call("GET", "/openapi.json")).body
    expected = []
    for method, path in operations(document):
        wanted = document["paths"][path][method.lower()].get("security")
        if wanted not in ([{"person": []}], [{"administrator": []}]):
            continue
        other = "administrator" if wanted == [{"person": []}] else "person"
        filled = path
        for name in ("person", "device", "administrator", "approval"):
            filled = filled.replace(f"{{{name}}}", f"{name}-none")
        answer = await api.call(method, filled.replace("{client}", "1"), token=tokens[other])
        assert (answer.status, answer.code) == (401, "wrong_audience"), (method, path)
        audience = "passbook" if other == "administrator" else "passbook-admin"
        expected.append((other, ids[other], f'{{"wanted":"{audience}"}}', answer.headers["X-Request-Id"]))
    assert len(expected) > 35
    with database.begin() as connection:
        log = tables.audit_event
        rows = connection.execute(select(log).where(log.c.event == "WrongDoor").order_by(log.c.id)).all()
        repeat = tables.audit_repeat
        counted = connection.execute(select(repeat.c.actor, repeat.c.counted).where(repeat.c.event == "WrongDoor"))
        more = {row.actor: row.counted for row in counted}
    # The first of each are told in full, the others are counted.
    own = {kind: [one for one in expected if one[0] == kind] for kind in ("person", "administrator")}
    told = [(row.actor_kind, row.actor, row.detail, row.request_id) for row in rows]
    assert told == [one for one in expected if one in own[one[0]][: WrongDoor.in_full]]
    assert more == {ids[kind]: len(all_of) - (WrongDoor.in_full or 0) for kind, all_of in own.items()}


async def test_neither_password_opens_the_other_door(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    assert (await api.sign_in("amina", administrator=True)).code == "unknown"
    assert (await api.sign_in("olga")).code == "unknown"


@pytest.mark.parametrize("only", ["people", "administration"])
async def test_one_side_alone_serves_its_own_routes(
    service_url: str, crowd: Crowd, tmp_path: Path, only: str
) -> None:
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    async with serving(service_url) as both:
        everything = operations((await both.call("GET", "/openapi.json")).body)
    async with auth(tmp_path, service_url, {}, "--only", only) as api:
        served = operations((await api.call("GET", "/openapi.json")).body)
        common = {"/health/live", "/health/ready", "/metrics"}
        for method, path in everything:
            theirs = path.startswith("/admin") == (only == "administration")
            answer = await api.call(method, path.replace("{", "").replace("}", ""))
            if path in common or theirs:
                assert (method, path) in served
                assert answer.status not in (404, 405), path
            else:
                assert (method, path) not in served
                assert (answer.status, answer.code) == (404, "not_found"), path
        assert (await api.sign_in("amina")).status == (200 if only == "people" else 404)
        assert (await api.sign_in("olga", administrator=True)).status == (404 if only == "people" else 200)


def test_a_side_that_is_none_is_refused(service_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "passbook", "auth", "--only", "both"],
        env=clean(
            {"PASSBOOK_SERVICE_DB_URL": service_url.replace("+psycopg", ""), "PASSBOOK_DATA_DIR": str(tmp_path)}
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "people, administration" in done.stderr


# Browsers

APP, LOCAL = "https://app.example.org", "http://localhost:8100"
HYBRID = ("capacitor://localhost", "https://localhost", "ionic://localhost", "tauri://localhost", "app://bundle")
STRANGERS = (
    "https://app.example.org.evil.example",
    "https://evil.example/https://app.example.org",
    "https://evil-app.example.org",
    "https://sub.app.example.org",
    "http://app.example.org",
    "https://app.example.org:444",
    "https://APP.example.org",
    "https://app.example.org/",
    "http://localhost:8101",
    "http://localhost",
    "null",
    "*",
    "file://",
    "",
)


@pytest.fixture
async def browsers(service_url: str) -> AsyncIterator[Api]:
    async with serving(service_url, {"PASSBOOK_CORS_ORIGINS": ", ".join((APP, LOCAL, *HYBRID))}) as api:
        yield api


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, if-match, x-request-id",
    }


async def test_browsers_of_the_named_origins_alone_may_read_answers(browsers: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    token = await browsers.token("amina")
    for origin in (APP, LOCAL, *HYBRID):
        asked = await browsers.call("OPTIONS", "/devices", headers=preflight(origin))
        assert asked.status == 200
        assert asked.headers["Access-Control-Allow-Origin"] == origin
        # A token is sent by the app itself; cookies there are none.
        assert "Access-Control-Allow-Credentials" not in asked.headers
        for method, path in (("GET", "/me"), ("GET", "/nothing"), ("GET", "/admin/me")):
            answer = await browsers.call(method, path, token=token, headers={"Origin": origin})
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert "Origin" in answer.headers["Vary"]
            exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
            assert {"ETag", "Retry-After", "X-Request-Id"} <= exposed
    for origin in STRANGERS:
        asked = await browsers.call("OPTIONS", "/devices", headers=preflight(origin))
        answer = await browsers.call("GET", "/me", token=token, headers={"Origin": origin})
        for one in (asked, answer):
            assert "Access-Control-Allow-Origin" not in one.headers, origin
    bad = await browsers.call("OPTIONS", "/devices", headers=preflight(APP, "TRACE"))
    assert bad.status == 400


async def test_a_request_from_an_origin_that_is_not_listed_leaves_a_line(browsers: Api) -> None:
    """One that names it and the setting, however many there are."""
    with structlog.testing.capture_logs() as logged:
        for origin in (APP, browsers.url, *STRANGERS, *STRANGERS):
            await browsers.call("OPTIONS", "/devices", headers=preflight(origin))
    (line,) = [entry for entry in logged if entry["event"] == "origin_not_listed"]
    assert (line["origin"], line["setting"]) == (STRANGERS[0], "PASSBOOK_CORS_ORIGINS")


async def test_without_origins_no_browser_app_may_read_anything(api: Api) -> None:
    for origin in (APP, *STRANGERS):
        for method, headers in (("OPTIONS", preflight(origin)), ("GET", {"Origin": origin})):
            answer = await api.call(method, "/health/live", headers=headers)
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# Sizes


async def padded(api: Api, path: str, kind: str, size: int, *, chunked: bool) -> tuple[int, Any]:
    """Send a body of so many bytes; the status and the body of the answer."""
    lead = b"grant_type=password&username=a&password=" if "form" in kind else b'{"current": "'
    body = lead + b"x" * (size - len(lead))

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 8000):
            yield body[at : at + 8000]

    headers = {"Content-Type": kind}
    data = pieces() if chunked else io.BytesIO(body)
    async with api.session.post(api.url + path, data=data, headers=headers) as answer:
        assert answer.headers["X-Request-Id"]
        return answer.status, await answer.json()


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_a_request_has_64_kib_at_most(api: Api, crowd: Crowd, chunked: bool) -> None:
    crowd.person("amina")
    api.session.headers["Authorization"] = f"Bearer {await api.token('amina')}"
    for path, kind in (
        ("/oauth/token", "application/x-www-form-urlencoded"),
        ("/oauth/revoke", "application/x-www-form-urlencoded"),
        ("/password", "application/json"),
        ("/devices", "application/json"),
    ):
        status, _ = await padded(api, path, kind, LIMIT, chunked=chunked)
        assert status in (400, 422), path
        for size in (LIMIT + 1, 3 * LIMIT, 20 * LIMIT):
            status, body = await padded(api, path, kind, size, chunked=chunked)
            assert (status, body["code"]) == (413, "too_large"), (path, size)
            assert body.keys() >= {"code", "message", "detail", "request_id"}


async def raw(api: Api, request: bytes) -> bytes:
    """The beginning of the answer to these bytes."""
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(4000), 10)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -1",
        b"Content-Length: \xb2",
        b"Content-Length: 1e3",
        b"Content-Length: 0x10",
        b"Content-Length: 5\r\nContent-Length: 500",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"X: " + b"y" * 100_000,
        b"X-Request-Id: a\0b",
    ],
)
async def test_a_malformed_request_is_the_sender_s_mistake(api: Api, lines: bytes) -> None:
    request = b"POST /password HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + lines + b"\r\n\r\n"
    answer = await raw(api, request + b"0\r\n\r\n")
    assert answer.split(b" ")[1].startswith(b"4"), answer[:200]
    assert (await api.call("GET", "/health/live")).status == 200


# Headers and ids


def has_security_headers(answer: Answer) -> None:
    for name, value in SECURITY.items():
        assert answer.headers.getall(name) == [value], name  # type: ignore[attr-defined]


async def test_every_answer_has_the_headers_that_protect_it(
    browsers: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.person("amina")
    token = await browsers.token("amina")
    seen = {}
    for name, call in {
        "ok": browsers.call("GET", "/me", token=token),
        "created": browsers.call("POST", "/devices", {}, token=token),
        "no token": browsers.call("GET", "/me"),
        "wrong password": browsers.sign_in("amina", "wrong"),
        "no such thing": browsers.call("GET", "/nothing/here"),
        "no such method": browsers.call("PATCH", "/me"),
        "head": browsers.call("HEAD", "/me"),
        "invalid": browsers.call("POST", "/devices", {"x": 1}, token=token),
        "signed out": browsers.call("POST", "/oauth/revoke", form={"token": "none"}),
        "too large": browsers.call("POST", "/devices", {"name": "x" * LIMIT}, token=token),
        "preflight": browsers.call("OPTIONS", "/me", headers=preflight(APP)),
        "preflight refused": browsers.call("OPTIONS", "/me", headers=preflight("https://evil.example")),
        "document": browsers.call("GET", "/openapi.json"),
        "metrics": browsers.call("GET", "/metrics", token=METRICS_TOKEN),
        "health": browsers.call("GET", "/health/live"),
    }.items():
        answer = await call
        seen[name] = answer.status
        has_security_headers(answer)
        assert answer.headers["X-Request-Id"]
        assert "Set-Cookie" not in answer.headers
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE device RENAME TO device_away")
    broken = await browsers.call("GET", "/devices", token=token)
    has_security_headers(broken)
    assert (broken.status, broken.code) == (500, "internal")
    assert broken["request_id"] == broken.headers["X-Request-Id"]
    assert "device" not in broken.raw.decode()
    assert seen == {
        "ok": 200,
        "created": 201,
        "no token": 401,
        "wrong password": 400,
        "no such thing": 404,
        "no such method": 405,
        "head": 405,
        "invalid": 422,
        "signed out": 200,
        "too large": 413,
        "preflight": 200,
        "preflight refused": 400,
        "document": 200,
        "metrics": 200,
        "health": 200,
    }


async def test_errors_have_one_shape(api: Api) -> None:
    for method, path, code, status in (
        ("GET", "/nothing", "not_found", 404),
        ("GET", "/me/", "not_found", 404),
        ("GET", "/docs", "not_found", 404),
        ("GET", "/redoc", "not_found", 404),
        ("PUT", "/me", "method_not_allowed", 405),
        ("TRACE", "/me", "method_not_allowed", 405),
        ("GET", "/me", "token_missing", 401),
    ):
        answer = await api.call(method, path)
        assert (answer.status, answer.code) == (status, code), path
        assert answer.body.keys() == {"code", "message", "detail", "request_id"}
        if status == 405:
            assert answer.headers["Allow"] == "GET"


@pytest.mark.parametrize("offered", ["abcd1234", "A-b_c.D9", "f" * 64, "6f1c9f52-1d0b-4b5e-9f0e-0c8f6f1a2b3c"])
async def test_a_harmless_request_id_is_taken_over(
    api: Api, crowd: Crowd, database: ServiceDatabase, offered: str
) -> None:
    crowd.person("amina")
    form = {"grant_type": "password", "username": "amina", "password": "wrong"}
    answer = await api.call("POST", "/oauth/token", form=form, headers={"X-Request-Id": offered})
    assert answer.headers["X-Request-Id"] == answer["request_id"] == offered
    with database.begin() as connection:
        log = tables.audit_event
        rows = connection.execute(select(log.c.request_id).where(log.c.event == "SignInFailed")).scalars()
        assert list(rows) == [offered]


async def test_any_other_request_id_is_replaced(api: Api) -> None:
    given = set()
    for offered in (
        "",
        "short-1",
        "f" * 65,
        "with space here",
        "quote\"quote'quote",
        "<script>alert(1)</script>",
        "line\tline-line",
        "${jndi:ldap://x}",
        "../../../etc/passwd",
        "ünïcödé-ïd",
        "semi;colon=1234",
        "abcd1234,efgh5678",
        "%0d%0aSet-Cookie:x",
    ):
        answer = await api.call("GET", "/me", headers={"X-Request-Id": offered})
        taken = answer.headers["X-Request-Id"]
        assert taken == answer["request_id"]
        assert taken.startswith("request-")
        assert len(taken) == 40
        given.add(taken)
    assert len(given) == 13


# Metrics


async def test_without_a_token_there_are_no_metrics(service_url: str) -> None:
    async with serving(service_url, {"PASSBOOK_METRICS_TOKEN": ""}) as api:
        for given in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer whatever"},
            {"Authorization": ""},
        ):
            assert (await api.call("GET", "/metrics", headers=given)).status == 403


async def test_with_a_token_metrics_are_for_who_has_it(service_url: str) -> None:
    token = METRICS_TOKEN
    async with serving(service_url) as api:
        assert (await api.call("GET", "/metrics", token=token)).status == 200
        for wrong in (
            "",
            "Bearer",
            "Bearer ",
            f"Bearer {token}x",
            f"Bearer {token[:-1]}",
            f"Basic {token}",
            "Bearer é",
        ):
            answer = await api.call("GET", "/metrics", headers={"Authorization": wrong} if wrong else {})
            assert (answer.status, answer.code) == (403, "not_permitted"), wrong
            assert b"passbook_auth" not in answer.raw


async def test_the_process_says_little_about_itself(service_url: str, tmp_path: Path) -> None:
    async with auth(tmp_path, service_url, {"PASSBOOK_AUTH_SECRET": SECRET}) as api:
        answer = await api.call("GET", "/health/live")
        assert "Server" not in answer.headers
        assert (await api.call("GET", "/health/ready")).status == 200
