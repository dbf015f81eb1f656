"""Nodes of CouchDB that hang, or were made anew: nobody waits for ever, nothing is wrongly taken for lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy as sa
import structlog
from aiohttp import web

from passbook import couch_access, couch_copies, patience
from passbook.context import Outside
from passbook.couch import CouchClient
from passbook.couch_configuration import Server
from passbook.errors import Unavailable, WitnessLost
from passbook.progress import Silent
from passbook.servicedb import tables
from passbook.witness.keeper import Keeper
from tests.support.before_couch import NO_DATABASE, NODES, Before, before
from tests.support.stage import Stage
from tests.worker.changing import until
from tests.worker.test_repair import _document


@pytest.fixture
async def between(stage: Stage) -> AsyncIterator[Before]:
    """Stands between the worker and its CouchDB."""
    async with before(stage.outside.couchdb_url) as made:
        yield made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes ten seconds takes half of one."""
    monkeypatch.setattr(patience, "FIRST_SECONDS", 0.5)
    monkeypatch.setattr(patience, "LATE_SECONDS", 0.2)
    monkeypatch.setattr(patience, "NODE_SECONDS", 0.3)


def client(between: Before) -> CouchClient:
    return CouchClient(between.url, connections=4)


def test_each_attempt_waits_longer_than_the_one_before() -> None:
    assert [patience.seconds(attempt) for attempt in range(1, 7)] == [10, 20, 40, 80, 80, 80]


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "more than the network holds"])
async def test_a_write_that_gets_no_answer_is_made_again(
    soon: None, stage: Stage, between: Before, size: int
) -> None:
    name = stage.database_of(stage.add("customer", []).removeprefix("person-"))
    document = _document(_id="loan:1", text="x" * size)
    async with client(between) as couch:
        await couch.create_database(name, [])
        between.hang_once("/_bulk_docs")
        async with asyncio.timeout(40):
            with structlog.testing.capture_logs() as logs:
                (written,) = await couch.bulk(name, [document])
        assert written.rev
        assert [(one["event"], one["asked"], one["waiting"]) for one in logs] == [
            ("couchdb_late", ["_bulk_docs"], 1)
        ]
        assert name not in str(logs)
        (again,) = await couch.bulk(name, [document])
        assert again.error == "conflict", "as for a first attempt that did arrive"


async def test_a_pass_goes_on_when_an_answer_does_not_come(soon: None, stage: Stage, between: Before) -> None:
    stage.add("customer", [stage.institution.customer])
    stage.outside = _through(stage, between)
    between.hang_once("/_bulk_docs")
    async with asyncio.timeout(40):
        await stage.run()
    assert (await stage.verify()).ok


async def test_a_node_that_hangs_counts_as_away(soon: None, between: Before) -> None:
    between.rule = between.cluster(hanging=NODES[2:], knows=NODES)
    async with client(between) as couch, asyncio.timeout(20):
        with structlog.testing.capture_logs() as logs:
            nodes = await couch_copies.membership(couch)
    assert (nodes.there, nodes.away) == (NODES[:2], NODES[2:])
    assert ("couchdb_node_does_not_answer", NODES[2]) in {(one["event"], one.get("node")) for one in logs}


async def test_a_gateway_configures_the_nodes_that_answer(soon: None, between: Before) -> None:
    between.rule = between.cluster(hanging=NODES[2:], knows=NODES)
    async with Server(between.url, 5) as server, asyncio.timeout(20):
        assert await server.nodes() == (list(NODES[:2]), list(NODES[2:]))


def _through(stage: Stage, between: Before) -> Outside:
    settings = replace(stage.outside.settings, couchdb_url=between.url)
    return replace(stage.outside, settings=settings, couchdb_url=between.url)


def _empty(between: Before, name: str, knows: tuple[str, ...], away: tuple[str, ...] = ()) -> None:
    """The node that is asked has nothing of database `name`; the nodes of `knows` have it."""
    nodes = between.cluster(knows=knows, away=away)

    async def rule(request: web.Request) -> web.Response | None:
        if request.path.startswith(f"/{name}") and request.method != "PUT":
            return web.json_response(NO_DATABASE, status=404)
        return await nodes(request)

    between.rule = rule


