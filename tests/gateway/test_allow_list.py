"""Only what is on the list answers; everything else is one and the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from sync_gateway import routes
from sync_gateway.answers import Problem
from tests.gateway.conftest import Counted, Device, basic
from tests.gateway.paths import DATABASE, EXCEPTIONS, SERVER, TRICKS, WRITES
from tests.support.couch import Couch


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


def off_the_list(device: Device) -> list[tuple[str, str]]:
    """Requests that nobody may make, by the public and by the real name of the database."""
    wanted = cases(SERVER) + [case for case in cases(TRICKS) if " ".join(case) not in EXCEPTIONS]
    for method, path in cases(DATABASE):
        wanted += [
            (method, path.replace("{db}", "/passbook")),
            (method, path.replace("{db}", f"/{device.database}")),
        ]
    wanted += [(method, path.replace("{db}", f"/{device.database}")) for method, path in cases(WRITES)]
    return wanted + [
        (method, path.format(db=f"/{device.database}"))
        for method in ("GET", "POST")
        for path in ("{db}", "{db}/", "{db}/_changes", "{db}/_all_docs", "{db}/_bulk_get", "{db}/loan:1")
    ]


def writing() -> list[tuple[str, str]]:
    """Requests that would write to the database or remove it, by its public name."""
    return [(method, path.replace("{db}", "/passbook")) for method, path in cases(WRITES)]


async def answers_to(
    gateway: str, requests: list[tuple[str, str]], authorization: str
) -> dict[Any, list[tuple[str, str]]]:
    """Each different answer, with the requests that got it. Those to HEAD have, as always, no body."""
    answers: dict[Any, list[tuple[str, str]]] = {}
    for method, target in requests:
        body = "{}" if method in ("POST", "PUT", "PATCH") else ""
        status, headers, text = await raw(gateway, method, target, authorization, body)
        answers.setdefault((status, headers, text if method != "HEAD" else None), []).append((method, target))
    return answers


async def test_T16_everything_else_is_one_answer_and_never_reaches_couchdb(counted: Counted, couch: Couch) -> None:
    device, gateway = counted.device, counted.url
    await couch.write(device.database, {"_id": "loan:1"}, {"_id": "_design/x", "views": {}})
    authorization = device.headers["Authorization"]
    answers = await answers_to(gateway, off_the_list(device), authorization)
    head = [key for key in answers if key[2] is None]
    full = [key for key in answers if key[2] is not None]
    assert len(full) == 1, {key: where[:5] for key, where in answers.items()}
    assert [key[:2] for key in head] == [full[0][:2]]
    assert full[0][0] == 404
    assert json.loads(full[0][2])["error"] == "not_found"
    assert counted.asked == []
    # A document that is not there cannot be told from a path that is not served.
    assert (await raw(gateway, "GET", "/passbook/loan:2", authorization)) == full[0]
    assert counted.asked == [("GET", f"/{device.database}/loan%3A2")]


async def test_T07_T16_what_would_write_is_one_answer_too(counted: Counted, couch: Couch) -> None:
    """As CouchDB answers who may not: whatever it is, whether it is there or not, and unread."""
    device = counted.device
    await couch.write(device.database, {"_id": "loan:1"}, {"_id": "_design/x", "views": {}})
    before = await couch.ask("GET", device.database)
    answers = await answers_to(counted.url, writing(), device.headers["Authorization"])
    ((status, _, text),) = answers
    said = json.loads(text)
    assert (status, said["error"], said["code"]) == (403, "forbidden", "read_only")
    assert "read-only" in said["reason"]
    # With a body of which nothing has come yet: it is not waited for.
    parts = urlsplit(counted.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        f"PUT /passbook/loan:1 HTTP/1.1\r\nHost: x\r\nAuthorization: {device.headers['Authorization']}\r\n"
        "Content-Length: 100000000\r\n\r\n".encode()
    )
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 403")
    writer.close()
    assert counted.asked == []
    assert await couch.ask("GET", device.database) == before


async def test_T16_a_stranger_cannot_tell_one_path_from_another(counted: Counted) -> None:
    device = counted.device
    on_the_list = [("GET", "/"), ("GET", "/passbook"), ("POST", "/passbook/_bulk_get"), ("GET", "/passbook/loan:1")]
    for authorization in ("", basic(device.id, "wrong"), basic("nobody", "x"), "Bearer x"):
        answers = await answers_to(counted.url, off_the_list(device) + writing() + on_the_list, authorization)
        assert {key[:2] for key in answers} == {next(iter(answers))[:2]}
        assert {key[0] for key in answers} == {401}
    assert counted.asked == []


#: What follows the request line: two lengths, a length and chunks, and the like. A reader that takes the one and a
#: reader that takes the other would see different requests.
FRAMINGS = [
    "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "Content-Length: 2, 2\r\n\r\n{}",
    "Content-Length: +2\r\n\r\n{}",
    "Content-Length: -2\r\n\r\n{}",
    "Content-Length: 0x2\r\n\r\n{}",
    "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "X: a\r\n Content-Length: 2\r\n\r\n{}",
    "X: a\nContent-Length: 2\r\n\r\n{}",
    "X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "X: " + "a" * 10_000 + "\r\n\r\n",
    "".join(f"X-{n}: a\r\n" for n in range(200)) + "\r\n",
]


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_T16_what_two_readers_could_frame_in_two_ways_gets_no_further(counted: Counted, framing: str) -> None:
    parts = urlsplit(counted.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    hidden = f"GET /passbook/loan:1 HTTP/1.1\r\nHost: x\r\nAuthorization: {counted.device.headers['Authorization']}"
    writer.write(
        f"POST /passbook/_changes HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {counted.device.headers['Authorization']}\r\n{framing}{hidden}\r\n\r\n".encode()
    )
    answered = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    # One refusal, and the connection is closed: nothing behind it is taken for another request.
    assert re.findall(rb"HTTP/1\.[01] (\d+)", answered) == [b"400"], answered
    assert b"aiohttp" not in answered
    assert counted.asked == []


@pytest.mark.parametrize("line", ["GET passbook", "GET *", "get /passbook", "FOO /passbook"])
async def test_T16_what_is_no_http_gets_no_further(counted: Counted, line: str) -> None:
    status, headers, body = await raw(counted.url, *line.split(), counted.device.headers["Authorization"])
    assert (status, json.loads(body)["code"]) == (400, "bad_request")
    assert "Server: Passbook" in headers
    assert counted.asked == []


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


@pytest.mark.parametrize(
    "query",
    [
        "feed=eventsource",
        "filter=_view&view=a/b",
        "filter=app/mine",
        "heartbeat=x",
        "since=%zz",
        "since=%00",
        "limit=x",
        "limit=-1",
        "limit=1e3",
        "limit=" + "9" * 19,
        "timeout=true",
        "timeout=",
        "seq_interval=0x7",
        "feed=longpoll&limit=x",
        "style=bogus",
    ],
)
async def test_queries_that_are_not_served(counted: Counted, query: str) -> None:
    url = URL(f"{counted.url}/passbook/_changes?{query}", encoded=True)
    async with aiohttp.ClientSession() as http, http.get(url, headers=counted.device.headers) as response:
        assert (response.status, (await response.json())["code"]) == (400, "bad_request")
    assert counted.asked == []


def test_parameters_off_the_list_are_dropped_and_the_first_of_a_name_counts() -> None:
    match = routes.match(
        "GET", "/passbook/_changes?since=3&rev=1&since=4&_x=y&filter=_doc_ids&doc_ids=%5B%22a+b%22%5D"
    )
    assert match is not None
    assert match.query == {"since": "3", "filter": "_doc_ids", "doc_ids": '["a b"]'}


@pytest.mark.parametrize(
    ("asked", "given"), [("1", "1000"), ("10000", "10000"), ("999999999999", "60000"), ("true", "60000")]
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
