"""The manifest travels with the documents that it tells of, comes last, and tells of none that is not there."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from passbook.couch import Bulk, BulkResult
from passbook.credentials import principal
from passbook.errors import Unavailable
from passbook.progress import Silent
from passbook.servicedb import tables
from sample_institution import moves
from sync_worker.state import MANIFEST
from tests.support.stage import Stage


class Requests:
    """What goes to `_bulk_docs`: the ids of each request."""

    def __init__(self, couch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[list[str]] = []
        self._send = couch.bulk
        #: Ids that are answered as a validation function would answer them, and not passed on.
        self.refused: set[str] = set()
        monkeypatch.setattr(couch, "bulk", self._bulk)

    async def _bulk(self, name: str, documents: list[bytes], *, new_edits: bool = True) -> Bulk:
        ids = [msgspec.json.decode(document)["_id"] for document in documents]
        self.sent.append(ids)
        passed = [one for one, key in zip(documents, ids, strict=True) if key not in self.refused]
        answered = {one.id: one for one in await self._send(name, passed, new_edits=new_edits)} if passed else {}
        return Bulk(answered.get(key) or BulkResult(id=key, error="forbidden", reason="no") for key in ids)


async def _order(stage: Stage, username: str) -> list[str]:
    """Ids in the order of their last change."""
    async with stage.couch() as couch:
        _, body = await couch.ask("GET", f"/{stage.database_of(username)}/_changes")
    return [row["id"] for row in msgspec.json.decode(body)["results"]]


async def _told_truly(stage: Stage, username: str) -> None:
    """The manifest counts exactly what is there."""
    copies = await stage.copies(username)
    there = Counter(document["type"] for key, document in copies.items() if key != MANIFEST)
    assert copies[MANIFEST]["counts"] == there


async def test_a_bulk_write_is_applied_in_the_order_of_ids(stage: Stage) -> None:
    """What all of this rests on, of CouchDB and of the embedded server."""
    ids = ["~passbook", "savings:2", "client:10", "loan:3:schedule", "passbook", "client:9", "loan:3"]
    for new_edits in (True, False):
        database = f"{stage.add(f'order{new_edits:d}', [])}-order"
        async with stage.couch() as couch:
            await couch.create_database(database, [])
            rest: dict[str, str] = {} if new_edits else {"_rev": f"1-{'a' * 32}"}
            answers = await couch.bulk(
                database, [msgspec.json.encode({"_id": one, **rest}) for one in ids], new_edits=new_edits
            )
            _, body = await couch.ask("GET", f"/{database}/_changes")
            await couch.delete_database(database)
        assert [row["id"] for row in msgspec.json.decode(body)["results"]] == sorted(ids)
        assert [one.id for one in answers] == (ids if new_edits else [])


async def test_a_person_is_written_whole_in_one_request(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.add("customer", [stage.institution.customer])
    async with stage.worker() as one:
        requests = Requests(one.couch, monkeypatch)
        await one.run_pass(Silent())
        assert len(requests.sent) == 1
        moves.deposit(stage.ledger, moves.active_savings_of(stage.ledger, stage.institution.customer), 5)
        await one.run_pass(Silent())
        assert len(requests.sent) == 2
    assert all(sent[-1] == MANIFEST for sent in requests.sent)
    assert (await _order(stage, "customer"))[-1] == MANIFEST
    await _told_truly(stage, "customer")


async def test_the_manifest_of_a_large_person_is_in_the_last_request(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.set(couchdb_bulk_documents=10)
    stage.add("agent", stage.institution.agent_clients[:3])
    async with stage.worker() as one:
        requests = Requests(one.couch, monkeypatch)
        await one.run_pass(Silent())
    assert len(requests.sent) > 3
    assert [MANIFEST in sent for sent in requests.sent] == [False] * (len(requests.sent) - 1) + [True]
    await _told_truly(stage, "agent")


async def test_no_manifest_is_sent_before_everything_else_stands(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document of an earlier request meets a conflict: it is settled before the manifest goes."""
    stage.set(couchdb_bulk_documents=10)
    customer = stage.institution.customer
    stage.add("customer", [customer])
    await _by_somebody_else(stage, f"client:{customer}")
    async with stage.worker() as one:
        requests = Requests(one.couch, monkeypatch)
        await one.run_pass(Silent())
    again = max(number for number, sent in enumerate(requests.sent) if f"client:{customer}" in sent)
    assert again > 0
    assert [number for number, sent in enumerate(requests.sent) if MANIFEST in sent] == [len(requests.sent) - 1]
    assert (await stage.verify()).ok


