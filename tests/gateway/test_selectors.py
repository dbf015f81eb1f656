"""A device may have a part of its documents, by what never changes in one; and hears of all that are taken away."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from sample_institution.pouch import PouchClient
from sync_gateway.selectors import FIELDS
from tests.gateway.conftest import Counted, Device
from tests.support.couch import Couch


def documents() -> list[dict[str, Any]]:
    return [
        {"_id": f"{kind}:{number}", "type": kind, "client_id": number, f"{kind}_id": number}
        for kind in ("loan", "savings")
        for number in range(1, 4)
    ]


async def test_T03_what_is_taken_away_leaves_a_phone_that_replicates_by_selector(
    device: Device, couch: Couch
) -> None:
    written = await couch.write(device.database, *documents())
    selector = {"type": "loan", "client_id": {"$lt": 3}}
    async with PouchClient.started(device.url, device.id, device.secret, live=True, selector=selector) as pouch:
        await pouch.until_document("loan:2")
        assert [one["_id"] for one in await pouch.docs()] == ["loan:1", "loan:2"]
        await couch.write(device.database, {"_id": "loan:1:schedule", "type": "loan", "client_id": 1})
        await pouch.until_document("loan:1:schedule")
        # What is taken away from the person leaves the phone, although nothing is left in it that a selector names.
        revisions = {one["id"]: one["rev"] for one in written}
        for name in ("loan:1", "savings:1"):
            await couch.write(device.database, {"_id": name, "_rev": revisions[name], "_deleted": True})
        after = len(pouch.events)
        while await pouch.get("loan:1") is not None:
            await pouch.wait("change", after=after)
            after = len(pouch.events)
        assert [one["_id"] for one in await pouch.docs()] == ["loan:1:schedule", "loan:2"]


SERVED = [
    ({}, ["loan", "savings"]),
    ({"type": "loan"}, ["loan"]),
    ({"type": {"$ne": "loan", "$exists": True}}, ["savings"]),
    ({"_id": {"$gte": "savings:", "$lt": "savings;"}}, ["savings"]),
    ({"$or": [{"loan_id": {"$in": [1, 2, 3]}}, {"savings_id": {"$gt": 5}}]}, ["loan"]),
    ({"$not": {"type": {"$nin": ["savings"]}}}, ["savings"]),
    ({"$and": [{"client_id": {"$lte": 3}}, {"$nor": [{"type": "savings"}]}]}, ["loan"]),
    ({"type": "nothing"}, []),
]


@pytest.mark.parametrize(("selector", "kinds"), SERVED, ids=[json.dumps(selector) for selector, _ in SERVED])
@pytest.mark.parametrize("feed", ["normal", "longpoll", "continuous"])
async def test_selectors_that_are_served(
    device: Device, couch: Couch, http: aiohttp.ClientSession, selector: Any, kinds: list[str], feed: str
) -> None:
    written = await couch.write(device.database, *documents(), {"_id": "gone", "type": "x"})
    await couch.write(device.database, {"_id": "gone", "_rev": written[-1]["rev"], "_deleted": True})
    async with http.post(
        f"/passbook/_changes?filter=_selector&feed={feed}&timeout=100",
        json={"selector": selector},
        headers=device.headers,
    ) as response:
        text = await response.text()
        assert response.status == 200, text
    rows = [json.loads(line) for line in text.splitlines()] if feed == "continuous" else json.loads(text)["results"]
    found = [row["id"] for row in rows if "id" in row]
    assert sorted(found) == ["gone", *(f"{kind}:{number}" for kind in kinds for number in range(1, 4))]


nested: Any = {"type": "loan"}
for _ in range(5):
    nested = {"$not": nested}
REFUSED: list[Any] = [
    {"status": "active"},
    {"summary.total_outstanding": "0"},
    {"_deleted": {"$exists": False}},
    {"type": {"$regex": "^(a+)+$"}},
    {"lines": {"$elemMatch": {"a": 1}}},
    {"client_id": {"$mod": [2, 0]}},
    {"type": {"$not": {"$eq": "loan"}}},
    {"type": {"$in": "loan"}},
    {"type": {"$in": [["loan"]]}},
    {"client_id": {"$in": list(range(101))}},
    {"type": {"$exists": 1}},
    {"type": ["loan"]},
    {"type": "x" * 501},
    {"$or": []},
    {"$or": [{"type": "loan"}, {}]},
    {"$not": {}},
    {"type": {}},
    {"$or": {"type": "loan"}},
    {"$or": ["loan"]},
    {"$or": [{"client_id": number} for number in range(16)]},
    {"$and": [{}] * 31},
    {"$text": "loan"},
    nested,
]


@pytest.mark.parametrize("selector", REFUSED, ids=lambda selector: json.dumps(selector)[:40])
async def test_T12_a_selector_that_is_dear_or_goes_stale_is_refused(counted: Counted, selector: Any) -> None:
    url = f"{counted.url}/passbook/_changes?filter=_selector"
    async with (
        aiohttp.ClientSession(headers=counted.device.headers) as http,
        http.post(url, json={"selector": selector}) as response,
    ):
        told = await response.json()
    assert (response.status, told["code"], told["error"]) == (400, "selector_not_served", "bad_request")
    assert all(field in told["message"] for field in FIELDS)
    assert counted.asked == []


@pytest.mark.parametrize("body", [None, {}, {"doc_ids": ["loan:1"]}])
async def test_a_filter_by_selector_without_one(counted: Counted, body: Any) -> None:
    url = f"{counted.url}/passbook/_changes?filter=_selector"
    async with (
        aiohttp.ClientSession(headers=counted.device.headers) as http,
        http.get(url) if body is None else http.post(url, json=body) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (400, "selector_not_served")
    assert counted.asked == []


async def test_filters_of_design_documents_are_refused_by_name(counted: Counted) -> None:
    async with aiohttp.ClientSession(headers=counted.device.headers) as http:
        for query in ("filter=app/mine", "filter=_view&view=app/mine", "filter=_design"):
            async with http.get(f"{counted.url}/passbook/_changes?{query}") as response:
                told = await response.json()
                assert (response.status, told["code"]) == (400, "bad_request")
                assert "_doc_ids, _selector" in told["message"]
    assert counted.asked == []
