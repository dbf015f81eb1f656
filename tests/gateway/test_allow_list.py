"""Only what is on the list answers; everything else is one and the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from sync_gateway import routes
from sync_gateway.answers import Problem
from tests.gateway.conftest import Device
from tests.support.couch import Couch

#: CouchDB's route table: method and path, from its HTTP API reference. `{db}` is the database, by its public
#: and by its real name.
SERVER = """
GET /_active_tasks
GET /_all_dbs
GET /_dbs_info
POST /_dbs_info
GET /_cluster_setup
POST /_cluster_setup
GET /_db_updates
GET /_membership
POST /_replicate
GET /_scheduler/jobs
GET /_scheduler/docs
GET /_node/_local
GET /_node/_local/_stats
GET /_node/_local/_config
PUT /_node/_local/_config/admins/x
GET /_node/_local/_system
POST /_node/_local/_restart
GET /_node/_local/_prometheus
GET /_node/_local/_versions
POST /_search_analyze
POST /_nouveau_analyze
GET /_utils
GET /_utils/
GET /_up
GET /_uuids
GET /favicon.ico
GET /_reshard
GET /_reshard/jobs
POST /_session
GET /_session
DELETE /_session
GET /_users
GET /_users/org.couchdb.user:x
PUT /_users/org.couchdb.user:x
GET /_replicator
POST /_replicator
GET /_global_changes
GET /_config
GET /_stats
GET /_log
OPTIONS /
TRACE /
PUT /
DELETE /
POST /
GET /metrics
GET /health
"""
DATABASE = """
PUT {db}
DELETE {db}
POST {db}
PATCH {db}
COPY {db}
OPTIONS {db}
PUT {db}/_all_docs
POST {db}/_all_docs/queries
GET {db}/_all_docs/queries
GET {db}/_design_docs
POST {db}/_design_docs
POST {db}/_design_docs/queries
GET {db}/_bulk_get
GET {db}/_bulk_docs
PUT {db}/_bulk_docs
POST {db}/_find
POST {db}/_explain
GET {db}/_index
POST {db}/_index
DELETE {db}/_index/_design/x/json/y
GET {db}/_shards
GET {db}/_shards/loan:1
POST {db}/_sync_shards
PUT {db}/_changes
DELETE {db}/_changes
POST {db}/_compact
POST {db}/_compact/x
POST {db}/_view_cleanup
POST {db}/_search_cleanup
POST {db}/_nouveau_cleanup
GET {db}/_security
PUT {db}/_security
POST {db}/_purge
GET {db}/_purged_infos
GET {db}/_purged_infos_limit
PUT {db}/_purged_infos_limit
POST {db}/_missing_revs
GET {db}/_revs_limit
PUT {db}/_revs_limit
GET {db}/_revs_diff
GET {db}/_auto_purge
GET {db}/_partition/x
GET {db}/_partition/x/_all_docs
POST {db}/_partition/x/_find
POST {db}/_temp_view
GET {db}/_local_docs
POST {db}/_local_docs
GET {db}/_local
GET {db}/_local/short
GET {db}/_local/has_a_slash/in_the_middle
DELETE {db}/_local/abcdefghijklmnop
POST {db}/_local/abcdefghijklmnop
PUT {db}/_local/abcdefghijklmnop/attachment
GET {db}/_design/x
HEAD {db}/_design/x
PUT {db}/_design/x
DELETE {db}/_design/x
COPY {db}/_design/x
GET {db}/_design/x/_info
GET {db}/_design/x/_view/y
POST {db}/_design/x/_view/y
GET {db}/_design/x/_show/y
GET {db}/_design/x/_list/y/z
POST {db}/_design/x/_update/y
GET {db}/_design/x/_rewrite/y
GET {db}/_design/x/_search/y
GET {db}/_design/x/_nouveau/y
GET {db}/_design/x/attachment
GET {db}/_design%2Fx
PUT {db}/loan:1
POST {db}/loan:1
DELETE {db}/loan:1
COPY {db}/loan:1
PATCH {db}/loan:1
PUT {db}/loan:1/image
DELETE {db}/loan:1/image
GET {db}/loan:1/image/more
GET {db}/_ensure_full_commit
GET {db}/_nothing
"""
TRICKS = """
GET //passbook
GET /passbook//
GET /passbook//loan:1
GET /passbook/./loan:1
GET /passbook/../passbook
GET /passbook/../_all_dbs
GET /passbook/%2e%2e/_all_dbs
GET /passbook/..%2f_all_dbs
GET /passbook/%2e%2e%2f_all_dbs
GET /passbook/loan:1/../../_all_dbs
GET /passbook/loan:1%2f..%2f..%2f_all_dbs
GET /passbook%2floan:1
GET /passbook/loan:1%2fimage
GET /passbook/loan%00
GET /passbook/loan%0a
GET /passbook/%5fsecurity
GET /passbook/%5Fdesign/x
GET /passbook/%255fsecurity/..
GET /passbook/%
GET /passbook/%zz
GET /passbook/%ff
GET /passbook/%c0%ae%c0%ae
GET /passbook\\loan:1
GET /passbook/..\\_all_dbs
GET /Passbook
GET /PASSBOOK
GET /passbook;x=1
GET /passbook/loan:1/
GET /passbook/_changes/
GET /passbook/_local/%2e%2e%2f_security0000
GET /passbook/_local/abcdefghijklmnop%2f..
GET http://127.0.0.1/passbook
GET http://127.0.0.1:5984/_all_dbs
OPTIONS *
GET /?/passbook
GET /passbook#x
PROPFIND /passbook
"""
# What looks like a trick and is not: the query has no part in it.
EXCEPTIONS = {"GET /?/passbook"}


async def raw(
    url: str, method: str, target: str, authorization: str, body: str = ""
) -> tuple[int, tuple[str, ...], str]:
    """Status, headers but the date, and body of a request that is sent exactly as written."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(
            f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {authorization}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, rest = answer.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return int(first.split()[1]), tuple(line for line in lines if not line.startswith("Date:")), rest