async def _by_somebody_else(stage: Stage, document: str, **more: Any) -> None:
    async with stage.couch() as couch:
        database = stage.database_of("customer")
        await couch.create_database(database, [principal("person-customer")])
        leaf = (await couch.leaves(database, [document]))[document]
        body = {"_id": document, "type": "client", **({"_rev": leaf.revision} if leaf.revision else {}), **more}
        await couch.bulk(database, [msgspec.json.encode(body)])


async def _without(stage: Stage, document: str) -> None:
    """The customer's database as it is, but for one document, which is not even deleted."""
    copies = await stage.copies("customer")
    name = stage.database_of("customer")
    other = f"{name}-other"
    async with stage.couch() as couch:
        await couch.create_database(other, [principal("person-customer")])
        rest = [msgspec.json.encode(one) for key, one in copies.items() if key != document]
        await couch.bulk(other, rest, new_edits=False)
        await couch.delete_database(name)
    with stage.database.begin() as connection:
        connection.execute(sa.update(tables.person).values(database_name=other))


@pytest.mark.parametrize("found", ["changed", "deleted", "lost"])
async def test_after_a_conflict_beside_it_the_manifest_is_written_once_more(stage: Stage, found: str) -> None:
    customer = stage.institution.customer
    stage.add("customer", [customer])
    await stage.run()
    document = f"client:{customer}"
    before = await stage.revisions("customer")
    if found == "lost":
        await _without(stage, document)
    else:
        await _by_somebody_else(stage, document, **({"_deleted": True} if found == "deleted" else {"forged": 1}))
    stage.change("UPDATE m_client SET mobile_no = '+1 555 0103' WHERE id = :id", id=customer)
    await stage.run()
    after = await stage.revisions("customer")
    assert (await _order(stage, "customer"))[-1] == MANIFEST
    numbers = [int(revisions[MANIFEST].split("-")[0]) for revisions in (before, after)]
    if found == "lost":
        # CouchDB 3.5 may take it as the child of a revision that it does not have: then nothing was settled.
        assert numbers[1] - numbers[0] in (1, 2)
    else:
        assert numbers[1] == numbers[0] + 2, "beside the document, and again after it"
    await _told_truly(stage, "customer")
    assert (await stage.verify()).ok
    summary = await stage.run()
    assert (summary.documents_written, summary.documents_deleted) == (0, 0)


async def test_a_manifest_beside_a_refused_document_is_taken_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = stage.institution.customer
    stage.add("customer", [customer])
    async with stage.worker() as one:
        requests = Requests(one.couch, monkeypatch)
        requests.refused = {f"client:{customer}"}
        with pytest.raises(Unavailable, match=f"client:{customer}"):
            await one.run_pass(Silent())
        copies = await stage.copies("customer")
        assert copies
        assert MANIFEST not in copies, "it would tell of a document that is not there"

        requests.sent.clear()
        with pytest.raises(Unavailable, match=f"client:{customer}"):
            await one.run_pass(Silent())
        assert not any(MANIFEST in sent for sent in requests.sent), "not before the rest stands"

        requests.refused = set()
        await one.run_pass(Silent())
        await _told_truly(stage, "customer")
        assert (await _order(stage, "customer"))[-1] == MANIFEST
        moves.deposit(stage.ledger, moves.active_savings_of(stage.ledger, customer), Decimal("3"))
        requests.sent.clear()
        await one.run_pass(Silent())
        assert len(requests.sent) == 1, "from then on as everybody's"
    assert (await stage.verify()).ok
