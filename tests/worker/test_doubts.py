"""Nodes of CouchDB that missed writes: what they have does not win, and none keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from passbook.servicedb import tables
from tests.support.before_couch import NODES, Before, before
from tests.support.stage import Stage
from tests.worker.changing import until
from tests.worker.test_loop import running
from tests.worker.test_nodes import _through


@pytest.fixture
async def between(stage: Stage) -> AsyncIterator[Before]:
    """Stands between the worker and its CouchDB."""
    async with before(stage.outside.couchdb_url) as made:
        yield made


def marked(stage: Stage) -> list[str]:
    """Whose copies may differ between nodes."""
    with stage.database.begin() as connection:
        query = sa.select(tables.person.c.username).where(tables.person.c.doubtful_at.is_not(None))
        return list(connection.execute(query.order_by(tables.person.c.username)).scalars())


def mark(stage: Stage) -> None:
    with stage.database.begin() as connection:
        connection.execute(sa.update(tables.person).values(doubtful_at=sa.func.now()))


def phone(stage: Stage, number: int) -> str:
    """Change a document of the customer's; its id."""
    client = stage.institution.customer
    stage.change("UPDATE m_client SET mobile_no = :no WHERE id = :id", no=f"+1 555 03{number:02}", id=client)
    return f"client:{client}"


async def exported(stage: Stage) -> list[dict[str, Any]]:
    """Every document with its history: what a node has."""
    name = stage.database_of("customer")
    documents = await stage.copies("customer")
    async with stage.couch() as couch:
        for key, document in documents.items():
            generation, _, own = document["_rev"].partition("-")
            ancestors = await couch.history(name, key, document["_rev"])
            document["_revisions"] = {"start": int(generation), "ids": [own, *ancestors]}
            if "_attachments" in document:
                data = await couch.attachment(name, key, "picture")
                assert data is None, "the customer of these tests has no picture"
    return list(documents.values())


async def add(stage: Stage, documents: list[dict[str, Any]]) -> None:
    """As another node brings what it has."""
    async with stage.couch() as couch:
        encoded = [msgspec.json.encode(document) for document in documents]
        await couch.bulk(stage.database_of("customer"), encoded, new_edits=False)


async def replace(stage: Stage, documents: list[dict[str, Any]]) -> None:
    """From now on the nodes that are there have this."""
    async with stage.couch() as couch:
        await couch.delete_database(stage.database_of("customer"))
        await couch.create_database(stage.database_of("customer"), ["passbook:person-customer"])
    await add(stage, documents)


async def leaves(stage: Stage, document: str) -> list[str]:
    async with stage.couch() as couch:
        return await couch.live(stage.database_of("customer"), document)


async def older(stage: Stage) -> tuple[str, list[dict[str, Any]]]:
    """A customer whose last change is on a node that is away now: which document, and what that node has."""
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    old = await exported(stage)
    target = phone(stage, 1)
    await stage.run()
    new = await exported(stage)
    await replace(stage, old)
    return target, new


async def test_what_too_few_nodes_took_is_marked_and_looked_at(stage: Stage, between: Before) -> None:
    stage.add("customer", [stage.institution.customer])
    stage.add("other", [])
    stage.outside = _through(stage, between)
    between.accepted = True
    await stage.run()
    assert marked(stage) == ["customer", "other"]
    between.accepted = False
    async with stage.worker() as one:
        between.rule = between.cluster(away=NODES[2:], knows=NODES)
        assert await one.doubts.look() == []
        assert marked(stage) == ["customer", "other"], "a node is away"
        between.rule = between.cluster(hanging=NODES[2:], knows=NODES)
        assert await one.doubts.look() == []
        assert marked(stage) == ["customer", "other"], "a node hangs"
        between.rule = Before(between.url).rule
        assert await one.doubts.look() == []
    assert marked(stage) == []


