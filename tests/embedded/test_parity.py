"""One table of requests, asked of the embedded server and of CouchDB: each answers as the table says, and alike.

Runs against the CouchDB of PASSBOOK_TEST_COUCHDB_URL as well, which keeps the table honest. What is not in it and
differs is listed in docs/embedded-server.md.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from passbook.embedded import couchdb
from passbook.settings import Settings

REAL = os.environ.get("PASSBOOK_TEST_COUCHDB_URL", "")
needs_real = pytest.mark.skipif(not REAL, reason="needs PASSBOOK_TEST_COUCHDB_URL")

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
UNKNOWN = "1-" + "0" * 32
IMAGE = {"image": {"content_type": "image/png", "data": "aGVsbG8="}}
#: What is in the database: two plain documents, one with an attachment, one in conflict, one deleted.
DOCUMENTS = [
    {"docs": [{"_id": "loan:1", "a": 1}, {"_id": "loan:2", "a": 2}]},
    {"docs": [{"_id": "client:1:image", "_attachments": IMAGE}]},
    {"new_edits": False, "docs": [{"_id": "forked", "_rev": f"2-{B}", "_revisions": {"start": 2, "ids": [B, A]}}]},
    {"new_edits": False, "docs": [{"_id": "forked", "_rev": f"2-{C}", "_revisions": {"start": 2, "ids": [C, A]}}]},
    {"new_edits": False, "docs": [{"_id": "gone", "_rev": f"1-{A}", "_deleted": True}]},
]
#: Method, path, body if any, status, and the word for an error; `=` before the status of answers whose bodies are
#: compared as well.
TABLE = rf"""
HEAD · · =200
GET /loan:1 · =200
GET /nothing · =404 not_found
GET /gone · =404 not_found
GET /gone?rev=1-{A} · =200
GET /forked?conflicts=true · =200
GET /forked?revs=true&revs_info=true · =200
GET /forked?open_revs=all · =200
GET /forked?open_revs=["2-{B}","9-{B}"] · =200
GET /forked?rev=2-{B}&latest=true · 200
GET /forked?rev=1-{A} · =404 not_found
GET /loan:1?revs=yes · =200
GET /loan:1?conflicts=TRUE · =200
GET /loan:1?rev=bogus · =400 bad_request
GET /loan:1?rev= · =400 bad_request
GET /loan:1?rev=1-{"z" * 32} · =400 bad_request
GET /loan:1?open_revs=bogus · =400 bad_request
GET /loan:1?open_revs={{}} · =400 bad_request
GET /loan:1?open_revs=null · =400 bad_request
GET /loan:1?open_revs=["bogus"] · =400 bad_request
GET /loan:1?atts_since=bogus · =400 bad_request
GET /loan:1?atts_since=["bogus"] · =400 bad_request
HEAD /loan:1 · =200
HEAD /nothing · =404
GET /client:1:image · =200
GET /client:1:image?attachments=true · =200
GET /client:1:image/image · =200
HEAD /client:1:image/image · =200
GET /client:1:image/none · =404 not_found
GET /client:1:image/image?rev=bogus · =400 bad_request
GET /client:1:image/image?rev={UNKNOWN} · =404 not_found
GET /_all_docs · =200
GET /_all_docs?include_docs=true&conflicts=true · =200
GET /_all_docs?include_docs=TRUE&attachments=true · =200
GET /_all_docs?limit=1&skip=1&descending=true · =200
GET /_all_docs?limit=0 · =200
GET /_all_docs?limit=%2B1 · =200
GET /_all_docs?startkey="loan:1"&endkey="loan:2"&inclusive_end=false · 200
GET /_all_docs?key="loan:1" · 200
GET /_all_docs?keys=["loan:1","nothing"] · =200
GET /_all_docs?include_docs=1 · =400 query_parse_error
GET /_all_docs?include_docs= · 400 query_parse_error
GET /_all_docs?descending=bogus · =400 query_parse_error
GET /_all_docs?update_seq="true" · =400 query_parse_error
GET /_all_docs?limit=bogus · 400 query_parse_error
GET /_all_docs?limit=1e3 · 400 query_parse_error
GET /_all_docs?limit= · 400 query_parse_error
GET /_all_docs?limit=-1 · 400 query_parse_error
GET /_all_docs?limit=999999999999999999 · =400 query_parse_error
GET /_all_docs?skip=1.5 · 400 query_parse_error
GET /_all_docs?key=bogus · =400 bad_request
GET /_all_docs?startkey="\ud800" · =400 bad_request
GET /_all_docs?keys={{}} · 400 bad_request
POST /_all_docs {{"keys":["loan:1","nothing","gone","loan:1"]}} =200
POST /_all_docs?include_docs=true {{"keys":["loan:1","nothing","gone"]}} =200
POST /_all_docs {{"keys":[]}} =200
POST /_all_docs {{"keys":["loan:1","loan:2"],"limit":1,"descending":true}} 200
POST /_all_docs {{"keys":{{}}}} =400 bad_request
POST /_all_docs {{"include_docs":1}} =400 query_parse_error
POST /_all_docs {{"limit":-1}} 400 query_parse_error
POST /_all_docs [] =400 bad_request
POST /_bulk_get {{"docs":[{{"id":"loan:1"}},{{"id":"nothing"}},{{"id":"gone"}},{{"id":"loan:1","rev":"9-a"}}]}} =200
POST /_bulk_get {{"docs":[{{"id":"loan:1","rev":"bogus"}},{{"id":"_x"}},{{"id":""}}]}} =200
POST /_bulk_get?revs=true&attachments=true {{"docs":[{{"id":"client:1:image"}},{{"id":"forked"}}]}} =200
POST /_bulk_get {{}} =400 bad_request
POST /_revs_diff {{"nothing":["1-a"],"loan:2":[]}} =200
POST /_revs_diff {{"loan:1":["bogus"]}} =400 bad_request
POST /_revs_diff {{"loan:1":["1-{"z" * 32}"]}} =400 bad_request
GET /_changes · =200
GET /_changes?include_docs=true&conflicts=true&style=all_docs · 200
GET /_changes?include_docs=true&conflicts=true · =200
GET /_changes?descending=yes&include_docs=1 · =200
GET /_changes?since=now · =200
GET /_changes?feed=longpoll&timeout=1 · =200
GET /_changes?feed=longpoll&timeout=1&since=now · =200
GET /_changes?limit=0&filter= · 200
POST /_changes?filter=_doc_ids {{"doc_ids":["loan:1","nothing"]}} 200
POST /_changes?filter=_doc_ids {{}} =400 bad_request
GET /_changes?filter=_doc_ids&doc_ids=[1] · =400 bad_request
GET /_changes?since= · =400 bad_request
GET /_changes?since=bogus · =400 bad_request
GET /_changes?since=1.5 · =400 bad_request
GET /_changes?since=-1 · =400 bad_request
GET /_changes?feed= · 400 bad_request
GET /_changes?feed=bogus · 400 bad_request
GET /_changes?heartbeat=0 · =400 bad_request
GET /_changes?heartbeat=bogus · =400 bad_request
GET /_changes?seq_interval=0 · =400 bad_request
GET /_changes?seq_interval=bogus · =400 bad_request
GET /_local/none · =404 not_found
PUT /_local/one {{"a":1}} =201
GET /_local/one · =200
PUT /_local/one {{"_bad":1}} =400 doc_validation
PUT /_local/one {{"_rev":"bogus"}} =400 bad_request
DELETE /_local/one · 200
GET /_local/one · =404 not_found
PUT /loan:1 {{"a":2}} =409 conflict
PUT /loan:1?rev=bogus {{}} =400 bad_request
PUT /loan:1 [] =400 bad_request
PUT /loan:1 {{"_bad":1}} =400 doc_validation
DELETE /loan:1 · =409 conflict
DELETE /loan:1?rev={UNKNOWN} · =409 conflict
DELETE /nothing · =404 not_found
POST · [] =400 bad_request
POST /_bulk_docs {{"docs":[{{"_id":"loan:1"}},{{"_id":"new"}}]}} =201
POST /_bulk_docs {{}} =400 bad_request
POST /_bulk_docs {{"docs":{{}}}} =400 bad_request
POST /_bulk_docs {{"docs":[1]}} =400 bad_request
POST /_bulk_docs {{"docs":[{{"_id":"_x"}}]}} =400 illegal_docid
POST /_bulk_docs {{"docs":[{{"_id":""}}]}} =400 illegal_docid
POST /_bulk_docs {{"docs":[{{"_id":5}}]}} =400 illegal_docid
POST /_bulk_docs {{"docs":[{{"_id":"a","_rev":"bogus"}}]}} =400 bad_request
POST /_bulk_docs {{"new_edits":false,"docs":[{{"_id":"x","_rev":"bogus"}}]}} =400 bad_request
GET /_security · =200
PUT /_security {{"members":{{"names":["a"],"roles":[]}}}} =200
GET /_security · =200
POST /_ensure_full_commit {{}} 201
POST /_compact {{}} =202
PUT · · 412 file_exists
GET /_nothing · 404 not_found
"""


class Server:
    """A database on one of the two servers, with `DOCUMENTS` in it."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/parity-{secrets.token_hex(8)}"

    async def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Status and text of an answer."""
        where, _, query = path.partition("?")
        url = URL(f"{self._url}{where}?{quote(query, safe='=&%')}", encoded=True)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        async with self._session.request(method, url, data=body or None, headers=headers) as response:
            return response.status, await response.text()

    async def fill(self) -> None:
        assert await self.ask("PUT", "?q=1") == (201, '{"ok":true}\n')
        for documents in DOCUMENTS:
            assert (await self.ask("POST", "/_bulk_docs", json.dumps(documents)))[0] == 201


@pytest.fixture(scope="module")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path_factory.mktemp("embedded"))})
    with couchdb.running(settings) as address:
        yield address.url


@pytest.fixture
async def embedded(embedded_url: str) -> AsyncIterator[Server]:
    async with aiohttp.ClientSession() as session:
        server = Server(session, embedded_url)
        await server.fill()
        yield server


@pytest.fixture
async def real() -> AsyncIterator[Server]:
    async with aiohttp.ClientSession() as session:
        server = Server(session, REAL)
        await server.fill()
        yield server
        await server.ask("DELETE", "")


def requests() -> Iterator[tuple[str, str, str, bool, int, str]]:
    for line in TABLE.strip().splitlines():
        method, path, body, status, *error = line.split(" ")
        given = ["" if one == "·" else one for one in (path, body)]
        yield method, given[0], given[1], status[0] == "=", int(status.lstrip("=")), "".join(error)


def error_of(text: str) -> str:
    said = json.loads(text) if text.startswith("{") else {}
    return str(said.get("error", ""))


async def differences(server: Server) -> list[tuple[str, int, str]]:
    """Requests that are answered otherwise than the table says, with what the server said."""
    found = []
    for method, path, body, _, status, error in requests():
        answered, text = await server.ask(method, path, body)
        if (answered, error_of(text)) != (status, error):
            found.append((f"{method} {path} {body}", answered, text))
    return found


async def test_the_embedded_server_answers_as_the_table_says(embedded: Server) -> None:
    assert await differences(embedded) == []


@needs_real
async def test_couchdb_answers_as_the_table_says(real: Server) -> None:
    assert await differences(real) == []


def plain(text: str) -> Any:
    """An answer without what is each server's own: hashes of revisions, sequences, ids that it made up."""
    text = re.sub(r'"(seq|last_seq|update_seq)":("[^"]*"|\d+)', r'"\1":0', text)
    text = re.sub(r"\b(\d+)-(?!([abc])\2{31})[0-9a-f]{32}", r"\1-hash", text)
    text = re.sub(r'(?<=")(?!([abc])\1{31})[0-9a-f]{32}(?=")', "hash", text)
    try:
        return json.loads(text)
    except ValueError:
        return text


