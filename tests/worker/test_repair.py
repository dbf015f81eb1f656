"""The copies can be proved equal to the ledger, and made so again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from auth_service import directory, granting, people
from passbook.couch import CouchClient
from passbook.progress import Silent
from passbook.servicedb import tables
from tests.support.actors import TESTER
from tests.support.stage import Stage

FORGED = "99999-ffffffffffffffffffffffffffffffff"


async def _prepared(stage: Stage) -> tuple[str, dict[str, str]]:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    report = await stage.verify()
    assert report.ok
    assert report.checked == len(await stage.copies("customer")) > 10
    return stage.database_of("customer"), await stage.revisions("customer")


def _document(**fields: object) -> bytes:
    return msgspec.json.encode(fields)


async def _found(stage: Stage) -> set[tuple[str, str]]:
    report = await stage.verify()
    assert not report.ok
    return {(finding.kind, finding.document) for finding in report.findings}


async def _repaired(stage: Stage) -> None:
    assert (await stage.verify(repair=True)).ok
    assert (await stage.verify()).ok
    summary = await stage.run()
    assert (summary.documents_written, summary.documents_deleted) == (0, 0)


async def test_T02_verify_finds_a_foreign_document_and_repair_takes_it_away(stage: Stage) -> None:
    name, _ = await _prepared(stage)
    async with stage.couch() as couch:
        await couch.bulk(name, [_document(_id="loan:424242", type="loan", client_id=4242)])
    assert await _found(stage) == {("foreign", "loan:424242")}
    await _repaired(stage)
    assert "loan:424242" not in await stage.copies("customer")


async def test_a_document_that_was_changed_is_found_and_restored(stage: Stage) -> None:
    name, revisions = await _prepared(stage)
    target = next(key for key in revisions if key.startswith("savings:"))
    before = (await stage.copies("customer"))[target]
    async with stage.couch() as couch:
        await couch.bulk(name, [_document(**{**before, "balance": "999999.00"})])
    assert await _found(stage) == {("changed", target)}
    await _repaired(stage)
    after = (await stage.copies("customer"))[target]
    assert after["balance"] == before["balance"]
    assert int(after["_rev"].split("-")[0]) == int(before["_rev"].split("-")[0]) + 2


async def test_T07_a_poisoned_revision_is_found_and_beaten(stage: Stage) -> None:
    """A forged revision with a huge number wins for good in plain CouchDB: here it loses to the repair."""
    name, revisions = await _prepared(stage)
    target = next(key for key in revisions if key.startswith("savings:"))
    before = (await stage.copies("customer"))[target]
    forged = {**before, "_rev": FORGED, "balance": "999999.00"}
    async with stage.couch() as couch:
        await couch.bulk(name, [_document(**forged)], new_edits=False)
    assert (await stage.copies("customer"))[target]["balance"] == "999999.00"
    found = await _found(stage)
    assert ("changed", target) in found
    await _repaired(stage)
    after = (await stage.copies("customer"))[target]
    assert after["balance"] == before["balance"]
    assert after["_rev"] == before["_rev"], "the right revision wins again, so no device fetches anything"


async def test_a_competing_revision_that_loses_is_found_too(stage: Stage) -> None:
    name, revisions = await _prepared(stage)
    target = next(key for key in revisions if key.startswith("loan:"))
    before = (await stage.copies("customer"))[target]
    async with stage.couch() as couch:
        loser = {**before, "_rev": "1-00000000000000000000000000000000", "status": "repaid"}
        await couch.bulk(name, [_document(**loser)], new_edits=False)
        if not await couch.conflicts(name, target):
            pytest.skip("the forged revision won on this server")
    assert await _found(stage) & {("conflict", target)}
    await _repaired(stage)


async def test_a_deleted_document_comes_back_with_its_history(stage: Stage) -> None:
    name, revisions = await _prepared(stage)
    target = next(key for key in revisions if key.startswith("savings:"))
    async with stage.couch() as couch:
        await couch.bulk(name, [_document(_id=target, _rev=revisions[target], _deleted=True)])
    assert await _found(stage) == {("missing", target)}
    await _repaired(stage)


async def test_a_document_that_is_behind_the_ledger_is_found_and_no_damage(stage: Stage) -> None:
    await _prepared(stage)
    client = stage.institution.customer
    stage.change("UPDATE m_client SET mobile_no = '+1 555 0101' WHERE id = :id", id=client)
    report = await stage.verify()
    assert {(finding.kind, finding.document) for finding in report.findings} == {("behind", f"client:{client}")}
    assert (report.ok, report.behind) == (True, 1)
    await _repaired(stage)
    assert (await stage.copies("customer"))[f"client:{client}"]["mobile_no"] == "+1 555 0101"


async def test_what_no_pass_has_copied_yet_is_behind_and_not_missing(stage: Stage) -> None:
    mine, new = stage.institution.agent_clients[:2]
    stage.add("agent", [mine])
    before = await stage.verify()
    assert {(finding.kind, finding.document) for finding in before.findings} == {("behind", "")}, "somebody new"
    assert (before.ok, before.last_pass) == (True, None)
    await stage.run()
    told = await stage.verify()
    assert (told.ok, told.findings) == (True, [])
    with stage.database.begin() as connection:
        granting.link(connection, TESTER, "agent", [new])
    report = await stage.verify()
    kinds = {finding.kind for finding in report.findings}
    assert (report.ok, kinds, report.last_pass) == (True, {"behind"}, told.last_pass)
    assert report.behind == len(report.findings) > 5
    # What was copied and is gone is missing, whatever else the next pass has to do.
    lost = next(key for key in await stage.revisions("agent") if key.startswith(("loan:", "savings:")))
    async with stage.couch() as couch:
        revision = (await stage.revisions("agent"))[lost]
        await couch.bulk(stage.database_of("agent"), [_document(_id=lost, _rev=revision, _deleted=True)])
    report = await stage.verify()
    assert [finding.document for finding in report.findings if finding.kind == "missing"] == [lost]
    assert not report.ok
    await stage.run()
    assert {(finding.kind, finding.document) for finding in (await stage.verify()).findings} == {("missing", lost)}
    await _repaired(stage)


async def test_repair_makes_the_copy_of_somebody_new(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    assert (await stage.verify(repair=True)).ok
    assert (await stage.verify()).findings == []
    assert len(await stage.copies("customer")) > 5


async def test_an_opened_database_is_found_and_closed(stage: Stage) -> None:
    name, _ = await _prepared(stage)
    async with stage.couch() as couch:
        await couch._request(
            "PUT", f"/{name}/_security", _document(members={"names": [], "roles": []}, admins={"names": ["eve"]})
        )
    assert await _found(stage) == {("security", "_security")}
    await _repaired(stage)


async def test_a_lost_database_comes_back_revision_for_revision(stage: Stage) -> None:
    name, revisions = await _prepared(stage)
    async with stage.couch() as couch:
        await couch.delete_database(name)
    assert {kind for kind, _ in await _found(stage)} == {"database_missing"}
    await _repaired(stage)
    assert await stage.revisions("customer") == revisions


async def test_the_worker_rebuilds_a_lost_database_that_it_runs_into(stage: Stage) -> None:
    name, revisions = await _prepared(stage)
    client = stage.institution.customer
    async with stage.couch() as couch:
        await couch.delete_database(name)
    stage.change("UPDATE m_client SET mobile_no = '+1 555 0102' WHERE id = :id", id=client)
    await stage.run()
    after = await stage.revisions("customer")
    changed = {f"client:{client}", "~passbook"}
    assert {key: rev for key, rev in after.items() if key not in changed} == {
        key: rev for key, rev in revisions.items() if key not in changed
    }
    assert after[f"client:{client}"].startswith("2-"), "a change goes on from the revision that devices hold"
    assert (await stage.verify()).ok


async def test_a_person_erased_during_a_pass_does_not_come_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erased between reading and writing: the pass must not take the database for lost and rebuild it."""
    stage.add("customer", [stage.institution.customer])
    name = stage.database_of("customer")
    async with stage.worker() as one:
        send = one.couch.bulk

        async def erased_first(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(one.couch, "bulk", send)
            with stage.database.begin() as connection:
                people.begin_deletion(connection, TESTER, "customer")
            await one.couch.delete_database(name)
            return await send(*arguments, **options)

        monkeypatch.setattr(one.couch, "bulk", erased_first)
        await one.run_pass(Silent())
        assert not await one.couch.database_exists(name)
        await one.run_pass(Silent())
        assert not await one.couch.database_exists(name)
    with stage.database.begin() as connection:
        assert directory.everybody(connection) == []


async def test_a_person_erased_while_the_database_is_made_has_none(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.add("customer", [stage.institution.customer])
    name = stage.database_of("customer")
    async with stage.worker() as one:
        make = one.couch.create_database

        async def erased_meanwhile(*arguments: Any) -> None:
            monkeypatch.setattr(one.couch, "create_database", make)
            with stage.database.begin() as connection:
                people.begin_deletion(connection, TESTER, "customer")
            await one.couch.delete_database(name)
            await make(*arguments)

        monkeypatch.setattr(one.couch, "create_database", erased_meanwhile)
        await one.run_pass(Silent())
        assert not await one.couch.database_exists(name)


async def test_the_history_of_a_rebuilt_document_is_the_one_devices_know(stage: Stage) -> None:
    client = stage.institution.customer
    stage.add("customer", [client])
    for number in range(4):
        stage.change("UPDATE m_client SET mobile_no = :no WHERE id = :id", no=f"+1 555 02{number:02}", id=client)
        await stage.run()
    name, target = stage.database_of("customer"), f"client:{client}"

    async def history(couch: CouchClient) -> list[str]:
        revision = (await stage.revisions("customer"))[target]
        return [revision, *await couch.history(name, target, revision)]

    async with stage.couch() as couch:
        before = await history(couch)
        assert len(before) == 4
        await couch.delete_database(name)
        assert (await stage.verify(repair=True)).ok
        assert await history(couch) == before


async def test_lost_projection_state_is_read_back_from_couchdb(stage: Stage) -> None:
    _, revisions = await _prepared(stage)
    with stage.database.begin() as connection:
        connection.execute(tables.projected_document.delete())
    await stage.run()
    after = await stage.revisions("customer")
    assert {key: rev for key, rev in after.items() if key != "~passbook"} == {
        key: rev for key, rev in revisions.items() if key != "~passbook"
    }, "documents that were right are adopted, not written again"
    assert (await stage.run()).documents_written == 0


async def test_a_half_written_database_is_completed(stage: Stage) -> None:
    """Documents there that are not on record, others missing, no manifest: as a crash and a restore leave it."""
    stage.add("customer", [stage.institution.customer])
    async with stage.couch() as couch:
        await couch.create_database(stage.database_of("customer"), [])
        body = {"_id": f"client:{stage.institution.customer}", "type": "client", "schema": 1, "stale": True}
        await couch.bulk(stage.database_of("customer"), [_document(**body)])
    await stage.run()
    assert (await stage.verify()).ok


async def test_rebuilding_takes_nothing_of_an_unreadable_client_from_the_devices(stage: Stage) -> None:
    well, ill = stage.institution.agent_clients[:2]
    stage.add("agent", [well, ill])
    await stage.run()
    before = await stage.revisions("agent")
    theirs = {key for key, one in (await stage.copies("agent")).items() if one.get("client_id") == ill}
    digits = stage.ask("SELECT currency_digits FROM m_loan WHERE client_id = :id LIMIT 1", id=ill)
    stage.change("UPDATE m_loan SET currency_digits = 77 WHERE client_id = :id", id=ill)
    async with stage.couch() as couch:
        await couch.delete_database(stage.database_of("agent"))
        await stage.verify(repair=True)
        leaves = await couch.leaves(stage.database_of("agent"), sorted(theirs))
        assert not any(leaf.deleted for leaf in leaves.values()), "a tombstone would empty the devices"
    stage.change("UPDATE m_loan SET currency_digits = :digits WHERE client_id = :id", digits=digits, id=ill)
    assert (await stage.verify(repair=True)).ok
    after = await stage.revisions("agent")
    assert {key: after[key] for key in theirs} == {key: before[key] for key in theirs}
