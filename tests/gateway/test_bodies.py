"""What devices send: nothing too large, nothing that could be read in two ways, and no documents."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import time
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from sample_institution.pouch import PouchClient
from sync_gateway import bodies, writes
from sync_gateway.answers import READ_ONLY, Problem
from sync_gateway.credentials import Principal
from sync_gateway.routes import ROUTES
from sync_gateway.turns import SHARE, Turns
from tests.gateway.conftest import NOW, Counted, Device, People
from tests.support.couch import Couch

REVISION = "9-" + "f" * 32
#: Every kind of document that a device could try to write; `{rev}` is the revision there is.
WRITTEN = [
    {"_id": "loan:1", "balance": "0.00"},
    {"_id": "loan:1", "_rev": "{rev}", "balance": "0.00"},
    {"_id": "loan:1", "_rev": "99999-" + "f" * 32, "balance": "0.00"},
    {"_id": "loan:1", "_rev": REVISION, "_revisions": {"start": 9, "ids": ["f" * 32, "a" * 32]}},
    {"_id": "loan:1", "_rev": "{rev}", "_deleted": True},
    {"_id": "loan:1", "_rev": REVISION, "_deleted": True},
    {"_id": "loan:9", "_attachments": {"x.html": {"content_type": "text/html", "data": "PGI+"}}},
    {"_id": "loan:9", "_attachments": {"x": {"stub": True, "revpos": 1, "digest": "md5-x", "length": 1}}},
    {"_id": "_design/x", "views": {"a": {"map": "function(){}"}}},
    {"_id": "_design/x", "validate_doc_update": "function(){}"},
    {"_id": "_local/abcdefghijklmnop", "a": 1},
    {"_id": "_security", "admins": {"names": ["x"]}},
    {"_id": "org.couchdb.user:x", "roles": ["_admin"]},
    {"_id": "command:1", "what": "anything"},
    {"_id": ""},
    {"_id": "x" * 3000},
    {"_id": 7},
    {"_id": None},
    {"_id": ["loan:1"]},
    {"nothing": 1},
]


def each(text: bytes, count: int) -> bytes:
    """The same with the numbers from 1, between commas."""
    return b",".join(text % (number + 1) for number in range(count))


async def test_T07_T11_every_document_is_refused_alike(counted: Counted, couch: Couch) -> None:
    device = counted.device
    (written,) = await couch.write(device.database, {"_id": "loan:1", "balance": "10.00"})
    before = await couch.ask("GET", device.database)
    documents = json.loads(json.dumps(WRITTEN).replace("{rev}", written["rev"]))
    async with aiohttp.ClientSession(counted.url) as http:
        for options in (
            {},
            {"new_edits": True},
            {"new_edits": False},
            {"new_edits": "false"},
            {"all_or_nothing": 1},
        ):
            async with http.post(
                "/passbook/_bulk_docs", json={"docs": documents, **options}, headers=device.headers
            ) as response:
                assert response.status == 201
                answers = await response.json()
            assert [answer["id"] for answer in answers] == [document.get("_id") for document in documents]
            assert {(answer["error"], answer["reason"]) for answer in answers} == {("forbidden", READ_ONLY)}
    assert counted.asked == []
    assert await couch.ask("GET", device.database) == before


def test_a_namespace_to_write_to_is_one_rule() -> None:
    rules = (writes.WriteRule(re.compile(r"command:[a-z0-9]{8}"), None), *writes.RULES)
    verdicts = {
        name: writes.refusal({"_id": name, "_rev": "1-a"}, rules)
        for name in (
            "command:abcd1234",
            "command:",
            "command:abcd1234\n",
            "xcommand:abcd1234",
            "_local/command:abcd1234",
        )
    }
    assert [name for name, verdict in verdicts.items() if verdict is None] == ["command:abcd1234"]
    assert writes.refusal({"_id": "command:abcd1234"}) == READ_ONLY


PUT_CHECKPOINT = ("PUT", "/passbook/_local/abcdefghijklmnop")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/passbook/_bulk_get", b'{"docs": [{"id": "' + b"x" * 262_122 + b'"}]}', 200),
        ("POST", "/passbook/_bulk_get", b'{"docs": [{"id": "' + b"x" * 262_123 + b'"}]}', 413),
        ("POST", "/passbook/_bulk_get", b'{"docs": [' + each(b'{"id": "%d"}', 2_000) + b"]}", 200),
        ("POST", "/passbook/_bulk_get", b'{"docs": [' + each(b'{"id": "%d"}', 2_001) + b"]}", 400),
        ("POST", "/passbook/_bulk_get", b'{"docs": [' + each(b'{"id": "a", "rev": "%d-a"}', 20) + b"]}", 200),
        ("POST", "/passbook/_bulk_get", b'{"docs": [' + each(b'{"id": "a", "rev": "%d-a"}', 21) + b"]}", 400),
        ("POST", "/passbook/_revs_diff", b'{"' + b"x" * 262_136 + b'": []}', 200),
        ("POST", "/passbook/_revs_diff", b'{"' + b"x" * 262_137 + b'": []}', 413),
        ("POST", "/passbook/_all_docs", b'{"keys": ["' + b"x" * 262_130 + b'"]}', 200),
        ("POST", "/passbook/_all_docs", b'{"keys": ["' + b"x" * 262_131 + b'"]}', 413),
        ("POST", "/passbook/_all_docs", b'{"x": [' + each(b"%d", 9_999) + b"]}", 200),
        ("POST", "/passbook/_all_docs", b'{"x": [' + each(b"%d", 10_000) + b"]}", 413),
        ("POST", "/passbook/_bulk_docs", b'{"docs": [{"_id":"' + b"x" * 999_978 + b'"}]}', 201),
        ("POST", "/passbook/_bulk_docs", b'{"docs": [{"_id":"' + b"x" * 999_979 + b'"}]}', 413),
        ("POST", "/passbook/_bulk_docs", b'{"docs": [' + b"{}," * 1_999 + b"{}]}", 201),
        ("POST", "/passbook/_bulk_docs", b'{"docs": [' + b"{}," * 2_000 + b"{}]}", 400),
        (*PUT_CHECKPOINT, b'{"a": "' + b"x" * 16_375 + b'"}', 201),
        (*PUT_CHECKPOINT, b'{"a": "' + b"x" * 16_376 + b'"}', 413),
        (*PUT_CHECKPOINT, b"[]", 400),
        (*PUT_CHECKPOINT, b'{"_attachments": {"x": {"data": "aGVs"}}}', 400),
        ("PUT", "/passbook/_local/" + "a" * 80, b"{}", 201),
        ("PUT", "/passbook/_local/" + "a" * 81, b"{}", 403),
        ("PUT", "/passbook/_local/" + "a" * 15, b"{}", 403),
        ("PUT", "/passbook/_local/notes%20about%20things", b"{}", 403),
        ("PUT", "/passbook/loan:1", b"{}", 403),
        ("PUT", "/passbook/loan:1/image", b"x" * 50_000_000, 403),
        ("PUT", "/passbook/_local/abcdefghijklmnop/image", b"x", 403),
    ],
)
async def test_T11_one_byte_too_many_is_refused_and_leaves_nothing(
    counted: Counted, couch: Couch, method: str, path: str, body: bytes, status: int
) -> None:
    device = counted.device
    before = await couch.ask("GET", device.database)
    headers = {**device.headers, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(counted.url) as http:
        with contextlib.suppress(aiohttp.ClientError):  # refused before all of it was sent
            async with http.request(method, path, data=io.BytesIO(body), headers=headers) as response:
                assert response.status == status
                if status >= 400:
                    assert set(await response.json()) == {"code", "message", "error", "reason"}
        if status >= 400:
            assert counted.asked == []
            async with http.get("/passbook/_local/abcdefghijklmnop", headers=headers) as response:
                assert response.status == 404
            assert await couch.ask("GET", device.database) == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("_bulk_get", b"{"),
        ("_bulk_get", b"[]"),
        ("_bulk_get", b""),
        ("_bulk_get", b'{"docs": [{"id": "_local/abcdefghijklmnop"}]}'),
        ("_bulk_get", b'{"docs": ' + b"[" * 9_000),
        ("_bulk_get", b"\xff\xfe"),
        ("_bulk_get", b'{"docs": [{"id": "a"}]} '.decode().encode("utf-16")),
        ("_bulk_get", b'\xef\xbb\xbf{"docs": [{"id": "a"}]}'),
        ("_bulk_get", b'{"docs": [{"id": "a"}]}{"docs": []}'),
        ("_bulk_get", b'{"docs": [{"id": "\\ud800"}]}'),
        ("_bulk_get", b'{"docs": [{"id": "a"}], "docs": [{"id": "b"}]}'),
        ("_bulk_get", b'{"docs": [{"id": "a", "id": "b"}]}'),
        ("_bulk_get", b'{"docs": [{"id": "a", "\\u0069d": "b"}]}'),
        ("_bulk_get", b'{"docs": [{"id": "a", "x": {"y": 1, "y": 1}}]}'),
        ("_bulk_docs", b'{"docs": [{"_id": "a", "roles": [], "roles": ["_admin"]}]}'),
        ("_bulk_docs", b'{"docs": [], "new_edits": true, "new_edits": false}'),
        ("_revs_diff", b'{"a": [], "a": []}'),
        ("_changes", b'{"doc_ids": 7}'),
        ("_changes", b'{"doc_ids": [], "doc_ids": []}'),
        ("_all_docs", b'{"keys": [NaN]}'),
        ("_all_docs", b'{"keys": [1e999]}'),
        ("_all_docs", b'{"keys": [' + b"9" * 5_000 + b"]}"),
    ],
)
async def test_T13_json_that_could_be_read_in_two_ways_is_refused(counted: Counted, path: str, body: bytes) -> None:
    async with (
        aiohttp.ClientSession(counted.url) as http,
        http.post(f"/passbook/{path}", data=body, headers=counted.device.headers) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (400, "bad_request")
    assert counted.asked == []


def test_T13_the_same_key_in_different_objects_is_no_twice() -> None:
    body = b'{"docs": [{"id": "a", "rev": "1-a"}, {"id": "a", "rev": "2-a"}]}'
    assert [document.id for document in bodies.BULK_GET.decoded(body).docs] == ["a", "a"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "_bulk_get", {"docs": [{"id": "a"}] * 2_000}),
        ("POST", "_bulk_get", {"docs": [{"id": "a", "rev": "1-a"}, {"id": "b"}, {"id": "a", "rev": "1-a"}]}),
        ("POST", "_all_docs?include_docs=true", {"keys": ["a"] * 2_000}),
        ("POST", "_all_docs", {"keys": ["a", "b", "a"]}),
        ("POST", "_changes?filter=_doc_ids", {"doc_ids": ["a"] * 2_000}),
        ("POST", "_revs_diff", {"a": ["1-a", "1-a"]}),
        ("GET", '_all_docs?keys=["a","a"]', None),
        ("GET", '_all_docs?keys=["a","\\u0061"]', None),
        ("GET", '_all_docs?keys=["a",["a"]]', None),
        ("GET", '_changes?filter=_doc_ids&doc_ids=["a","a"]', None),
        ("GET", '_changes?filter=_doc_ids&feed=continuous&doc_ids=["a","a"]', None),
        ("GET", 'a?open_revs=["1-a","1-a"]', None),
        ("GET", 'a?atts_since=["1-a","1-a"]', None),
        ("GET", "a?open_revs=1-a", None),
    ],
)
async def test_T31_the_same_asked_for_twice_is_refused(
    counted: Counted, method: str, path: str, body: dict[str, object] | None
) -> None:
    """CouchDB would look it up, and answer, as often as it was named: 2 s for 10,000 times."""
    url = URL(f"{counted.url}/passbook/{path}")
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, json=body, headers=counted.device.headers) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (400, "bad_request")
    assert counted.asked == []


#: Bodies that are as dear to decode as any that fit, by route.
DEAREST = {
    "_revs_diff": b"{" + each(b'"%d":[]', 4_999) + b"}",
    "_bulk_get": b"{" + each(b'"%d":0', 9_990) + b',"docs":[]}',
    "_all_docs": b'{"x":[' + b",".join(b"9" * 4_000 for _ in range(60)) + b"]}",
    "_bulk_docs": b'{"docs":[{' + each(b'"%d":{}', 9_990) + b"}]}",
}


async def test_T31_decoding_gets_a_part_of_the_loop_and_each_person_a_turn() -> None:
    """Counted, not timed: how much of what many sent is decoded before the one body of somebody else."""
    turns = Turns()
    order: list[str] = []

    def piece(name: str) -> Callable[[], None]:
        def work() -> None:
            order.append(name)
            end = time.thread_time() + 0.002
            while time.thread_time() < end:
                pass

        return work

    async def sends(name: str) -> None:
        await turns.work(name, piece(name), lambda _: None)

    started = time.monotonic()
    many = [asyncio.create_task(sends(f"hostile-{number % 3}")) for number in range(60)]
    await asyncio.sleep(0.03)
    before = len(order)
    await sends("honest")
    # One that had begun, and one of each of the three who wait.
    assert order.index("honest") <= before + 4
    await asyncio.gather(*many)
    assert turns.seconds >= 61 * 0.002
    assert turns.seconds <= (time.monotonic() - started) * SHARE + turns.longest


async def test_T31_who_sends_dear_bodies_pays_for_their_decoding(counted: Counted, people: People) -> None:
    """Processor time, not their number: after a second's worth of it the device and its person are to wait."""
    parts = counted.parts
    other = people.add(f"nowhere-{time.monotonic_ns()}")
    async with aiohttp.ClientSession(counted.url) as http:
        spent, count, status = 0.0, 0, 0
        while status != 429:
            spent = parts.limits.turns.seconds
            async with http.post(
                "/passbook/_bulk_docs", data=DEAREST["_bulk_docs"], headers=counted.device.headers
            ) as response:
                status = response.status
                assert status in (201, 429)
            count += 1
            if count == 5:
                # The rest as if it had been sent, or this test would take a while.
                parts.limits._take(parts.limits._decoding, await principal_of(counted), 1.0 - spent)
        assert 5 < count < 60
        assert parts.limits.turns.longest < 0.25
        async with http.get("/passbook", headers=other.headers) as response:
            assert response.status in (200, 503)  # CouchDB does not know them, but they are not told to wait


