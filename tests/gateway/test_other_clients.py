"""Clients that are not PouchDB read through a gateway process with the same credential: once, live, and refused."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from passbook.servicedb import tables
from sync_gateway.answers import READ_ONLY
from tests.gateway.conftest import NOW, Device, People
from tests.gateway.gateways import GatewayProcess, device_of, gateway_process
from tests.support.couch import Couch

DOCUMENTS = [{"_id": f"loan:{n}", "n": n} for n in range(20)]


@pytest.fixture(scope="module")
def process(service_url: str, couch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(service_url, couch_url, tmp_path_factory.mktemp("gateway")) as one:
        yield one


@pytest.fixture
async def device(process: GatewayProcess, couch: Couch, people: People) -> Device:
    made = await device_of(process, couch, people)
    await couch.write(made.database, *DOCUMENTS)
    return made


class Live:
    """What a client says while it listens, from the thread in which it does."""

    def __init__(self) -> None:
        self.listening = threading.Event()


async def told_live(listen: Callable[[Live], Any], couch: Couch, device: Device) -> Any:
    """What `listen` returns, which is told of a document that is written once it listens."""
    live = Live()
    waiting = asyncio.create_task(asyncio.to_thread(listen, live))
    await asyncio.to_thread(live.listening.wait, 10)
    await asyncio.sleep(0.3)
    await couch.write(device.database, {"_id": "loan:live"})
    return await asyncio.wait_for(waiting, 15)


@contextmanager
def quietly() -> Iterator[None]:
    """For a client of 2018 that leaves its sockets to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="CouchDB-Python needs the module cgi")
async def test_couchdb_python(device: Device, couch: Couch, people: People) -> None:
    import couchdb

    resource = couchdb.http.Resource(device.url, couchdb.http.Session())
    resource.credentials = (device.id, device.secret)
    database = couchdb.Database(resource, name="passbook")

    def read() -> Any:
        assert len(database) == 20
        assert "loan:7" in database
        assert database["loan:7"]["n"] == 7
        some = [row.id for row in database.view("_all_docs", startkey="loan:5", endkey="loan:7")]
        assert some == ["loan:5", "loan:6", "loan:7"]
        changes = database.changes()
        assert sorted(row["id"] for row in changes["results"]) == sorted(str(one["_id"]) for one in DOCUMENTS)
        with pytest.raises(couchdb.http.Forbidden) as refused:
            database["loan:7"] = {"n": 0}
        assert refused.value.args[0] == ("forbidden", READ_ONLY)
        return changes["last_seq"]

    def listen(live: Live) -> Any:
        live.listening.set()
        return [row["id"] for row in database.changes(feed="longpoll", since=since, timeout=10_000)["results"]]

    def refused() -> Any:
        with pytest.raises(couchdb.http.Unauthorized) as told:
            database.info()
        return told.value.args[0]

    with quietly():
        since = await asyncio.to_thread(read)
        assert await told_live(listen, couch, device) == ["loan:live"]
        people.change(tables.device, device.id, revoked_at=NOW)
        error = await asyncio.to_thread(refused)
        assert "withdrawn" in str(error)


async def test_ibmcloudant(device: Device, couch: Couch, people: People, process: GatewayProcess) -> None:
    from ibm_cloud_sdk_core.authenticators import BasicAuthenticator
    from ibmcloudant import ApiException
    from ibmcloudant.cloudant_v1 import BulkGetQueryDocument, CloudantV1

    client = CloudantV1(authenticator=BasicAuthenticator(device.id, device.secret))
    client.set_service_url(process.root)

    def read() -> Any:
        assert client.get_database_information(db="passbook").get_result()["doc_count"] == 20
        assert client.get_document(db="passbook", doc_id="loan:7").get_result()["n"] == 7
        rows = client.post_all_docs(db="passbook", start_key="loan:5", end_key="loan:7").get_result()["rows"]
        assert [row["id"] for row in rows] == ["loan:5", "loan:6", "loan:7"]
        wanted = [BulkGetQueryDocument(id="loan:3"), BulkGetQueryDocument(id="loan:4")]
        bulk = client.post_bulk_get(db="passbook", docs=wanted).get_result()["results"]
        assert [result["docs"][0]["ok"]["n"] for result in bulk] == [3, 4]
        changes = client.post_changes(db="passbook").get_result()
        assert len(changes["results"]) == 20
        with pytest.raises(ApiException) as missing:
            client.get_security(db="passbook")
        assert missing.value.status_code == 404
        with pytest.raises(ApiException) as refused:
            client.delete_document(db="passbook", doc_id="loan:7", rev="1-a")
        assert (refused.value.status_code, refused.value.message) == (403, f"forbidden: {READ_ONLY}")
        return changes["last_seq"]

    def listen(live: Live) -> Any:
        stream = client.post_changes_as_stream(
            db="passbook", feed="continuous", since=since, heartbeat=1000, timeout=10_000, limit=1
        ).get_result()
        live.listening.set()
        try:
            return next(json.loads(line)["id"] for line in stream.iter_lines() if line.strip())
        finally:
            stream.close()

    def refused() -> Any:
        with pytest.raises(ApiException) as told:
            client.get_database_information(db="passbook")
        return told.value

    since = await asyncio.to_thread(read)
    assert await told_live(listen, couch, device) == "loan:live"
    people.change(tables.device, device.id, revoked_at=NOW)
    error = await asyncio.to_thread(refused)
    assert error.status_code == 401
    assert json.loads(error.http_response.text)["code"] == "revoked"
    client.http_client.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl(device: Device, couch: Couch, people: People) -> None:
    async def curl(path: str) -> tuple[int, Any]:
        process = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--compressed", "--max-time", "20", "--write-out", "\n%{http_code}"),
            # Not as an argument, where everybody on the machine could read it.
            *("--config", "-", f"{device.url}{path}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate(f'user = "{device.id}:{device.secret}"\n'.encode())
        text, _, status = output.decode().rpartition("\n")
        return int(status), json.loads(text)

    status, changes = await curl("/_changes?include_docs=true")
    assert (status, len(changes["results"])) == (200, 20)
    waiting = asyncio.create_task(curl(f"/_changes?feed=longpoll&timeout=10000&since={changes['last_seq']}"))
    await asyncio.sleep(0.5)
    await couch.write(device.database, {"_id": "loan:live"})
    status, changes = await asyncio.wait_for(waiting, 15)
    assert (status, [row["id"] for row in changes["results"]]) == (200, ["loan:live"])
    people.change(tables.device, device.id, revoked_at=NOW)
    status, refused = await curl("/_changes")
    assert (status, refused["code"]) == (401, "revoked")
