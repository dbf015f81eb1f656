"""Browser apps: those of the origins that the settings name, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from passbook.errors import Refused
from passbook.settings import Settings
from sync_gateway.app import Parts
from sync_gateway.credentials import DatabaseCredentials
from tests.gateway.conftest import Device, People, running_gateway, settled
from tests.support.couch import Couch

APP, OTHER_APP = "https://app.example.org", "http://localhost:5173"
PATHS = ["/", "/passbook", "/passbook/_changes", "/passbook/loan:1", "/_all_dbs", "/nothing/at/all", "/wiped"]
STRANGE = [
    "https://app.example.org.evil.example",
    "https://evil.example",
    "http://app.example.org",
    "https://app.example.org:8443",
    "https://app.example.org/",
    "https://APP.example.org.",
    "null",
    "*",
    "",
]


@pytest.fixture
async def browser_gateway(
    service_url: str, couch_url: str, credentials: DatabaseCredentials
) -> AsyncIterator[aiohttp.ClientSession]:
    settings = Settings.load({"PASSBOOK_CORS_ORIGINS": f"{APP}, {OTHER_APP}"})
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
        "access-control-expose-headers": "ETag, Retry-After",
        "access-control-max-age": "600",
    }
    assert dict(headers)["Vary"] == "Origin"


async def test_every_answer_may_be_read_by_the_app(
    browser_gateway: aiohttp.ClientSession, couch: Couch, people: People
) -> None:
    device = await settled(couch, people)
    await couch.write(device.database, {"_id": "loan:1", "text": "x" * 1000})
    feed = "/passbook/_changes?feed=continuous&timeout=0"
    for origin in (APP, OTHER_APP):
        for path in (*PATHS, "/passbook/_all_docs?include_docs=true", feed, "/passbook/_changes?limit=x"):
            for authorization in ({}, device.headers):
                async with browser_gateway.get(path, headers={"Origin": origin, **authorization}) as response:
                    await response.read()
                    assert cors(response.headers) == {
                        "access-control-allow-origin": origin,
                        "access-control-allow-credentials": "true",
                        "access-control-expose-headers": "ETag, Retry-After",
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


@pytest.mark.parametrize("origins", ["https://app.example.org/", "*", "app.example.org", "https://a.example/x"])
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(Refused):
        Settings.load({"PASSBOOK_CORS_ORIGINS": origins})