async def principal_of(counted: Counted) -> Principal:
    return Principal(counted.device.id, counted.device.person, "", True, NOW)


@pytest.mark.parametrize("route", DEAREST)
def test_T31_the_dearest_body_that_fits_holds_the_loop_for_little(route: str) -> None:
    """A hundredth of a second here. With 1 MB and any number of values it was a third of one."""
    body, rule = DEAREST[route], {"/passbook/" + one.path[-1]: one.body for one in ROUTES if one.body}
    found = rule[f"/passbook/{route}"]
    assert found is not None
    assert len(body) <= found.limit
    turns = Turns()
    for _ in range(3):
        with contextlib.suppress(Problem):
            turns.now(lambda: found._checked(body), lambda _: None)
    assert turns.seconds / 3 < 0.1


async def test_what_pouchdb_sends_in_its_largest_batches_fits(
    device: Device, couch: Couch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`batch_size` 1,000, in both directions, with ids as long as they come: below half of what may be sent."""
    sent: dict[str, tuple[int, int]] = {}
    received = bodies.Rule._received

    async def noted(rule: bodies.Rule, request: web.Request) -> bytes:
        body = await received(rule, request)
        values = body.count(b",") + body.count(b"[") + body.count(b"{")
        sent[request.path] = max(sent.get(request.path, (0, 0)), (len(body), values))
        return body

    monkeypatch.setattr(bodies.Rule, "_received", noted)
    names = [f"savings:{10_000_000 + number}:transactions:2026-11" for number in range(2_000)]
    await couch.write(device.database, *({"_id": name} for name in names[:1_000]))
    async with PouchClient.started(device.url, device.id, device.secret, batch_size=1_000) as pouch:
        assert (await pouch.replicate())["written"] == 1_000
        for name in names[1_000:]:
            await pouch.put({"_id": name})
        assert (await pouch.sync())["push"]["doc_write_failures"] == 1_000
    print(sent)
    for route, rule in (
        ("_bulk_get", bodies.BULK_GET),
        ("_revs_diff", bodies.REVS_DIFF),
        ("_bulk_docs", bodies.BULK_DOCS),
    ):
        length, values = sent[f"/passbook/{route}"]
        assert 70_000 < length < rule.limit / 2
        assert values < rule.values / 2
