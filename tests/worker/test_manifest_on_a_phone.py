"""A phone never has a manifest before the documents that it counts: within a batch, between batches, cut off."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sample_institution import moves
from sample_institution.pouch import PouchClient
from sync_worker.state import MANIFEST
from tests.support.schema_1 import MANIFEST_1, go_back
from tests.support.stage import Stage


def _phone(stage: Stage, username: str, folder: Path, **options: Any) -> Any:
    """PouchDB at the database itself: what the gateway adds changes no order."""
    parts = urlsplit(stage.outside.couchdb_url)
    url = f"http://{parts.hostname}:{parts.port}/{stage.database_of(username)}"
    return PouchClient.started(
        url, parts.username or "", parts.password or "", store=folder, person=stage.person_of(username), **options
    )


def _told_truly(documents: list[dict[str, Any]]) -> bool:
    """Whether the manifest is there; if it is, everything that it counts must be there as well."""
    copies = {one["_id"]: one for one in documents}
    manifest = copies.pop(MANIFEST, None)
    if manifest is None:
        return False
    assert manifest["counts"] == Counter(one["type"] for one in copies.values())
    return True


async def test_the_manifest_comes_last_however_often_a_replication_is_cut_off(stage: Stage, tmp_path: Path) -> None:
    stage.set(couchdb_bulk_documents=15)
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    cut = 0
    for _ in range(30):
        # It is killed as soon as it tells of its first batch, wherever it then is.
        async with _phone(stage, "customer", tmp_path / "s", once=True, batch_size=10) as pouch:
            await pouch.wait("change", "complete")
            await pouch.kill()
        async with _phone(stage, "customer", tmp_path / "s") as pouch:
            if _told_truly(await pouch.docs()):
                break
            cut += 1
    assert cut >= 2
    async with _phone(stage, "customer", tmp_path / "s") as pouch:
        for amount in (5, 6, 7):
            moves.deposit(stage.ledger, moves.active_savings_of(stage.ledger, stage.institution.customer), amount)
            await stage.run()
            await pouch.replicate()
            assert _told_truly(await pouch.docs())


@pytest.mark.parametrize("size", [500, 7])
async def test_an_app_told_of_the_manifest_has_what_it_counts(stage: Stage, tmp_path: Path, size: int) -> None:
    """A store gets a batch in one transaction, though not always in the order of the feed."""
    stage.add("agent", stage.institution.agent_clients[:4])
    await stage.run()
    for store in (tmp_path / "s", Path("memory")):
        async with _phone(stage, "agent", store, batch_size=size) as pouch:
            await pouch.heed(MANIFEST)
            await pouch.replicate()
            assert _told_truly((await pouch.wait("heard"))["docs"])
            assert _told_truly(await pouch.docs())


async def test_a_phone_follows_the_move_from_schema_1(stage: Stage, tmp_path: Path) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    await go_back(stage, "customer")
    async with _phone(stage, "customer", tmp_path / "s") as pouch:
        await pouch.replicate()
        assert await pouch.get(MANIFEST_1)
        await stage.run()
        done = await pouch.replicate()
        assert done["written"] == 2, "the tombstone and the manifest, nothing else"
        assert _told_truly(await pouch.docs())
        assert MANIFEST_1 not in {one["_id"] for one in await pouch.docs()}
