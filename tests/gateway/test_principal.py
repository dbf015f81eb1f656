"""The gateway acts as one person: what its tokens say, and what CouchDB refuses behind it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey

from passbook import couch_access
from passbook.couch_access import CouchAccess
from passbook.credentials import new_id
from sync_gateway.credentials import DatabaseCredentials, Principal
from tests.gateway.conftest import Device, People, running_gateway, settled
from tests.support.couch import Couch
from tests.support.killing import Door, door

KEY = b"k" * 32


def decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]
    return parts[0], parts[1]


def test_T20_what_a_token_says_and_nothing_else() -> None:
    person = new_id("person")
    before = int(time.time())
    token = CouchAccess(("kid-1", KEY)).token(person)
    header, claims = decoded(token)
    assert header == {"alg": "HS256", "typ": "JWT", "kid": "kid-1"}
    expires = claims.pop("exp")
    # A whole number: CouchDB takes a text for later than any time.
    assert type(expires) is int
    assert before + 300 <= expires <= time.time() + 300
    assert claims == {"sub": f"passbook:{person}", "iss": "passbook", "_couchdb.roles": []}
    jwt.decode(token, OctKey.import_key(KEY), algorithms=["HS256"])


@pytest.mark.parametrize(
    "name",
    [
        "_admin",
        "admin",
        "",
        "person-",
        "person-_admin",
        "passbook:person-1",
        "person-1\n",
        "person-1,_admin",
        "Person-1",
        "person-é",
        f"person-{'1' * 81}",
        "device-00000000000000000000000000000000",
    ],
)
def test_T20_asked_for_anything_but_a_person_it_fails_closed(name: str) -> None:
    with pytest.raises(ValueError, match="a person only"):
        CouchAccess(("kid", KEY)).token(name)


@given(st.text())
def test_T20_no_text_gets_a_role(name: str) -> None:
    access = CouchAccess(("kid", KEY))
    for asked in (name, f"person-{name}"):
        try:
            claims = decoded(access.token(asked))[1]
        except ValueError:
            continue
        assert claims["_couchdb.roles"] == []
        assert claims["sub"] == f"passbook:{asked}"
        assert asked.startswith("person-")


def test_a_token_is_used_again_while_it_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    access = CouchAccess(("kid", KEY))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    first = access.token("person-1")
    monkeypatch.setattr(time, "time", lambda: now + 140)
    assert access.token("person-1") == first
    assert access.token("person-2") != first
    monkeypatch.setattr(time, "time", lambda: now + 160)
    assert access.token("person-1") != first
    # The clock is set back: one that would last for longer than it should is not used.
    monkeypatch.setattr(time, "time", lambda: now - 10_000)
    assert decoded(access.token("person-1"))[1]["exp"] == int(now - 10_000) + 300


async def test_T20_a_token_opens_nothing_but_its_persons_database(
    couch: Couch, couch_url: str, people: People, access: CouchAccess
) -> None:
    mine, other = [await settled(couch, people) for _ in range(2)]
    headers = {"Authorization": f"Bearer {access.token(mine.person)}"}
    bare = f"{couch.url.scheme}://{couch.url.host}:{couch.url.port}"
    async with aiohttp.ClientSession(bare, headers=headers) as http:

        async def status(method: str, path: str, body: Any = None) -> int:
            async with http.request(method, path, json=body) as response:
                return response.status

        assert await status("GET", f"/{mine.database}") == 200
        assert await status("GET", f"/{other.database}") == 403
        for path in ("/_all_dbs", "/_node/_local/_config", "/_active_tasks", "/_membership", "/_users/_all_docs"):
            assert await status("GET", path) in (401, 403), path
        assert await status("PUT", "/made-by-a-token") in (401, 403)
        # To these CouchDB answers 401, 403 or 500.
        assert await status("PUT", f"/{mine.database}/_security", {"members": {"names": []}}) >= 400
        assert await status("PUT", f"/{mine.database}/_design/x", {"views": {}}) >= 400
        assert (await couch.ask("GET", f"{mine.database}/_design_docs"))["rows"] == []
        members = (await couch.ask("GET", f"{mine.database}/_security"))["members"]
        assert members["names"] == [f"passbook:{mine.person}"]
        assert await status("DELETE", f"/{mine.database}") in (401, 403)


@pytest.fixture
async def access(couch_url: str) -> CouchAccess:
    """Access to a CouchDB that takes tokens."""
    made, _ = await couch_access.prepare(couch_url, connect_seconds=5)
    if made is None:
        pytest.skip("the embedded server takes no tokens")
    return made


async def test_T01_of_all_databases_a_device_reads_its_persons_alone(
    couch: Couch, people: People, http: aiohttp.ClientSession
) -> None:
    devices = await asyncio.gather(*(settled(couch, people) for _ in range(5)))
    for device in devices:
        await couch.write(device.database, {"_id": "passbook", "owner": device.person})

    async def owners(device: Device) -> set[str]:
        """Whose documents this device gets, however it asks for all the databases."""
        found = ""
        for other in devices:
            for path in (
                "/passbook/passbook",
                "/passbook/_all_docs?include_docs=true",
                "/passbook/_changes?include_docs=true",
                f"/{other.database}/passbook",
                f"/{other.database}/_all_docs?include_docs=true",
                f"/passbook/{other.database}/passbook",
                f"/passbook%2f..%2f{other.database}/passbook",
            ):
                named = {**device.headers, "X-Database": other.database, "X-Person": other.person}
                async with http.get(path, headers=named) as response:
                    found += await response.text()
        return {other.person for other in devices if other.person in found}

    for device in devices:
        assert await owners(device) == {device.person}


async def test_T01_a_gateway_that_goes_to_the_wrong_database_is_refused_by_couchdb(
    couch: Couch,
    couch_url: str,
    people: People,
    service_url: str,
    credentials: DatabaseCredentials,
    access: CouchAccess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    couch.wrote = people.wrote
    mine, other = [await settled(couch, people) for _ in range(2)]
    for device in (mine, other):
        await couch.write(device.database, {"_id": "loan:1", "owner": device.person})
    right = credentials.principal

    async def wrong(*arguments: Any, **named: Any) -> Principal:
        return dataclasses.replace(await right(*arguments, **named), database=other.database)

    monkeypatch.setattr(credentials, "principal", wrong)
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/passbook", None),
        ("GET", "/passbook/loan:1", None),
        ("GET", "/passbook/_all_docs?include_docs=true", None),
        ("GET", "/passbook/_changes?include_docs=true", None),
        ("POST", "/passbook/_bulk_get", {"docs": [{"id": "loan:1"}]}),
        ("POST", "/passbook/_revs_diff", {"loan:1": ["1-a"]}),
    ]
    with structlog.testing.capture_logs() as logged:
        async with (
            running_gateway(service_url, couch_url, credentials) as url,
            aiohttp.ClientSession(url, headers=mine.headers) as http,
        ):
            for method, path, body in asked:
                async with http.request(method, path, json=body) as response:
                    assert (response.status, (await response.json())["code"]) == (503, "unavailable"), path
            for feed in ("longpoll", "continuous"):
                with contextlib.suppress(aiohttp.ClientError):  # or it is broken off
                    async with http.get(f"/passbook/_changes?feed={feed}&include_docs=true") as response:
                        assert other.person not in await response.text()
                        assert response.status == 503
            async with http.get("/", headers=other.headers) as response:
                assert response.status == 200
    refused = [entry for entry in logged if entry["event"] == "couchdb_refused"]
    assert len(refused) >= len(asked)
    assert all((entry["status"], entry["person"]) == (403, mine.person) for entry in refused)


@pytest.mark.parametrize("name", ["_admin", "admin", ""])
async def test_T20_a_gateway_that_asks_as_somebody_else_asks_nothing(
    name: str,
    couch: Couch,
    couch_url: str,
    people: People,
    service_url: str,
    credentials: DatabaseCredentials,
    access: CouchAccess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = await settled(couch, people)
    right = credentials.principal

    async def wrong(*arguments: Any, **named: Any) -> Principal:
        return dataclasses.replace(await right(*arguments, **named), person_id=name)

    monkeypatch.setattr(credentials, "principal", wrong)
    async with (
        door(couch_url) as counting,
        running_gateway(service_url, counting.url, credentials) as url,
        aiohttp.ClientSession(url, headers=device.headers) as http,
    ):
        before = counting.seen
        for path in ("/passbook", "/passbook/_all_docs", "/passbook/_changes", "/passbook/loan:1"):
            async with http.get(path) as response:
                assert (response.status, (await response.json())["code"]) == (503, "unavailable")
        assert counting.seen == before


@pytest.fixture
async def watched(
    couch: Couch, people: People, service_url: str, couch_url: str, credentials: DatabaseCredentials
) -> AsyncIterator[tuple[aiohttp.ClientSession, Device, Door]]:
    """A device's client of a gateway, and a door before CouchDB that counts what comes through."""
    async with (
        door(couch_url) as counting,
        running_gateway(service_url, counting.url, credentials) as url,
        aiohttp.ClientSession(url) as http,
    ):
        device = await settled(couch, people)
        async with http.get("/passbook", headers=device.headers) as response:
            assert response.status == 200
        assert counting.seen > 0
        yield http, device, counting


