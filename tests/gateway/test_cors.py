"""Browser apps: those of the origins that the settings name, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import structlog

from passbook.errors import Refused
from passbook.origins import Origins
from passbook.settings import Settings
from sync_gateway.app import Parts
from sync_gateway.credentials import DatabaseCredentials
from tests.gateway.conftest import Device, People, running_gateway, settled
from tests.support.couch import Couch

APP, OTHER_APP = "https://app.example.org", "http://localhost:5173"
#: As the pages of hybrid apps have them: Capacitor, Ionic, Tauri, Electron with a scheme of its own.
HYBRID = (
    *("capacitor://localhost", "https://localhost", "http://localhost", "ionic://localhost"),
    *("tauri://localhost", "http://tauri.localhost", "https://tauri.localhost", "app://bundle"),
)
PATHS = ["/", "/passbook", "/passbook/_changes", "/passbook/loan:1", "/_all_dbs", "/nothing/at/all", "/wiped"]
STRANGE = [
    "https://app.example.org.evil.example",
    "https://evil.example",
    "http://app.example.org",
    "https://app.example.org:8443",
    "https://app.example.org/",
    "https://APP.example.org.",
    "capacitor://localhost:1",
    "capacitors://localhost",
    "file://",
    "null",
    "*",
    "",
]


@pytest.fixture
async def browser_gateway(
    service_url: str, couch_url: str, credentials: DatabaseCredentials
) -> AsyncIterator[aiohttp.ClientSession]:
    settings = Settings.load({"PASSBOOK_CORS_ORIGINS": ", ".join((APP, OTHER_APP, *HYBRID))})
    async with (
        running_gateway(service_url, couch_url, credentials, parts=Parts.new(settings)) as url,
        aiohttp.ClientSession(url) as http,
    ):
        yield http


def cors(headers: object) -> dict[str, str]:
    return {
        name.lower(): value for name, value in dict(headers).items() if name.lower().startswith("access-control")
    }


def preflight(origin: str, method: str = "GET") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }


async def test_the_answer_to_a_preflight_needs_no_credential_and_is_the_same_for_every_path(
    browser_gateway: aiohttp.ClientSession,
) -> None:
    answers = set()
    for path in PATHS:
        for method in ("GET", "PUT", "DELETE"):
            async with browser_gateway.options(path, headers=preflight(APP, method)) as response:
                headers = {name: value for name, value in response.headers.items() if name != "Date"}
                answers.add((response.status, await response.read(), tuple(sorted(headers.items()))))
    ((status, body, headers),) = answers
    assert (status, body) == (204, b"")
    assert cors(headers) == {
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "DELETE, GET, HEAD, POST, PUT",
        "access-control-allow-headers": "Accept, Authorization, Content-Type, If-None-Match",
        "access-control-expose-headers": "ETag, Passbook-Checked-At, Retry-After",
        "access-control-max-age": "600",
    }
    assert dict(headers)["Vary"] == "Origin"


async def test_every_answer_may_be_read_by_the_app(
    browser_gateway: aiohttp.ClientSession, couch: Couch, people: People
) -> None:
    device = await settled(couch, people)
    await couch.write(device.database, {"_id": "loan:1", "text": "x" * 1000})
    feed = "/passbook/_changes?feed=continuous&timeout=0"
    for origin in (APP, OTHER_APP, *HYBRID):
        for path in (*PATHS, "/passbook/_all_docs?include_docs=true", feed, "/passbook/_changes?limit=x"):
            for authorization in ({}, device.headers):
                async with browser_gateway.get(path, headers={"Origin": origin, **authorization}) as response:
                    await response.read()
                    assert cors(response.headers) == {
                        "access-control-allow-origin": origin,
                        "access-control-allow-credentials": "true",
                        "access-control-expose-headers": "ETag, Passbook-Checked-At, Retry-After",
                    }
                    assert "Origin" in response.headers["Vary"].split(", ")


@pytest.mark.parametrize("origin", STRANGE)
async def test_other_origins_get_nothing(browser_gateway: aiohttp.ClientSession, origin: str) -> None:
    for path in PATHS:
        async with browser_gateway.options(path, headers=preflight(origin)) as response:
            assert response.status == 401
            assert cors(response.headers) == {}
            assert response.headers["Vary"] == "Origin"  # or a cache would hand it to those who may
        async with browser_gateway.get(path, headers={"Origin": origin}) as response:
            assert cors(response.headers) == {}


async def test_two_origins_are_none(browser_gateway: aiohttp.ClientSession) -> None:
    headers = [*preflight(APP).items(), ("Origin", "https://evil.example")]
    async with browser_gateway.options("/passbook", headers=headers) as response:
        assert (response.status, cors(response.headers)) == (401, {})


async def test_without_origins_in_the_settings_there_is_nothing(
    device: Device, gateway: str, http: aiohttp.ClientSession
) -> None:
    for path in PATHS:
        async with http.options(path, headers=preflight(APP)) as response:
            assert (response.status, cors(response.headers)) == (401, {})
            assert "Vary" not in response.headers
        async with http.options(path, headers={**preflight(APP), **device.headers}) as response:
            assert (response.status, cors(response.headers)) == (404, {})
        async with http.get(path, headers={"Origin": APP, **device.headers}) as response:
            assert cors(response.headers) == {}


@pytest.mark.parametrize(
    "origins",
    [
        *("https://app.example.org/", "*", "app.example.org", "https://a.example/x", "null", "file://", "file://a"),
        *(
            "capacitor://",
            "capacitor:localhost",
            "https://user@a.example",
            "https://a.example?x",
            "https://*.example",
        ),
        *("data:text/html,x", "javascript://x", "https://a.example https://b.example", "https://a.example:port"),
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(Refused):
        Settings.load({"PASSBOOK_CORS_ORIGINS": origins})


async def test_a_request_from_an_origin_that_is_not_listed_leaves_a_line(
    browser_gateway: aiohttp.ClientSession,
) -> None:
    """One that names it and the setting, however many there are."""
    hostile = "https://evil.example/é" + "x" * 5_000
    with structlog.testing.capture_logs() as logged:
        for origin in ("https://new.example", "https://new.example", "https://other.example", hostile, "null", APP):
            for headers in (preflight(origin), {"Origin": origin}):
                async with browser_gateway.request("OPTIONS", "/passbook", headers=headers):
                    pass
        own = str(browser_gateway._base_url).rstrip("/")
        async with browser_gateway.get("/passbook", headers={"Origin": own}):
            pass
    (line,) = [entry for entry in logged if entry["event"] == "origin_not_listed"]
    assert (line["origin"], line["setting"]) == ("https://new.example", "PASSBOOK_CORS_ORIGINS")
    assert line["log_level"] == "warning"


def test_lines_about_origins_are_few_short_and_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("passbook.origins.time.monotonic", lambda: now)
    origins = Origins([APP], own=["https://passbook.example.org:8443/passbook"])
    with structlog.testing.capture_logs() as logged:
        for minute in range(120):
            for number in range(100):
                origins.note(f"https://{minute}.{number}.example", "passbook.example.org")
                origins.note("https://same.example", "passbook.example.org")
            now += 60
    assert len(logged) == 120
    assert sum(entry["others_since"] for entry in logged) == 119 * 199
    with structlog.testing.capture_logs() as logged:
        now += 3_600
        for origin in (APP, APP.upper(), "https://passbook.example.org:8443", "http://internal.example", ""):
            origins.note(origin, "internal.example")
        assert logged == []
        origins.note("https://a\r\nb\x1b[0mé" + "x" * 500, "internal.example")
    assert logged[0]["origin"] == ("https://a??b?[0m?" + "x" * 500)[:100]
    assert len(origins._told) <= 100