@needs_real
async def test_both_answer_alike(embedded: Server, real: Server) -> None:
    different = []
    for method, path, body, compared, *_ in requests():
        ours, theirs = [await server.ask(method, path, body) for server in (embedded, real)]
        if compared and plain(ours[1]) != plain(theirs[1]):
            different.append((f"{method} {path} {body}", ours[1], theirs[1]))
    assert different == []


@pytest.fixture(params=["embedded", pytest.param("real", marks=needs_real)])
async def either(request: pytest.FixtureRequest, embedded_url: str) -> AsyncIterator[Server]:
    async with aiohttp.ClientSession() as session:
        server = Server(session, embedded_url if request.param == "embedded" else REAL)
        await server.fill()
        yield server
        await server.ask("DELETE", "")


async def test_changes_are_written_a_row_a_line(either: Server) -> None:
    for feed in ("normal", "longpoll"):
        _, text = await either.ask("GET", f"/_changes?feed={feed}&timeout=1")
        first, *rows, end, last = text.strip().splitlines()
        assert (first, end) == ('{"results":[', "],")
        assert [json.loads(row.rstrip(","))["id"] for row in rows if row] == [
            *("loan:1", "loan:2", "client:1:image", "forked", "gone")
        ]
        assert [row.endswith(",") for row in rows if row] == [True] * 4 + [False]
        assert json.loads("{" + last)["pending"] == 0
    _, text = await either.ask("GET", "/_all_docs")
    first, *rows, end = text.strip().splitlines()
    assert (first[-8:], end) == ('"rows":[', "]}")
    assert [json.loads(row.rstrip(","))["id"] for row in rows] == ["client:1:image", "forked", "loan:1", "loan:2"]
    for feed, empty in (("normal", '{"results":[\n\n],\n"last_seq":'), ("continuous", '{"last_seq":')):
        _, text = await either.ask("GET", f"/_changes?feed={feed}&timeout=1&since=now")
        assert text.lstrip().startswith(empty)
