"""Query parameters: every one of every route, with values that nobody honest sends."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from sync_gateway import bodies, routes
from sync_gateway.answers import Problem
from tests.gateway.conftest import Device
from tests.support.couch import Couch

#: None of them is a value that any parameter takes from PouchDB or CouchDB.
HOSTILE = (
    *("", " ", "bogus", "TRUE ", "1", "-1", "0", "1.5", "1e3", "9" * 18, "9" * 400, "٣", "nan", "Infinity", "null"),
    *("[]", "{}", '"a"', "[1]", "[null]", '["a"', '["-"]', '["1-x","1-x"]', '"\\ud800"', "[" * 2_000, "a/b", "%"),
    *("1-", "1-x", "1-" + "z" * 32, "1-" + "é" * 16, "-1-" + "a" * 32, "1-AAAA", "5-g1AAAACLeJzL", "'\"<>&#;\\"),
)
BODIES: dict[str, Any] = {"bulk_get": {"docs": [{"id": "loan:1"}]}, "changes": {}, "all_docs": {}}
EVERY = sorted({(route.name, route.methods[0], name) for route in routes.ROUTES for name in route.parameters})


def path_of(route: str) -> str:
    (path,) = {"/".join(one.path) for one in routes.ROUTES if one.name == route}
    return "/" + path.replace("{document}", "client:1:image").replace("{attachment}", "image")


def problem_with(route: str, method: str, name: str, value: str) -> Problem | None:
    try:
        routes.match(method, f"{path_of(route)}?{name}={quote(value)}")
    except Problem as problem:
        return problem
    return None


async def test_no_value_of_any_parameter_is_a_problem_of_ours(
    device: Device, couch: Couch, http: aiohttp.ClientSession
) -> None:
    """It is taken, or refused with a reason that names the parameter."""
    image = {"image": {"content_type": "text/plain", "data": "aGVsbG8="}}
    await couch.write(device.database, {"_id": "client:1:image", "_attachments": image}, {"_id": "loan:1"})
    at_once = asyncio.Semaphore(10)
    wrong = []

    async def ask(route: str, method: str, name: str, value: str) -> None:
        url = URL(f"{path_of(route)}?{name}={quote(value)}", encoded=True)
        body = BODIES.get(route) if method == "POST" else None
        async with at_once, http.request(method, url, json=body, headers=device.headers) as response:
            text = await response.text()
        words = re.findall(r"[a-z_]+", text)
        if response.status not in (200, 400, 404) or (response.status == 400 and name not in words):
            wrong.append((route, method, name, value, response.status, text))

    await asyncio.gather(*(ask(*one, value) for one in EVERY for value in HOSTILE))
    assert wrong == []


@pytest.mark.parametrize(("route", "method", "name"), EVERY)
def test_each_parameter_refuses_what_it_cannot_be(route: str, method: str, name: str) -> None:
    refused = {value: problem for value in HOSTILE if (problem := problem_with(route, method, name, value))}
    for problem in refused.values():
        assert (problem.status, problem.code) == (400, "bad_request")
        assert name in problem.reason
    # What a sequence may be is CouchDB's own business.
    assert ("bogus" in refused) == (name != "since")


@pytest.mark.parametrize(("given", "taken"), [("true", "true"), ("False", "false"), ("TRUE", "true")])
def test_letters_of_true_and_false_may_have_any_size(given: str, taken: str) -> None:
    match = routes.match("GET", f"/passbook/_changes?include_docs={given}")
    assert match is not None
    assert match.query == {"include_docs": taken}


@pytest.mark.parametrize("value", ["1-967a00dff5e02add41819138abb3284d", "12-x", "1-" + "a" * 40, "9-" + "F" * 32])
def test_revisions(value: str) -> None:
    match = routes.match("GET", f"/passbook/loan:1?rev={value}&atts_since=%5B%22{value}%22%5D")
    assert match is not None
    assert (match.query["rev"], match.query["atts_since"]) == (value, f'["{value}"]')


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"_rev": "bogus"}', 400),
        ('{"_rev": 1}', 400),
        ('{"_revisions": {"start": 1, "ids": ["a"]}}', 201),
        ('{"_revisions": 1}', 201),
        ('{"last_seq": 1' + "0" * 400 + "}", 400),
        ('{"last_seq": 1e400}', 400),
        ('{"last_seq": 12345678901234567890}', 201),
        ('{"_id": "loan:1"}', 201),
    ],
)
async def test_no_checkpoint_is_a_problem_of_ours(
    device: Device, http: aiohttp.ClientSession, body: str, status: int
) -> None:
    path = "/passbook/_local/abcdefghijklmnop"
    headers = {**device.headers, "Content-Type": "application/json"}
    async with http.put(path, data=body, headers=headers) as response:
        assert response.status == status, await response.text()
    assert bodies.CHECKPOINT.limit > len(body)
