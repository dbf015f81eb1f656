"""From schema 1: the manifest `passbook` becomes `~passbook` in normal work, whatever happens meanwhile."""

from __future__ import annotations

import json
import signal

import msgspec
import pytest
import sqlalchemy as sa

from passbook.servicedb import tables
from tests.support.killing import door, passbook
from tests.support.schema_1 import MANIFEST_1, go_back
from tests.support.stage import Stage
from tests.worker.changing import carry_out, changes, counts, of_client, unlink

NEW = "~passbook"


async def _old(stage: Stage, *names: str) -> dict[str, dict[str, str]]:
    """People with copies of schema 1; their revisions."""
    clients = stage.institution.agent_clients
    for number, name in enumerate(names):
        stage.add(name, clients[2 * number : 2 * number + 2])
    await stage.run()
    found = {name: await go_back(stage, name) for name in names}
    assert all(MANIFEST_1 in one and NEW not in one for one in found.values())
    return found


async def _moved(stage: Stage, name: str, before: dict[str, str]) -> None:
    after = await stage.revisions(name)
    assert after.keys() == before.keys() - {MANIFEST_1} | {NEW}
    assert {key: after[key] for key in before if key in after} == {
        key: before[key] for key in before if key != MANIFEST_1
    }, "nothing but the manifest moves"
    async with stage.couch() as couch:
        _, body = await couch.ask("GET", f"/{stage.database_of(name)}/_changes")
        rows = msgspec.json.decode(body)["results"]
        leaf = (await couch.leaves(stage.database_of(name), [MANIFEST_1]))[MANIFEST_1]
    assert rows[-1]["id"] == NEW
    assert leaf.deleted
    assert int((leaf.revision or "").split("-")[0]) == 2, "a tombstone of the one that devices have"
    assert (await stage.verify(only=f"person-{name}")).ok


async def test_a_pass_moves_the_manifests_of_everybody(stage: Stage) -> None:
    before = await _old(stage, "asha", "baraka")
    report = await stage.verify()
    assert {(one.kind, one.document) for one in report.findings} == {("behind", MANIFEST_1), ("behind", NEW)}
    summary = await stage.run()
    assert (summary.documents_written, summary.documents_deleted) == (2, 2)
    for name, revisions in before.items():
        await _moved(stage, name, revisions)
    with stage.database.begin() as connection:
        withdrawn = connection.execute(sa.select(tables.person.c.withdrawn_at)).scalars().all()
    assert withdrawn == [None, None], "nothing was withdrawn: an upgrade must not compact every database"
    manifest = (await stage.copies("asha"))[NEW]
    assert (manifest["schema"], manifest["type"]) == (2, "passbook")
    summary = await stage.run()
    assert (summary.documents_written, summary.documents_deleted) == (0, 0)


async def test_somebody_with_no_client_moves_too(stage: Stage) -> None:
    stage.add("nobody", [])
    await stage.run()
    before = await go_back(stage, "nobody")
    await stage.run()
    await _moved(stage, "nobody", before)


async def test_a_client_that_cannot_be_read_keeps_its_place_across_the_move(stage: Stage) -> None:
    await _old(stage, "asha")
    well, ill = stage.institution.agent_clients[:2]
    names = {one["id"]: one["display_name"] for one in (await stage.copies("asha"))[MANIFEST_1]["clients"]}
    stage.change("UPDATE m_loan SET currency_digits = 77 WHERE client_id = :id", id=ill)
    await stage.run()
    copies = await stage.copies("asha")
    assert MANIFEST_1 not in copies
    assert {one["id"]: one["display_name"] for one in copies[NEW]["clients"]} == names
    assert names.keys() == {well, ill}


async def test_a_change_of_scope_counts_what_it_took_and_not_the_move(stage: Stage) -> None:
    await _old(stage, "asha")
    lost = stage.institution.agent_clients[1]
    gone = of_client(await stage.copies("asha"), lost)
    change = unlink(stage, "asha", lost)
    await carry_out(stage)
    assert counts(stage, change) == (0, len(gone), 0)
    assert changes(stage, "asha")[-1].done_at
    assert NEW in await stage.copies("asha")
    assert (await stage.verify()).ok


@pytest.mark.parametrize("way", ["repaired", "lost", "state lost"])
async def test_every_other_way_ends_there_too(stage: Stage, way: str) -> None:
    before = (await _old(stage, "asha"))["asha"]
    if way == "repaired":
        assert (await stage.verify(repair=True)).ok
    elif way == "lost":
        async with stage.couch() as couch:
            await couch.delete_database(stage.database_of("asha"))
        await stage.run()
    else:
        with stage.database.begin() as connection:
            connection.execute(tables.projected_document.delete())
        await stage.run()
        assert (await stage.verify(repair=True)).ok
    assert (await stage.verify()).ok
    summary = await stage.run()
    assert (summary.documents_written, summary.documents_deleted) == (0, 0)
    if way == "state lost":
        assert MANIFEST_1 not in await stage.copies("asha")
    else:
        await _moved(stage, "asha", before)


async def test_a_database_lost_after_the_move_comes_back_with_the_tombstone(stage: Stage) -> None:
    """A phone that was off since before the move must lose the old manifest all the same."""
    before = (await _old(stage, "asha"))["asha"]
    await stage.run()
    revisions = await stage.revisions("asha")
    async with stage.couch() as couch:
        await couch.delete_database(stage.database_of("asha"))
    assert (await stage.verify(repair=True)).ok
    assert await stage.revisions("asha") == revisions
    await _moved(stage, "asha", before)


@pytest.mark.parametrize("after", [False, True], ids=["before CouchDB got it", "after CouchDB did it"])
async def test_a_worker_killed_while_it_moves_them_is_made_good(stage: Stage, after: bool) -> None:
    before = await _old(stage, "asha", "baraka")
    async with door(stage.outside.couchdb_url) as gate:
        gate.after = after
        for number in range(3, 30):
            gate.seen, gate.kill_at = 0, number
            status, output, errors = await passbook(
                "worker",
                "once",
                "--json",
                environment={**stage.environment, "PASSBOOK_COUCHDB_URL": gate.url},
                door=gate,
            )
            if status == 0:
                break
            assert status == -signal.SIGKILL, errors
            for name in before:
                copies = await stage.copies(name)
                assert (MANIFEST_1 in copies) != (NEW in copies), "always one manifest"
        assert number > 3
        assert json.loads(output)["failures"] == 0
    for name in before:
        assert (await stage.copies(name)).keys() == before[name].keys() - {MANIFEST_1} | {NEW}
    assert (await stage.verify()).ok
    summary = await stage.run()
    assert (summary.documents_written, summary.documents_deleted) == (0, 0)