def cases(table: str) -> list[tuple[str, str]]:
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in table.strip().splitlines()]


async def test_everything_else_is_one_answer(device: Device, couch: Couch, gateway: str) -> None:
    await couch.write(device.database, {"_id": "loan:1"}, {"_id": "_design/x", "views": {}})
    wanted = cases(SERVER) + [case for case in cases(TRICKS) if " ".join(case) not in EXCEPTIONS]
    for method, path in cases(DATABASE):
        wanted += [
            (method, path.replace("{db}", "/passbook")),
            (method, path.replace("{db}", f"/{device.database}")),
        ]
    wanted += [
        (method, path.format(db=f"/{device.database}"))
        for method in ("GET", "POST")
        for path in ("{db}", "{db}/", "{db}/_changes", "{db}/_all_docs", "{db}/_bulk_get", "{db}/loan:1")
    ]
    authorization = device.headers["Authorization"]
    answers: dict[Any, list[tuple[str, str]]] = {}
    for method, target in wanted:
        body = "{}" if method in ("POST", "PUT", "PATCH") else ""
        status, headers, text = await raw(gateway, method, target, authorization, body)
        # An answer to HEAD has the same headers and, as always, no body.
        answers.setdefault((status, headers, text if method != "HEAD" else None), []).append((method, target))
    head = [key for key in answers if key[2] is None]
    full = [key for key in answers if key[2] is not None]
    assert len(full) == 1, {key: where[:5] for key, where in answers.items()}
    assert [key[:2] for key in head] == [full[0][:2]]
    assert full[0][0] == 404
    assert json.loads(full[0][2])["error"] == "not_found"
    # A document that is not there cannot be told from a path that is not served.
    assert (await raw(gateway, "GET", "/passbook/loan:2", authorization)) == full[0]


@pytest.mark.parametrize("line", ["GET passbook", "GET *", "get /passbook", "FOO /passbook"])
async def test_what_is_no_http_gets_no_further(gateway: str, line: str) -> None:
    status, _, body = await raw(gateway, *line.split(), "-")
    assert status == 400
    assert not body.startswith("{")


