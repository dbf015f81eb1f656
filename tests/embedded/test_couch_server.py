"""The embedded server behaves as CouchDB does, in everything that the worker and the gateway rely on.

Runs against the CouchDB of PASSBOOK_TEST_COUCHDB_URL as well, which keeps these expectations honest.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from passbook.embedded import couchdb
from passbook.settings import Settings
from tests.support.couch import Couch

REAL = os.environ.get("PASSBOOK_TEST_COUCHDB_URL", "")
OPEN_AT_A_TIME = 5


@pytest.fixture(scope="module")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(couchdb, "OPEN_DATABASES", OPEN_AT_A_TIME)
        with couchdb.running(
            Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path_factory.mktemp("embedded"))})
        ) as address:
            yield address.url


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("real", marks=() if REAL else pytest.mark.skip(reason="needs PASSBOOK_TEST_COUCHDB_URL")),
    ]
)
async def couch(request: pytest.FixtureRequest, embedded_url: str) -> AsyncIterator[Couch]:
    async with aiohttp.ClientSession() as session:
        made = Couch(session, embedded_url if request.param == "embedded" else REAL)
        yield made
        for name in made.databases:
            with contextlib.suppress(AssertionError):
                await made.ask("DELETE", name)


async def status(couch: Couch, method: str, path: str, body: Any = None) -> int:
    async with couch.session.request(method, f"{str(couch.url).rstrip('/')}/{path}", json=body) as response:
        await response.read()
        return response.status


async def until_status(couch: Couch, wanted: int, method: str, path: str) -> bool:
    async with asyncio.timeout(10):
        while await status(couch, method, path) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return True


async def test_databases(couch: Couch) -> None:
    name = await couch.create()
    assert await status(couch, "PUT", name) == 412
    assert await status(couch, "PUT", "Capital") == 400
    assert name in await couch.ask("GET", "_all_dbs")
    security = {"admins": {"names": ["a"], "roles": []}, "members": {"names": ["b"], "roles": ["c"]}}
    assert (await couch.ask("GET", f"{name}/_security"))["members"]["roles"] == ["_admin"]
    assert await couch.ask("PUT", f"{name}/_security", security) == {"ok": True}
    assert await couch.ask("GET", f"{name}/_security") == security
    await couch.write(name, {"_id": "old"})
    assert await status(couch, "DELETE", name) == 200
    # CouchDB may answer 500 for a moment, from its cache of shards.
    assert await until_status(couch, 404, "DELETE", name)
    assert await until_status(couch, 404, "GET", f"{name}/old")
    assert await until_status(couch, 201, "PUT", name)
    assert (await couch.ask("GET", name))["doc_count"] == 0


async def test_writes_with_known_parents(couch: Couch) -> None:
    one, two = await couch.create(), await couch.create()
    document = {"_id": "loan:1", "balance": "10.00"}
    (first,) = await couch.write(one, document)
    assert await couch.write(two, document) == [first]  # the same body has the same revision
    again = await couch.write(one, document, {"_id": "loan:2"})
    assert (again[0]["error"], again[1]["ok"]) == ("conflict", True)
    (second,) = await couch.write(one, {**document, "_rev": first["rev"], "balance": "9.00"})
    assert (await couch.write(one, {**document, "_rev": first["rev"], "balance": "8.00"}))[0]["error"] == "conflict"
    assert (await couch.ask("GET", f"{one}/loan:1?conflicts=true"))["balance"] == "9.00"
    (gone,) = await couch.write(one, {"_id": "loan:1", "_rev": second["rev"], "_deleted": True})
    assert gone["rev"].startswith("3-")
    assert await status(couch, "GET", f"{one}/loan:1") == 404
    (back,) = await couch.write(one, document)
    assert back["rev"].startswith("4-")
    assert await status(couch, "POST", f"{one}/_bulk_docs", {"docs": [{"_bad": 1}]}) == 400


async def test_rebuilding_with_recorded_revisions(couch: Couch) -> None:
    lost, made = await couch.create(), await couch.create()
    (first,) = await couch.write(lost, {"_id": "loan:1", "n": 1})
    (second,) = await couch.write(lost, {"_id": "loan:1", "_rev": first["rev"], "n": 2})
    chain = [second["rev"].split("-")[1], first["rev"].split("-")[1]]
    body = {"_id": "loan:1", "_rev": second["rev"], "_revisions": {"start": 2, "ids": chain}, "n": 2}
    for _ in range(2):
        assert await couch.ask("POST", f"{made}/_bulk_docs", {"new_edits": False, "docs": [body]}) == []
    assert (await couch.ask("GET", made))["doc_count"] == 1
    got = await couch.ask("GET", f"{made}/loan:1?revs=true&conflicts=true")
    assert got == {"_id": "loan:1", "_rev": second["rev"], "n": 2, "_revisions": {"start": 2, "ids": chain}}
    # And it goes on from there with normal writes.
    (third,) = await couch.write(made, {"_id": "loan:1", "_rev": second["rev"], "n": 3})
    assert third["rev"].startswith("3-")


async def test_compaction_removes_old_bodies(couch: Couch) -> None:
    name = await couch.create()
    (first,) = await couch.write(name, {"_id": "loan:1", "n": 1})
    await couch.write(name, {"_id": "loan:1", "_rev": first["rev"], "n": 2})
    assert (await couch.ask("GET", f"{name}/loan:1?rev={first['rev']}"))["n"] == 1
    assert await status(couch, "POST", f"{name}/_compact", {}) == 202
    assert await until_status(couch, 404, "GET", f"{name}/loan:1?rev={first['rev']}")
    assert (await couch.ask("GET", f"{name}/loan:1"))["n"] == 2


async def test_attachments_in_bulk(couch: Couch) -> None:
    name = await couch.create()
    image = {"image": {"content_type": "image/jpeg", "data": base64.b64encode(b"picture").decode()}}
    (first,) = await couch.write(name, {"_id": "client:1:image", "_attachments": image})
    got = await couch.ask("GET", f"{name}/client:1:image")
    assert (got["_attachments"]["image"]["stub"], got["_attachments"]["image"]["length"]) == (True, 7)
    # Kept as a stub, the attachment stays.
    await couch.write(name, {**got, "_rev": first["rev"], "more": 1})
    got = await couch.ask("GET", f"{name}/client:1:image?attachments=true")
    assert base64.b64decode(got["_attachments"]["image"]["data"]) == b"picture"
    url = f"{str(couch.url).rstrip('/')}/{name}/client:1:image/image"
    async with couch.session.get(url) as response:
        assert (await response.read(), response.content_type) == (b"picture", "image/jpeg")
    assert await status(couch, "GET", f"{name}/client:1:image/nothing") == 404


async def test_reading_many(couch: Couch) -> None:
    name = await couch.create()
    written = await couch.write(name, *({"_id": f"loan:{n}", "n": n} for n in range(5)))
    (gone,) = await couch.write(name, {"_id": "loan:4", "_rev": written[4]["rev"], "_deleted": True})
    keys = {"keys": ["loan:3", "nothing", "loan:4", "loan:0"]}
    rows = (await couch.ask("POST", f"{name}/_all_docs?include_docs=true", keys))["rows"]
    assert [row.get("key") for row in rows] == keys["keys"]
    assert rows[0]["doc"] == {"_id": "loan:3", "_rev": written[3]["rev"], "n": 3}
    assert rows[1]["error"] == "not_found"
    assert (rows[2]["value"], rows[2]["doc"]) == ({"rev": gone["rev"], "deleted": True}, None)
    listed = await couch.ask("GET", f"{name}/_all_docs?startkey=%22loan:1%22&endkey=%22loan:2%22&descending=false")
    assert [row["id"] for row in listed["rows"]] == ["loan:1", "loan:2"]
    wanted = {
        "docs": [{"id": "loan:1", "rev": written[1]["rev"]}, {"id": "loan:1", "rev": "9-0"}, {"id": "loan:2"}]
    }
    results = (await couch.ask("POST", f"{name}/_bulk_get?revs=true", wanted))["results"]
    assert results[0]["docs"][0]["ok"]["_revisions"]["start"] == 1
    assert results[1]["docs"][0]["error"]["error"] == "not_found"
    assert results[2]["docs"][0]["ok"]["n"] == 2
    missing = await couch.ask("POST", f"{name}/_revs_diff", {"loan:1": [written[1]["rev"], "2-0"], "x": ["1-0"]})
    assert (missing["loan:1"]["missing"], missing["x"]["missing"]) == (["2-0"], ["1-0"])


async def test_local_documents(couch: Couch) -> None:
    name = await couch.create()
    assert await status(couch, "GET", f"{name}/_local/state") == 404
    first = await couch.ask("PUT", f"{name}/_local/state", {"seq": 1})
    await couch.ask("PUT", f"{name}/_local/state", {"seq": 2, "_rev": first["rev"]})
    assert (await couch.ask("GET", f"{name}/_local/state"))["seq"] == 2
    await couch.ask("PUT", f"{name}/_local/state", {"seq": 3})  # without a revision: overwritten
    assert (await couch.ask("GET", f"{name}/_local/state"))["seq"] == 3
    assert (await couch.ask("GET", name))["doc_count"] == 0
    assert (await couch.ask("GET", f"{name}/_changes"))["results"] == []


async def test_changes_in_pages(couch: Couch) -> None:
    name = await couch.create()
    written = await couch.write(name, *({"_id": f"loan:{n}"} for n in range(7)))
    await couch.write(name, {"_id": "loan:0", "_rev": written[0]["rev"], "_deleted": True})
    since, seen, deleted = "0", [], []
    for _ in range(10):
        page = await couch.ask("GET", f"{name}/_changes?limit=3&since={since}&style=all_docs")
        seen += [row["id"] for row in page["results"]]
        deleted += [row["id"] for row in page["results"] if row.get("deleted")]
        since = page["last_seq"]
        if not page["pending"]:
            break
    assert (sorted(seen), deleted) == ([f"loan:{n}" for n in range(7)], ["loan:0"])
    assert (await couch.ask("GET", f"{name}/_changes?since={since}"))["results"] == []
    assert (await couch.ask("GET", f"{name}/_changes?since=now"))["results"] == []
    only = await couch.ask("POST", f"{name}/_changes?filter=_doc_ids", {"doc_ids": ["loan:2"]})
    assert [row["id"] for row in only["results"]] == ["loan:2"]
    polled = await couch.ask("GET", f"{name}/_changes?feed=longpoll&timeout=100&since={since}")
    assert polled["results"] == []


async def test_feed_ends_with_the_database(couch: Couch) -> None:
    name = await couch.create()
    url = f"{str(couch.url).rstrip('/')}/{name}/_changes?feed=continuous&heartbeat=1000&include_docs=true"
    async with couch.session.get(url) as response:
        await couch.write(name, {"_id": "loan:1", "n": 1})
        line = b""
        while not line.strip():
            line = await asyncio.wait_for(response.content.readline(), 5)
        assert json.loads(line)["doc"]["n"] == 1
        await couch.ask("DELETE", name)
        await couch.ask("PUT", name)
        await couch.write(name, {"_id": "secret"})
        rest = b""
        with contextlib.suppress(aiohttp.ClientError):
            rest = await asyncio.wait_for(response.content.read(), 5)
        assert b"secret" not in rest


async def test_many_databases_with_feeds_and_writes_at_once(couch: Couch) -> None:
    """Many more than the embedded server holds open."""
    names = [await couch.create() for _ in range(8 * OPEN_AT_A_TIME)]

    async def follow(name: str) -> set[str]:
        url = f"{str(couch.url).rstrip('/')}/{name}/_changes?feed=continuous&heartbeat=1000"
        seen: set[str] = set()
        async with couch.session.get(url, timeout=aiohttp.ClientTimeout(total=60)) as response:
            while len(seen) < 30:
                line = await response.content.readline()
                if line.strip():
                    seen.add(json.loads(line)["id"])
        return seen

    async def write(name: str) -> None:
        for part in range(3):
            done = await couch.write(name, *({"_id": f"{part}:{n}"} for n in range(10)))
            assert all(row["ok"] for row in done)
            assert len((await couch.ask("GET", f"{name}/_all_docs"))["rows"]) == (part + 1) * 10

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        couch.session = session
        followers = [asyncio.create_task(follow(name)) for name in names]
        await asyncio.gather(*(write(name) for name in names))
        assert {len(seen) for seen in await asyncio.gather(*followers)} == {30}
        for name in couch.databases:
            await couch.ask("DELETE", name)
        couch.databases.clear()


async def test_a_large_bulk(couch: Couch) -> None:
    name = await couch.create()
    body = json.dumps({"docs": [{"_id": f"{n:05}", "text": "x" * 60_000} for n in range(600)]}).encode()
    assert len(body) > 36_000_000
    url = f"{str(couch.url).rstrip('/')}/{name}/_bulk_docs"

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    async with couch.session.post(url, data=parts(), headers={"Content-Type": "application/json"}) as response:
        assert response.status == 201
        assert len(await response.json(content_type=None)) == 600


async def test_the_newest_of_a_revision(couch: Couch) -> None:
    """With `latest=true`, as CouchDB 3.5 answers; a revision that nobody knows is just missing."""
    name = await couch.create()
    first, gone = await couch.write(name, {"_id": "loan:1", "n": 1}, {"_id": "loan:2"})
    second, deleted = await couch.write(
        name,
        {"_id": "loan:1", "_rev": first["rev"], "n": 2},
        {"_id": "loan:2", "_rev": gone["rev"], "_deleted": True},
    )
    assert await couch.ask("GET", f"{name}/loan:1?rev={first['rev']}&latest=true") == {
        "_id": "loan:1",
        "_rev": second["rev"],
        "n": 2,
    }
    tombstone = {"ok": {"_id": "loan:2", "_rev": deleted["rev"], "_deleted": True}}
    unknown = "1-" + "0" * 32
    revisions = json.dumps([gone["rev"], deleted["rev"], unknown])
    assert await couch.ask("GET", f"{name}/loan:2?latest=true&open_revs={revisions}") == [
        tombstone,
        {"missing": unknown},
    ]
    for revision in (gone["rev"], deleted["rev"], unknown):
        assert await status(couch, "GET", f"{name}/loan:2?latest=true&rev={revision}") == 404
    asked = [
        {"id": "loan:2", "rev": gone["rev"]},
        {"id": "loan:2", "rev": unknown},
        {"id": "loan:3", "rev": unknown},
    ]
    found = (await couch.ask("POST", f"{name}/_bulk_get?latest=true", {"docs": asked}))["results"]
    assert [list(one["docs"][0]) for one in found] == [["ok"], ["error"], ["error"]]
    assert found[0]["docs"] == [tombstone]
