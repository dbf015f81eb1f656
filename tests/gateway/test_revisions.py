"""T35: a revision that was replaced, or whose document was taken away, is never given out, compacted or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from sample_institution.pouch import PouchClient
from tests.gateway.conftest import Device
from tests.support.couch import Couch

UNKNOWN = "1-" + "0" * 32


def _document(text: str, attached: str) -> dict[str, Any]:
    return {"text": text, "_attachments": {"image": {"content_type": "image/png", "data": attached}}}


@dataclass
class History:
    """`loan:kept` was replaced and `loan:gone` deleted, and CouchDB has the bodies of all their revisions."""

    device: Device
    kept: list[str]
    gone: list[str]


@pytest.fixture
async def history(device: Device, couch: Couch) -> History:
    first = [{"_id": f"loan:{name}", **_document("old-body", "b2xkLWltYWdl")} for name in ("kept", "gone")]
    kept, gone = [one["rev"] for one in await couch.write(device.database, *first)]
    second = {"_id": "loan:kept", "_rev": kept, **_document("new-body", "bmV3LWltYWdl")}
    third = {"_id": "loan:gone", "_rev": gone, "_deleted": True}
    new, deleted = [one["rev"] for one in await couch.write(device.database, second, third)]
    for name, rev in (("kept", kept), ("gone", gone)):
        there = await couch.ask("GET", f"{device.database}/loan:{name}?rev={rev}")
        assert there["text"] == "old-body", "a server that keeps no old bodies proves nothing"
    return History(device, [kept, new], [gone, deleted])


def _open(*revisions: str) -> str:
    return quote("[" + ",".join(f'"{revision}"' for revision in revisions) + "]")


async def _answers(http: aiohttp.ClientSession, history: History) -> dict[str, tuple[int, str]]:
    """Every way in which a device can ask for a revision, with every option there is, and what comes."""
    (old, _), (lost, tombstone) = history.kept, history.gone
    options = ["", "revs=true", "attachments=true", "revs_info=true", "latest=false", "local_seq=true"]
    paths = [
        f"{document}?{what}&{option}"
        for document, revision in (("loan:kept", old), ("loan:gone", lost), ("loan:gone", tombstone))
        for what in (f"rev={revision}", f"open_revs={_open(revision)}", "open_revs=all")
        for option in options
    ]
    paths += [
        f"loan:gone?open_revs={_open(lost, tombstone, UNKNOWN)}",
        f"loan:gone?latest=false&rev={lost}&latest=1",
    ]
    paths += [
        f"{document}/image?rev={revision}" for document, revision in (("loan:kept", old), ("loan:gone", lost))
    ]
    found: dict[str, tuple[int, str]] = {}
    for path in paths:
        for accept in ("application/json", "multipart/mixed"):
            headers = {**history.device.headers, "Accept": accept}
            async with http.get(f"/passbook/{path}", headers=headers) as response:
                found[f"{path} as {accept}"] = response.status, (await response.read()).decode("latin-1")
    wanted = [
        {"id": "loan:kept", "rev": old},
        *({"id": "loan:gone", "rev": one} for one in (lost, tombstone)),
        {"id": "loan:gone", "rev": lost, "atts_since": []},
    ]
    for option in options:
        for document in wanted:
            async with http.post(
                f"/passbook/_bulk_get?{option}", json={"docs": [document]}, headers=history.device.headers
            ) as response:
                found[f"_bulk_get?{option} {document}"] = response.status, (await response.read()).decode("latin-1")
    return found


async def test_T35_no_way_of_asking_gives_an_old_body(history: History, http: aiohttp.ClientSession) -> None:
    answers = await _answers(http, history)
    leaked = {
        asked
        for asked, (_, text) in answers.items()
        if any(old in text for old in ("old-body", "old-image", "b2xk"))
    }
    assert leaked == set()
    assert {asked: answer for asked, answer in answers.items() if answer[0] not in (200, 404)} == {}
    # What has been replaced is answered with what replaced it.
    kept = {asked: answer for asked, answer in answers.items() if "loan:kept" in asked and "image" not in asked}
    assert {status for status, _ in kept.values()} == {200}
    assert all("new-body" in text for _, text in kept.values())
    images = [answer for asked, answer in answers.items() if asked.startswith("loan:kept/image")]
    assert images == [(200, "new-image")] * 2


async def test_T35_what_was_deleted_is_answered_with_its_tombstone(
    history: History, http: aiohttp.ClientSession
) -> None:
    lost, tombstone = history.gone
    headers = history.device.headers
    for revision in (lost, tombstone):
        async with http.get(f"/passbook/loan:gone?rev={revision}", headers=headers) as response:
            assert (response.status, (await response.json())["reason"]) == (404, "deleted")
        async with http.get(
            f"/passbook/loan:gone?open_revs={_open(revision)}&latest=true", headers=headers
        ) as response:
            (one,) = await response.json()
            assert one == {"ok": {"_id": "loan:gone", "_rev": tombstone, "_deleted": True}}
        async with http.post(
            "/passbook/_bulk_get", json={"docs": [{"id": "loan:gone", "rev": revision}]}, headers=headers
        ) as response:
            (result,) = (await response.json())["results"]
            assert result["docs"] == [{"ok": {"_id": "loan:gone", "_rev": tombstone, "_deleted": True}}]


async def test_T35_a_replica_that_learnt_of_a_revision_before_it_was_replaced_ends_right(
    device: Device, couch: Couch
) -> None:
    """It asks for what it was told of, gets the newest at once, and the change that follows brings nothing new."""
    written = await couch.write(device.database, *({"_id": f"loan:{n}", "text": "old"} for n in range(30)))
    changed = [{"_id": one["id"], "_rev": one["rev"], "text": "new"} for one in written[:10]]
    removed = [{"_id": one["id"], "_rev": one["rev"], "_deleted": True} for one in written[10:20]]
    async with PouchClient.started(device.url, device.id, device.secret, live=True, batch_size=5) as pouch:
        await pouch.wait("change")
        await couch.write(device.database, *changed, *removed)
        await couch.write(device.database, {"_id": "loan:last"})
        await pouch.until_document("loan:last", within=30)
        found = {document["_id"]: document.get("text") for document in await pouch.docs()}
    assert found == {
        **{f"loan:{n}": "new" for n in range(10)},
        **{f"loan:{n}": "old" for n in range(20, 30)},
        "loan:last": None,
    }


async def test_what_is_told_of_the_database_names_no_node(device: Device, http: aiohttp.ClientSession) -> None:
    async with http.get("/passbook", headers=device.headers) as response:
        told = await response.json()
    assert set(told) <= {
        "db_name",
        "person",
        "doc_count",
        "doc_del_count",
        "update_seq",
        "instance_start_time",
        "compact_running",
        "checked_at",
    }
    assert told["db_name"] == "passbook"
