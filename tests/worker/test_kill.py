"""SIGKILL at any point of a pass, and the next pass ends in the state that an undisturbed one reaches."""

from __future__ import annotations

import json
import signal

import pytest
import sqlalchemy as sa

from auth_service import granting
from passbook.servicedb import tables
from sample_institution import moves
from tests.support.actors import TESTER
from tests.support.killing import door, passbook
from tests.support.stage import Stage


def _scene(stage: Stage) -> None:
    """A customer to set up anew, and an agent with a change, a lost client and a new one to come."""
    stage.add("agent", stage.institution.agent_clients[:2])
    stage.set(couchdb_bulk_documents=10)


async def _disturbance(stage: Stage) -> None:
    a, b, c = stage.institution.agent_clients[:3]
    moves.deposit(stage.ledger, moves.active_savings_of(stage.ledger, a), 12)
    with stage.database.begin() as connection:
        granting.link(connection, TESTER, "agent", [c])
        granting.unlink(connection, TESTER, "agent", [b])
    stage.add("customer", [stage.institution.customer])


def _environment(stage: Stage, url: str) -> dict[str, str]:
    return {**stage.environment, "PASSBOOK_COUCHDB_URL": url, "PASSBOOK_COUCHDB_BULK_DOCUMENTS": "10"}


@pytest.mark.parametrize("after", [False, True], ids=["before CouchDB got it", "after CouchDB did it"])
async def test_a_worker_killed_at_any_request_to_couchdb_is_made_good(stage: Stage, after: bool) -> None:
    _scene(stage)
    await stage.run()
    await _disturbance(stage)
    async with door(stage.outside.couchdb_url) as gate:
        gate.after = after
        killed = 0
        # Each round kills a few requests later than the last and leaves its work half done for the next; to make
        # good what all of them left takes a request for each document.
        for number in (*range(3, 60, 2), *range(60, 300, 40)):
            gate.seen, gate.kill_at = 0, number
            status, output, errors = await passbook(
                "worker", "once", "--json", environment=_environment(stage, gate.url), door=gate
            )
            if status == 0:
                break
            assert status == -signal.SIGKILL, errors
            killed += 1
            await _still_consistent(stage)
        else:
            pytest.fail("the worker never got through")
        assert killed >= 3
        assert json.loads(output)["failures"] == 0
    assert (await stage.verify()).ok
    summary = await stage.run()
    assert (summary.documents_written, summary.documents_deleted) == (0, 0)


async def _still_consistent(stage: Stage) -> None:
    """However it ended: whoever the gateway may serve has a database that only they may read."""
    with stage.database.begin() as connection:
        ready = connection.execute(
            sa.select(tables.person.c.database_name).where(tables.person.c.database_ready_at.is_not(None))
        ).scalars()
        names = list(ready)
    async with stage.couch() as couch:
        for name in names:
            assert (await couch.security(name))["members"]["names"]


async def test_every_kill_point_of_a_first_pass_ends_in_the_same_documents(stage: Stage) -> None:
    stage.add("reference", [stage.institution.customer])
    await stage.run()
    wanted = await stage.copies("reference")
    async with door(stage.outside.couchdb_url) as gate:
        for number, after in ((3, False), (4, True), (5, False), (6, True), (7, True), (8, False), (9, True)):
            username = f"customer{number}"
            stage.add(username, [stage.institution.customer])
            gate.seen, gate.kill_at, gate.after = 0, number, after
            status, _, errors = await passbook(
                "worker", "once", "--json", environment=_environment(stage, gate.url), door=gate
            )
            assert status in (0, -signal.SIGKILL), errors
            await stage.run()
            found = await stage.copies(username)
            assert found.keys() == wanted.keys()
            bodies = [
                {key: value for key, value in copy[document].items() if key not in ("_rev", "as_of", "person")}
                for document in wanted
                for copy in (found, wanted)
            ]
            assert bodies[::2] == bodies[1::2]
            # The manifest names the last change, which now is of the second pass.
            first = {document["_rev"].split("-")[0] for key, document in found.items() if key != "~passbook"}
            assert first == {"1"}, "what was written before the kill was adopted, not written again"


async def test_two_workers_at_once_write_everything_once(stage: Stage) -> None:
    import asyncio

    stage.add("agent", stage.institution.agent_clients)
    runs = await asyncio.gather(
        *(passbook("worker", "once", "--json", environment=stage.environment) for _ in range(3))
    )
    summaries = [json.loads(output) for status, output, errors in runs if status == 0]
    assert len(summaries) == 3
    written = [summary["documents_written"] for summary in summaries]
    assert sorted(written)[:2] == [0, 0]
    assert max(written) == len(await stage.copies("agent"))
    assert {rev.split("-")[0] for rev in (await stage.revisions("agent")).values()} == {"1"}
