"""CouchDB itself as the reader: it replicates from the gateway as from any CouchDB."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from passbook.couch_configuration import EMBEDDED_VENDOR
from passbook.servicedb import tables
from tests.gateway.conftest import NOW, Device, People
from tests.gateway.gateways import GatewayProcess, device_of, gateway_process
from tests.support import own_couchdb
from tests.support.couch import Couch

pytestmark = pytest.mark.skipif(
    not own_couchdb.installed(), reason="needs an installed CouchDB (PASSBOOK_TEST_COUCHDB_HOME)"
)
DOCUMENTS = [{"_id": f"loan:{number:04}", "text": "repayment " * 20} for number in range(250)]


@pytest.fixture(scope="module")
def reader_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The CouchDB that pulls: an app's own, for instance."""
    patience = "startup_jitter = 0\ninterval = 500\nretries_per_request = 2\nconnection_timeout = 3000\n"
    patience += "connection_close_interval = 1000\n"
    with own_couchdb.own(tmp_path_factory.mktemp("reader"), f"[replicator]\n{patience}") as node:
        yield node.url


@pytest.fixture
async def reader(reader_url: str) -> AsyncIterator[Couch]:
    async with aiohttp.ClientSession() as session:
        yield Couch(session, reader_url)


@pytest.fixture(scope="module")
def process(service_url: str, couch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(service_url, couch_url, tmp_path_factory.mktemp("gateway")) as one:
        yield one


@pytest.fixture
async def device(process: GatewayProcess, couch: Couch, people: People) -> Device:
    return await device_of(process, couch, people)


async def pulls(reader: Couch, device: Device, target: str, **options: Any) -> Any:
    """CouchDB's answer when it is to pull from this device's copy."""
    source = {"url": device.url, "auth": {"basic": {"username": device.id, "password": device.secret}}}
    into = {"url": str(reader.url / target)}
    return await replicated(reader, {"source": source, "target": into, **options})


async def replicated(reader: Couch, body: dict[str, Any]) -> Any:
    """CouchDB's answer to `POST /_replicate`, whatever it is."""
    async with reader.session.post(reader.url / "_replicate", json=body) as answer:
        return await answer.json()


async def documents(reader: Couch, name: str) -> set[str]:
    return {row["id"] for row in (await reader.ask("GET", f"{name}/_all_docs"))["rows"]}


async def eventually(reader: Couch, name: str, document: str) -> None:
    end = time.monotonic() + 15
    while document not in await documents(reader, name):
        assert time.monotonic() < end, f"no {document}"
        await asyncio.sleep(0.1)


async def test_it_pulls_once_and_goes_on_from_there(reader: Couch, couch: Couch, device: Device) -> None:
    await couch.write(device.database, *DOCUMENTS)
    target = await reader.create()
    done = await pulls(reader, device, target)
    assert done["ok"] is True, done
    assert (done["history"][0]["docs_written"], done["history"][0]["doc_write_failures"]) == (250, 0)
    # The checkpoint is kept on both sides: the second time it begins where the first ended.
    await couch.write(device.database, {"_id": "loan:new"})
    again = await pulls(reader, device, target)
    assert again["history"][0]["start_last_seq"] == done["source_last_seq"]
    assert again["history"][0]["docs_written"] - done["history"][0]["docs_written"] == 1  # it goes on counting
    assert len(again["history"]) == 2


async def test_it_pulls_attachments(reader: Couch, couch: Couch, device: Device) -> None:
    if (await couch.ask("GET", ""))["vendor"]["name"] == EMBEDDED_VENDOR:
        pytest.skip("the embedded server does not speak multipart, in which CouchDB reads attachments")
    picture = base64.b64encode(bytes(range(256)) * 300).decode()
    written = await couch.write(
        device.database,
        *(
            {"_id": f"client:{n}:image", "_attachments": {"image": {"content_type": "image/png", "data": picture}}}
            for n in range(8)
        ),
    )
    target = await reader.create()
    assert (await pulls(reader, device, target))["history"][0]["docs_written"] == 8
    image = await reader.ask("GET", f"{target}/client:3:image?attachments=true")
    assert (image["_rev"], image["_attachments"]["image"]["data"]) == (written[3]["rev"], picture)


async def test_it_pulls_what_a_selector_names_and_hears_of_what_was_taken_away(
    reader: Couch, couch: Couch, device: Device
) -> None:
    loan = {"_id": "loan:1", "type": "loan", "client_id": 1}
    written = await couch.write(device.database, loan, {"_id": "savings:1", "type": "savings", "client_id": 1})
    target = await reader.create()
    selector = {"type": {"$in": ["loan", "loan_schedule"]}}
    done = await pulls(reader, device, target, selector=selector)
    assert done["ok"] is True, done
    assert await documents(reader, target) == {"loan:1"}
    assert (await pulls(reader, device, target, selector=selector, continuous=True))["ok"] is True
    await couch.write(device.database, {**loan, "_id": "loan:2"}, {"_id": "savings:2", "type": "savings"})
    await eventually(reader, target, "loan:2")
    await couch.write(device.database, {"_id": "loan:1", "_rev": written[0]["rev"], "_deleted": True})
    async with asyncio.timeout(15):
        while await documents(reader, target) != {"loan:2"}:  # noqa: ASYNC110 - there is nothing that tells
            await asyncio.sleep(0.1)


async def test_it_pulls_for_ever_until_it_is_revoked(
    reader: Couch, couch: Couch, device: Device, people: People, process: GatewayProcess
) -> None:
    await couch.write(device.database, {"_id": "loan:1"})
    target = await reader.create()
    assert (await pulls(reader, device, target, continuous=True))["ok"] is True
    await eventually(reader, target, "loan:1")
    await couch.write(device.database, {"_id": "loan:2"})
    await eventually(reader, target, "loan:2")
    people.change(tables.device, device.id, revoked_at=NOW)
    await couch.write(device.database, {"_id": "loan:3"})
    reason = await _ended(reader, target)
    assert reason is None or "unauthorized" in reason, reason
    assert await documents(reader, target) == {"loan:1", "loan:2"}
    assert [entry["status"] for entry in process.said("request")][-1] == 401


async def _ended(reader: Couch, target: str) -> str | None:
    """Why the replication into this database crashed, or None if CouchDB gave it up altogether."""
    end = time.monotonic() + 60
    while True:
        jobs = [job for job in (await reader.ask("GET", "_scheduler/jobs"))["jobs"] if target in job["target"]]
        crashed = [event for job in jobs for event in job["history"] if event["type"] == "crashed"]
        if crashed or not jobs:
            return str(crashed[0]["reason"]) if crashed else None
        assert time.monotonic() < end, jobs
        await asyncio.sleep(0.2)


async def test_one_that_is_revoked_is_told_so(reader: Couch, couch: Couch, device: Device, people: People) -> None:
    await couch.write(device.database, {"_id": "loan:1"})
    people.change(tables.device, device.id, revoked_at=NOW)
    target = await reader.create()
    refused = await pulls(reader, device, target)
    # It asks for a session first, which there is none of here, and tells of the 401 to that.
    assert refused["error"] == "replication_auth_error", refused
    assert await documents(reader, target) == set()


async def test_it_cannot_push(reader: Couch, couch: Couch, device: Device) -> None:
    """Documents go in bulk, those with attachments each by itself: refused either way, and the replication ends."""
    source = await reader.create()
    picture = base64.b64encode(bytes(range(256)) * 300).decode()
    image = {"image": {"content_type": "image/png", "data": picture}}
    await reader.write(
        source,
        {"_id": "loan:mine"},
        {"_id": "_design/mine", "views": {}},
        *({"_id": f"client:{n}:image", "_attachments": image} for n in range(3)),
    )
    into = {"url": device.url, "auth": {"basic": {"username": device.id, "password": device.secret}}}
    body = {"source": {"url": str(reader.url / source)}, "target": into}
    said = await replicated(reader, body)
    end = time.monotonic() + 15
    while "sel_conn_closed" in said.get("reason", ""):
        # CouchDB does not see that the gateway closed a connection after a 401, and hands it out until its pool is
        # cleared (`connection_close_interval`); it asks again by itself, but not when it asks for a session.
        assert time.monotonic() < end, said
        await asyncio.sleep(0.2)
        said = await replicated(reader, body)
    assert said.get("ok") is True, said
    assert said["history"][0]["doc_write_failures"] == 5
    assert said["history"][0]["docs_written"] == 0
    assert (await couch.ask("GET", device.database))["doc_count"] == 0