async def test_what_is_on_the_list(device: Device, couch: Couch, http: aiohttp.ClientSession) -> None:
    image = {"image": {"content_type": "text/plain", "data": "aGVsbG8="}}
    first, _ = await couch.write(
        device.database, {"_id": "loan:1", "a": 1}, {"_id": "client:1:image", "_attachments": image}
    )

    async def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with http.request(method, path, json=body, headers=device.headers) as response:
            text = await response.read()
            assert device.database.encode() not in text + str(response.headers).encode()
            return response.status, json.loads(text) if text and text[:1] in b"[{" else text

    status, welcome = await ask("GET", "/")
    assert (status, welcome["couchdb"], welcome["vendor"]) == (200, "Welcome", {"name": "Passbook"})
    for path in ("/passbook", "/passbook/"):
        status, info = await ask("GET", path)
        assert (status, info["db_name"], info["doc_count"]) == (200, "passbook", 2)
        assert await ask("HEAD", path) == (200, b"")
    for path in ("/passbook/loan:1", "/passbook/loan%3A1", "/passbook/loan%3a1", "/passbook/%6coan:1"):
        assert await ask("GET", path) == (200, {"_id": "loan:1", "_rev": first["rev"], "a": 1})
    assert await ask("HEAD", "/passbook/loan:1") == (200, b"")
    assert await ask("GET", "/passbook/client:1:image/image") == (200, b"hello")
    assert (await ask("GET", "/passbook/loan:1?open_revs=all"))[1][0]["ok"]["a"] == 1
    assert (await ask("GET", f"/passbook/loan:1?rev={first['rev']}&revs=true"))[1]["_revisions"]["start"] == 1
    assert len((await ask("GET", "/passbook/_changes"))[1]["results"]) == 2
    assert (await ask("POST", "/passbook/_changes", {}))[0] == 200
    assert (await ask("GET", "/passbook/_all_docs?include_docs=true&startkey=%22loan%22"))[1]["rows"][0]["doc"][
        "a"
    ] == 1
    assert [r["key"] for r in (await ask("POST", "/passbook/_all_docs", {"keys": ["loan:1", "x"]}))[1]["rows"]] == [
        "loan:1",
        "x",
    ]
    wanted = {"docs": [{"id": "loan:1", "rev": first["rev"]}, {"id": "nothing"}]}
    got = (await ask("POST", "/passbook/_bulk_get?revs=true", wanted))[1]["results"]
    assert got[0]["docs"][0]["ok"]["a"] == 1
    assert got[1]["docs"][0]["error"]["error"] == "not_found"
    assert (await ask("POST", "/passbook/_revs_diff", {"loan:1": ["9-x"]}))[1]["loan:1"]["missing"] == ["9-x"]
    assert (await ask("POST", "/passbook/_ensure_full_commit"))[1]["ok"] is True
    checkpoint = "/passbook/_local/CyQ.pLZk9p1_Qk4TH3oYFA%3D%3D"
    assert (await ask("GET", checkpoint))[0] == 404
    assert (await ask("PUT", checkpoint, {"last_seq": 1}))[0] == 201
    assert (await ask("GET", checkpoint))[1]["last_seq"] == 1