METADATA = "http://169.254.169.254/latest/meta-data/"
ROLES = (
    '{"_id": "org.couchdb.user:x", "type": "user", "name": "x", "password": "x", "roles": ["_admin"], "roles": []}'
)
CLOSED = {
    "T12": [
        ("PUT", "/passbook/_design/x", '{"views": {"a": {"map": "function (d) { emit(d) }"}}}'),
        ("GET", "/passbook/_design/x/_view/a", ""),
        ("POST", "/passbook/_design/x/_update/a", "{}"),
        ("GET", "/passbook/_design/x/_show/a", ""),
        ("GET", "/passbook/_design/x/_rewrite/a", ""),
        ("POST", "/passbook/_index", '{"index": {"fields": ["a"]}}'),
        ("POST", "/passbook/_find", '{"selector": {"a": {"$regex": "(a+)+$"}}}'),
        ("POST", "/passbook/_explain", '{"selector": {}}'),
        ("POST", "/passbook/_temp_view", "{}"),
        ("PUT", "/passbook/loan:1", "{}"),
        ("DELETE", "/passbook/loan:1?rev=1-a", ""),
        ("PUT", "/passbook/_security", "{}"),
        ("POST", "/passbook/_purge", "{}"),
        ("POST", "/passbook/_compact", "{}"),
    ],
    "T13": [
        ("PUT", "/_users/org.couchdb.user:x", ROLES),
        ("POST", "/_users", ROLES),
        ("POST", "/_users/_bulk_docs", f'{{"docs": [{ROLES}]}}'),
        ("PUT", "/passbook/..%2f_users%2forg.couchdb.user:x", ROLES),
        ("GET", "/_session", ""),
    ],
    "T14": [
        ("POST", "/_replicate", f'{{"source": "{METADATA}", "target": "passbook"}}'),
        ("POST", "/passbook/_replicate", f'{{"source": "{METADATA}", "target": "passbook"}}'),
        ("PUT", "/_replicator/x", f'{{"source": "{METADATA}", "target": "passbook"}}'),
        ("POST", "/_replicator", f'{{"source": "{METADATA}", "target": "passbook"}}'),
        ("POST", "/_replicator/_bulk_docs", f'{{"docs": [{{"source": "{METADATA}", "target": "passbook"}}]}}'),
        ("GET", "/_node/_local/_config", ""),
        ("PUT", "/_node/_local/_config/jwt_keys/hmac:mine", '"eA=="'),
        ("PUT", "/_config/query_servers/cmd", '"/bin/sh"'),
        ("POST", "/_node/_local/_restart", "{}"),
        ("GET", "/_node/_local/_stats", ""),
        ("POST", "/_cluster_setup", "{}"),
        ("POST", "/_dbs_info", '{"keys": []}'),
    ],
    "T16": [
        ("GET", "/_all_dbs", ""),
        ("GET", "/_dbs_info", ""),
        ("GET", "/_active_tasks", ""),
        ("GET", "/_db_updates", ""),
        ("GET", "/_membership", ""),
        ("GET", "/_scheduler/jobs", ""),
        ("GET", "/_utils/", ""),
        ("GET", "/_up", ""),
        ("GET", "/_uuids?count=1000", ""),
        ("GET", "/passbook/_shards", ""),
    ],
}