@pytest.mark.parametrize(
    ("knows", "away", "rebuilt"),
    [(NODES[1:2], (), False), ((), NODES[2:], False), ((), (), True)],
    ids=["another node knows it", "a node is away", "no node knows it"],
)
async def test_a_node_made_anew_is_not_believed(
    soon: None, stage: Stage, between: Before, knows: tuple[str, ...], away: tuple[str, ...], rebuilt: bool
) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    name = stage.database_of("customer")
    before = await stage.revisions("customer")
    stage.change("UPDATE m_client SET mobile_no = '+1 555 0109' WHERE id = :id", id=stage.institution.customer)
    straight = stage.outside
    stage.outside = _through(stage, between)
    _empty(between, name, knows, away)
    async with stage.worker() as one:
        between.asked.clear()
        task = asyncio.create_task(one.run_pass(Silent()))

        async def made_or_over() -> bool:
            return ("PUT", f"/{name}") in between.asked or task.done()

        await until(made_or_over, "the end, or a new database")
        assert (("PUT", f"/{name}") in between.asked) is rebuilt
        if rebuilt:
            stage.outside = straight
            between.rule = Before(between.url).rule
        await task
    stage.outside = straight
    if not rebuilt:
        assert await stage.revisions("customer") == before
        await stage.run()
    assert (await stage.verify()).ok


async def test_a_witness_that_other_nodes_have_is_not_lost(soon: None, stage: Stage, between: Before) -> None:
    stage.add("customer", [stage.institution.customer])  # which the audit log tells
    await stage.run()
    async with client(between) as couch:
        keeper = Keeper(stage.database, couch)
        await keeper.compare()
        store = await keeper.store()
        assert store is not None
        _empty(between, store.name, NODES[1:])
        with pytest.raises(Unavailable):
            await Keeper(stage.database, couch).compare()
        between.witness = False
        _empty(between, store.name, ())
        with pytest.raises(WitnessLost):
            await Keeper(stage.database, couch).compare()


async def test_a_repair_that_only_ends_competing_revisions_wakes_devices(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    name = stage.database_of("customer")
    target = next(key for key in await stage.revisions("customer") if key.startswith("savings:"))
    before = (await stage.copies("customer"))[target]
    async with stage.couch() as couch:
        forged = {**before, "_rev": "99999-ffffffffffffffffffffffffffffffff", "balance": "999999.00"}
        await couch.bulk(name, [_document(**forged)], new_edits=False)
    address = stage.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as listening:
        await listening.execute("LISTEN passbook_written")
        with stage.database.begin() as connection:
            at = connection.execute(sa.select(tables.written.c.at)).scalar_one()
        assert (await stage.verify(repair=True)).ok
        assert (await stage.copies("customer"))[target]["_rev"] == before["_rev"], "nothing was written"
        told = [notice.payload async for notice in listening.notifies(timeout=5, stop_after=1)]
        assert [payload.split()[1:] for payload in told] == [["person-customer"]]
        with stage.database.begin() as connection:
            assert connection.execute(sa.select(tables.written.c.at)).scalar_one() > at


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_what_a_proxy_answers_for_a_node_that_hangs_is_no_answer(between: Before, status: int) -> None:
    """It breaks off what hangs on a node that it takes out, and says so in HTML."""

    async def rule(_: web.Request) -> web.Response | None:
        between.rule = Before(between.url).rule
        return web.Response(status=status, text="<html>", content_type="text/html")

    between.rule = rule
    async with Server(between.url, 5) as server:
        assert (await server.ask("GET", "/"))[0] == 200

    async def always(_: web.Request) -> web.Response | None:
        return web.Response(status=status, text="<html>", content_type="text/html")

    between.rule = always
    async with Server(between.url, 5) as server:
        with pytest.raises(Unavailable):
            await server.ask("GET", "/")


async def test_keys_are_put_where_nodes_answer(soon: None, between: Before) -> None:
    """As `passbook gateway` starts: what hangs is left for the worker, which looks each half minute."""
    configured: set[str] = set()
    nodes = between.cluster(hanging=NODES[2:], knows=())

    async def rule(request: web.Request) -> web.Response | None:
        if request.path == "/":
            return web.json_response({"couchdb": "Welcome", "vendor": {"name": "The Apache Software Foundation"}})
        if request.path == "/_session":
            names = {"name": f"passbook:{couch_access.NOBODY}", "roles": []}
            return web.json_response({"userCtx": names})
        if "/_config/" in request.path and request.method == "PUT":
            configured.add(request.path.split("/")[2])
            return web.json_response("")
        if request.path.endswith("authentication_handlers"):
            return web.json_response("{chttpd_auth, jwt_authentication_handler}")
        return await nodes(request)

    between.rule = rule
    async with asyncio.timeout(20):
        access, _ = await couch_access.prepare(between.url, connect_seconds=5)
    assert access is not None
    assert configured == set(NODES[:2])