async def test_a_write_that_a_quorum_took_leaves_no_mark(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    phone(stage, 1)
    await stage.run()
    assert marked(stage) == []


async def test_what_follows_a_stale_revision_is_no_sibling(stage: Stage) -> None:
    target, new = await older(stage)
    recorded = next(document for document in new if document["_id"] == target)
    phone(stage, 2)
    await stage.run()
    (after,) = await leaves(stage, target)
    assert after.startswith("3-"), "the child of what is on record"
    async with stage.couch() as couch:
        history = await couch.history(stage.database_of("customer"), target, after)
    assert history == recorded["_revisions"]["ids"]
    assert marked(stage) == ["customer"]
    await add(stage, new)  # the node is back
    assert await leaves(stage, target) == [after]
    assert (await stage.copies("customer"))[target]["mobile_no"] == "+1 555 0302"
    async with stage.worker() as one:
        assert await one.doubts.settle(30) == 0
    assert (await stage.verify()).ok


async def test_a_body_that_came_back_is_not_taken_for_the_old_one(stage: Stage) -> None:
    """Changed and changed back: the stale revision has the right body, and would lose to the one between."""
    stage.change("UPDATE m_client SET mobile_no = '+1 555 0300' WHERE id = :id", id=stage.institution.customer)
    target, new = await older(stage)
    phone(stage, 0)
    await stage.run()
    await add(stage, new)
    (after,) = await leaves(stage, target)
    assert after.startswith("3-")
    assert (await stage.copies("customer"))[target]["mobile_no"] == "+1 555 0300"


async def test_what_stays_stale_is_put_right(stage: Stage) -> None:
    """Nothing is written to it any more: only the mark leads there."""
    _, new = await older(stage)
    recorded = {document["_id"]: document["_rev"] for document in new}
    assert await stage.revisions("customer") != recorded
    await stage.run()
    assert await stage.revisions("customer") != recorded, "a pass writes what the ledger changed"
    mark(stage)
    async with stage.worker() as one:
        assert await one.doubts.look() == ["person-customer"]
        await one.doubts.put_right("person-customer")
        assert await one.doubts.look() == [], "not at once again"
        assert await one.doubts.look(every=True) == []
    assert await stage.revisions("customer") == recorded
    assert marked(stage) == []


@pytest.mark.parametrize("winning", [True, False])
async def test_competing_leaves_are_ended(stage: Stage, winning: bool) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    target = phone(stage, 1)
    await stage.run()
    recorded = (await stage.copies("customer"))[target]
    _, history = recorded["_rev"], await _history(stage, target, recorded["_rev"])
    fork = {
        **recorded,
        "mobile_no": "+1 555 0399",
        "_rev": f"2-{'f' * 32 if winning else '0' * 32}",
        "_revisions": {"start": 2, "ids": ["f" * 32 if winning else "0" * 32, *history]},
    }
    await add(stage, [fork])
    assert len(await leaves(stage, target)) == 2
    mark(stage)
    async with stage.worker() as one:
        assert await one.doubts.settle(30) == 0
    assert await leaves(stage, target) == [recorded["_rev"]]
    assert marked(stage) == []


async def test_what_was_taken_away_does_not_come_back(stage: Stage) -> None:
    """The tombstone is on the node that is away; the others have the document."""
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    old = await exported(stage)
    gone = [document["_id"] for document in old if ":transactions:" in document["_id"]]
    assert gone
    with stage.database.begin() as connection:
        connection.execute(sa.update(tables.person).values(permissions=["loans", "savings"]))
    await stage.run()
    await replace(stage, old)
    mark(stage)
    async with stage.worker() as one:
        assert await one.doubts.settle(30) == 0
    assert [key for key in gone if await leaves(stage, key)] == []


async def test_the_worker_looks_by_itself(stage: Stage) -> None:
    target, new = await older(stage)
    recorded = next(document["_rev"] for document in new if document["_id"] == target)
    mark(stage)

    async def settled() -> bool:
        return marked(stage) == []

    async with running(stage):
        await until(settled, "nothing is marked")
    assert await leaves(stage, target) == [recorded]


async def _history(stage: Stage, document: str, revision: str) -> list[str]:
    async with stage.couch() as couch:
        return await couch.history(stage.database_of("customer"), document, revision)