async def _none_reaches_couchdb(
    watched: tuple[aiohttp.ClientSession, Device, Door], requests: list[tuple[str, str, str]]
) -> None:
    """Each gets the one answer to everything that is not on the list, or to everything that would write to the
    copy, and CouchDB hears of none."""
    http, device, counting = watched
    before = counting.seen
    answers: dict[bool, set[tuple[int, str, str]]] = {True: set(), False: set()}
    headers = {**device.headers, "Content-Type": "application/json"}
    for method, path, body in [("GET", "/nothing/at/all", ""), ("PUT", "/passbook/nothing", ""), *requests]:
        async with http.request(method, path, data=body, headers=headers) as response:
            kept = {name: value for name, value in response.headers.items() if name not in ("Date", "X-Request-Id")}
            writes = method in ("PUT", "DELETE") and path.startswith("/passbook/")
            answers[writes].add((response.status, str(sorted(kept.items())), await response.text()))
    assert [(writes, status) for writes, each in answers.items() for status, *_ in each] == [
        (True, 403),
        (False, 404),
    ]
    assert counting.seen == before


async def test_T12_no_design_documents_no_queries(watched: tuple[aiohttp.ClientSession, Device, Door]) -> None:
    await _none_reaches_couchdb(watched, CLOSED["T12"])


