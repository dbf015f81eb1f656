"""What devices send: nothing too large, nothing that could be read in two ways, and no documents."""

from __future__ import annotations

import contextlib
import io
import json
import re

import aiohttp
import pytest

from sync_gateway import bodies, writes
from tests.gateway.conftest import Counted
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
            assert {(answer["error"], answer["reason"]) for answer in answers} == {("forbidden", writes.READ_ONLY)}
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
    assert writes.refusal({"_id": "command:abcd1234"}) == writes.READ_ONLY


PUT_CHECKPOINT = ("PUT", "/passbook/_local/abcdefghijklmnop")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/passbook/_bulk_get", b'{"docs": [{"id": "' + b"x" * 999_978 + b'"}]}', 200),
        ("POST", "/passbook/_bulk_get", b'{"docs": [{"id": "' + b"x" * 999_979 + b'"}]}', 413),
        ("POST", "/passbook/_revs_diff", b'{"' + b"x" * 999_992 + b'": []}', 200),
        ("POST", "/passbook/_revs_diff", b'{"' + b"x" * 999_993 + b'": []}', 413),
        ("POST", "/passbook/_all_docs", b'{"keys": ["' + b"x" * 999_986 + b'"]}', 200),
        ("POST", "/passbook/_all_docs", b'{"keys": ["' + b"x" * 999_987 + b'"]}', 413),
        ("POST", "/passbook/_bulk_docs", b'{"docs": [{"_id":"' + b"x" * 999_978 + b'"}]}', 201),
        ("POST", "/passbook/_bulk_docs", b'{"docs": [{"_id":"' + b"x" * 999_979 + b'"}]}', 413),
        ("POST", "/passbook/_bulk_docs", b'{"docs": [' + b"{}," * 1_999 + b"{}]}", 201),
        ("POST", "/passbook/_bulk_docs", b'{"docs": [' + b"{}," * 2_000 + b"{}]}", 400),
        (*PUT_CHECKPOINT, b'{"a": "' + b"x" * 16_375 + b'"}', 201),
        (*PUT_CHECKPOINT, b'{"a": "' + b"x" * 16_376 + b'"}', 413),
        (*PUT_CHECKPOINT, b"[]", 400),
        (*PUT_CHECKPOINT, b'{"_attachments": {"x": {"data": "aGVs"}}}', 400),
        ("PUT", "/passbook/_local/" + "a" * 80, b"{}", 201),
        ("PUT", "/passbook/_local/" + "a" * 81, b"{}", 404),
        ("PUT", "/passbook/_local/" + "a" * 15, b"{}", 404),
        ("PUT", "/passbook/_local/notes%20about%20things", b"{}", 404),
        ("PUT", "/passbook/loan:1", b"{}", 404),
        ("PUT", "/passbook/loan:1/image", b"x" * 50_000_000, 404),
        ("PUT", "/passbook/_local/abcdefghijklmnop/image", b"x", 404),
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
        ("_bulk_get", b'{"docs": ' + b"[" * 100_000),
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
    body = b'{"docs": [{"id": "a", "rev": "1-a"}, {"id": "a", "rev": "1-a"}]}'
    assert [document.id for document in bodies.BULK_GET.decoded(body).docs] == ["a", "a"]