async def test_writes_are_refused_one_by_one(device: Device, couch: Couch, http: aiohttp.ClientSession) -> None:
    (written,) = await couch.write(device.database, {"_id": "loan:1", "balance": "10.00"})
    poison = {"_id": "loan:1", "_rev": "99999-ffffffffffffffffffffffffffffffff", "balance": "0.00"}
    for body in ({"docs": [poison], "new_edits": False}, {"docs": [poison]}):
        async with http.post("/passbook/_bulk_docs", json=body, headers=device.headers) as response:
            assert response.status == 201
            (answer,) = await response.json()
            assert (answer["id"], answer["error"]) == ("loan:1", "forbidden")
    assert (await couch.ask("GET", f"{device.database}/loan:1?conflicts=true")) == {
        "_id": "loan:1",
        "_rev": written["rev"],
        "balance": "10.00",
    }


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/passbook/_bulk_get", "POST", b'{"docs": [{"id": "' + b"x" * 1_000_000 + b'"}]}', 413),
        ("/passbook/_revs_diff", "POST", b'{"' + b"x" * 1_000_000 + b'": []}', 413),
        ("/passbook/_all_docs", "POST", b'{"keys": ["' + b"x" * 1_000_000 + b'"]}', 413),
        ("/passbook/_local/abcdefghijklmnop", "PUT", b'{"a": "' + b"x" * 16_375 + b'"}', 201),
        ("/passbook/_local/abcdefghijklmnop", "PUT", b'{"a": "' + b"x" * 16_376 + b'"}', 413),
        ("/passbook/_local/abcdefghijklmnop", "PUT", b"[]", 400),
        ("/passbook/_local/abcdefghijklmnop", "PUT", b'{"_attachments": {}}', 400),
        ("/passbook/_bulk_get", "POST", b"{", 400),
        ("/passbook/_bulk_get", "POST", b"[]", 400),
        ("/passbook/_bulk_get", "POST", b"", 400),
        ("/passbook/_bulk_get", "POST", b'{"docs": [{"id": "_local/abcdefghijklmnop"}]}', 400),
        ("/passbook/_bulk_get", "POST", b'{"docs": ' + b"[" * 100_000, 400),
        ("/passbook/_bulk_get", "POST", b"\xff\xfe", 400),
        ("/passbook/_changes", "POST", b'{"doc_ids": 7}', 400),
        ("/passbook/_changes?feed=eventsource", "GET", None, 400),
        ("/passbook/_changes?filter=_view&view=a/b", "GET", None, 400),
        ("/passbook/_changes?filter=app/mine", "GET", None, 400),
        ("/passbook/_changes?heartbeat=x", "GET", None, 400),
        ("/passbook/_changes?since=%zz", "GET", None, 400),
    ],
)
async def test_limits(
    device: Device, http: aiohttp.ClientSession, path: str, method: str, body: bytes | None, status: int
) -> None:
    headers = {**device.headers, "Content-Type": "application/json"}
    async with http.request(method, path, data=body, headers=headers) as response:
        assert response.status == status
        if status >= 400:
            assert set(await response.json()) == {"code", "message", "error", "reason"}


def test_parameters_off_the_list_are_dropped_and_the_first_of_a_name_counts() -> None:
    match = routes.match(
        "GET", "/passbook/_changes?since=3&rev=1&since=4&_x=y&filter=_doc_ids&doc_ids=%5B%22a+b%22%5D"
    )
    assert match is not None
    assert match.query == {"since": "3", "filter": "_doc_ids", "doc_ids": '["a b"]'}


@pytest.mark.parametrize(
    ("asked", "given"), [("1", "1000"), ("10000", "10000"), ("999999999999", "60000"), ("true", "true")]
)
def test_heartbeat_is_bounded(asked: str, given: str) -> None:
    match = routes.match("GET", f"/passbook/_changes?feed=continuous&heartbeat={asked}")
    assert match is not None
    assert match.query["heartbeat"] == given
    assert match.live


@pytest.mark.parametrize("value", ["١٢", "-1", "1e3", " 1", ""])
def test_heartbeat_that_is_no_number(value: str) -> None:
    with pytest.raises(Problem):
        routes.match("GET", f"/passbook/_changes?heartbeat={value}")


def test_the_list_is_short() -> None:
    """A change here wants a second thought."""
    assert sorted({(route["name"], *route["methods"]) for route in routes.described()}) == [
        ("all_docs", "GET"),
        ("all_docs", "POST"),
        ("attachment", "GET", "HEAD"),
        ("bulk_docs", "POST"),
        ("bulk_get", "POST"),
        ("changes", "GET"),
        ("changes", "POST"),
        ("checkpoint", "GET"),
        ("checkpoint", "PUT"),
        ("document", "GET", "HEAD"),
        ("ensure_full_commit", "POST"),
        ("info", "GET", "HEAD"),
        ("revs_diff", "POST"),
        ("welcome", "GET", "HEAD"),
    ]