async def test_T13_no_users(watched: tuple[aiohttp.ClientSession, Device, Door], couch: Couch) -> None:
    await _none_reaches_couchdb(watched, CLOSED["T13"])
    users = await couch.ask("GET", "_all_dbs")
    if "_users" in users:
        rows = (await couch.ask("GET", "_users/_all_docs"))["rows"]
        assert not [row for row in rows if row["id"] == "org.couchdb.user:x"]


async def test_T14_no_configuration_and_no_replication_elsewhere(
    watched: tuple[aiohttp.ClientSession, Device, Door],
) -> None:
    await _none_reaches_couchdb(watched, CLOSED["T14"])


async def test_T16_nothing_that_lists_or_tells(watched: tuple[aiohttp.ClientSession, Device, Door]) -> None:
    await _none_reaches_couchdb(watched, CLOSED["T16"])


async def test_T12_T13_documents_written_in_bulk_are_refused_one_by_one(
    watched: tuple[aiohttp.ClientSession, Device, Door],
) -> None:
    http, device, counting = watched
    before = counting.seen
    documents = ['{"_id": "_design/x", "language": "javascript"}', f'{{"_id": "r", "source": "{METADATA}"}}']
    for more in ("", ', "new_edits": false'):
        body = f'{{"docs": [{", ".join(documents)}]{more}}}'
        async with http.post("/passbook/_bulk_docs", data=body, headers=device.headers) as response:
            assert [one["error"] for one in await response.json(content_type=None)] == ["forbidden"] * 2
    # Two readers could disagree on what this says.
    async with http.post("/passbook/_bulk_docs", data=f'{{"docs": [{ROLES}]}}', headers=device.headers) as response:
        assert response.status == 400
    assert counting.seen == before
