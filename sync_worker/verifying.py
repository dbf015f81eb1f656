"""Proof that the copies equal the ledger, document by document, and repair of what does not.

Everything is compared with what the ledger says now, through the same scope function and the same projection as
the worker's; what is in a database and should not be there is a finding too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from passbook import couch_copies
from passbook.couch import DatabaseMissing, Leaf, lets_in_only
from passbook.credentials import principal
from passbook.errors import Refused
from passbook.progress import Reporter
from projections import canonical
from projections.context import Context
from projections.project import PICTURE_ATTACHMENT, Projected
from sync_worker import completeness, scopes, state
from sync_worker.concurrency import each
from sync_worker.expecting import Expected, expected
from sync_worker.parts import Parts
from sync_worker.passlock import pass_lock
from sync_worker.rebuild import Rebuilder
from sync_worker.scopes import Holder
from sync_worker.state import MANIFEST, Known, is_stale
from sync_worker.withdrawal import Withdrawals, mark, old_bodies
from sync_worker.writer import Change

#: The kind of a finding that is no damage.
BEHIND = "behind"

_PAGE = 500
#: Seconds that a repair waits for compaction; what is left then is seen to by the worker.
REPAIRED_WITHIN = 600.0


@dataclass(frozen=True)
class Finding:
    """One difference. `kind` is stable:

    * `behind`: not copied yet. What is there, if anything, is what the worker wrote last, and the ledger or the
      scope has moved on since; the next pass copies it. No damage: `Report.ok` does not look at it
    * `database_missing`, `security`: the database was there and is gone, or lets others in
    * `missing`, `changed`, `foreign`: a document was written and is gone, differs, or should not be there
    * `conflict`: other revisions compete with the right one
    * `old_body`: what left the person's scope can be read by its old revision, or may be on a node that is away
    * `unreadable`: the client cannot be projected (see the dead letters), so its documents were not compared
    """

    kind: str
    person: str
    document: str
    detail: str


@dataclass
class Report:
    """What `passbook verify` says. It is `ok` unless something is damaged: what is only `behind` is not."""

    ok: bool
    checked: int
    findings: list[Finding]
    #: The ledger's time at the beginning of the last pass over everybody: so old is the worker's last whole look.
    last_pass: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": self.ok, "checked": self.checked, "findings": [asdict(one) for one in self.findings]}

    @property
    def behind(self) -> int:
        """How many of the findings are `behind`."""
        return sum(finding.kind == BEHIND for finding in self.findings)


class Verifier:
    """Compares, and repairs if asked to. Holds the pass lock, so that no worker writes meanwhile."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._couch = parts.couch
        self._database = parts.database
        self._writer = parts.writer

    async def verify(self, reporter: Reporter, *, only: str | None = None, repair: bool = False) -> Report:
        """Check everybody, or the person with id `only`. With `repair`, `ok` tells how it stands afterwards."""
        async with pass_lock(self._database):
            lookups = await asyncio.to_thread(self._parts.reader.lookups)
            with self._database.begin() as connection:
                holders, _ = scopes.load(connection, self._parts.today(), None if only is None else [only])
            if only is not None and not holders:
                raise Refused(f"There is no person with id {only!r}.")
            report = Report(True, 0, [])
            for index, holder in enumerate(holders):
                reporter.update(index, len(holders))
                context = Context(lookups.currencies, lookups.rounding, lookups.business_date)
                findings, checked = await self._check(holder, context)
                report.checked += checked
                report.findings += findings
                if findings and repair:
                    await self._repair(holder, context, findings)
                    findings, _ = await self._check(replace(holder, ready=True), context)
                report.ok = report.ok and all(finding.kind == BEHIND for finding in findings)
            report.last_pass = await asyncio.to_thread(self._database.run, completeness.last_pass)
        await self._check_old_bodies(report, [holder for holder in holders if holder.ready], repair)
        return report

    async def put_right(self, person_id: str) -> list[Finding]:
        """Compare one person's database, and repair what is not only behind the ledger; what was found."""
        async with pass_lock(self._database):
            lookups = await asyncio.to_thread(self._parts.reader.lookups)
            with self._database.begin() as connection:
                holders, _ = scopes.load(connection, self._parts.today(), [person_id])
            found: list[Finding] = []
            for holder in holders:
                context = Context(lookups.currencies, lookups.rounding, lookups.business_date)
                findings, _ = await self._check(holder, context)
                found = [finding for finding in findings if finding.kind != "behind"]
                if found:
                    await self._repair(holder, context, found)
        return found

    async def _check_old_bodies(self, report: Report, holders: Sequence[Holder], repair: bool) -> None:
        """Look for what left people's scopes and can still be read; not under the lock: it takes its time."""
        nodes = await couch_copies.membership(self._couch)

        async def look(holder: Holder) -> list[Finding]:
            try:
                found = await old_bodies(self._couch, self._database, holder.id, holder.database, nodes)
            except DatabaseMissing:
                return []
            return [self._finding(holder, "old_body", document, detail) for document, detail in found]

        limit = self._parts.settings.couchdb_connections
        findings = [finding for part in await each(limit, holders, look) for finding in part]
        report.findings += sorted(findings, key=lambda one: (one.person, one.document))
        people = {finding.person for finding in findings}
        if repair:
            await asyncio.to_thread(self._database.run, mark, {one.person for one in findings if one.document})
            ids = [holder.id for holder in holders]
            await Withdrawals(self._couch, self._database).settle(REPAIRED_WITHIN, ids)
            left = [holder for holder in holders if holder.id in people]
            findings = [finding for part in await each(limit, left, look) for finding in part]
        report.ok = report.ok and not findings

    async def _check(self, holder: Holder, context: Context) -> tuple[list[Finding], int]:
        if not holder.ready:
            return [self._finding(holder, BEHIND, "", "the worker has not made the database yet")], 0
        if not await self._couch.database_exists(holder.database):
            return [self._finding(holder, "database_missing", "", "CouchDB does not have it")], 0
        findings = await self._check_security(holder)
        should = await self._expected(holder, context)
        findings += [
            self._finding(holder, "unreadable", f"client:{client_id}", detail)
            for client_id, detail in should.failed.items()
        ]
        present = set()
        async for leaf in self._stored(holder.database):
            present.add(leaf.id)
            findings += await self._compare(holder, leaf, should)
        for document_id in should.documents.keys() - present:
            known = should.known.get(document_id)
            if known is None or known.deleted:
                findings.append(self._finding(holder, BEHIND, document_id, "is not copied yet"))
            else:
                findings.append(self._finding(holder, "missing", document_id, "not in the database"))
        return sorted(findings, key=lambda one: one.document), len(present | should.documents.keys())

    async def _check_security(self, holder: Holder) -> list[Finding]:
        if lets_in_only(await self._couch.security(holder.database), [principal(holder.id)]):
            return []
        return [self._finding(holder, "security", "_security", "lets in others than this person")]

    async def _expected(self, holder: Holder, context: Context) -> Expected:
        return await expected(self._parts, holder, context)

    async def _compare(self, holder: Holder, leaf: Leaf, should: Expected) -> list[Finding]:
        wanted = should.documents.get(leaf.id)
        known = should.known.get(leaf.id)
        if wanted is None:
            if known is not None and should.untold(leaf.id, known):
                return []
            kind = BEHIND if known and not known.deleted and _is_ours(leaf, known) else "foreign"
            return [self._finding(holder, kind, leaf.id, "should not be in the database")]
        findings = []
        if canonical.digest_of(leaf.body or {}) != wanted.digest or not _same_picture(leaf, wanted):
            kind = BEHIND if known and _is_ours(leaf, known) else "changed"
            findings.append(self._finding(holder, kind, leaf.id, "is not what the ledger says"))
        elif known is not None and leaf.revision != known.revision:
            findings.append(self._finding(holder, "changed", leaf.id, f"has revision {leaf.revision}, not ours"))
        if (leaf.body or {}).get("_conflicts"):
            findings.append(self._finding(holder, "conflict", leaf.id, "has competing revisions"))
        return findings

    async def _stored(self, database: str) -> AsyncIterator[Leaf]:
        after: str | None = None
        while True:
            page = await self._couch.all_leaves(database, after, _PAGE)
            for leaf in page:
                yield leaf
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _repair(self, holder: Holder, context: Context, findings: Sequence[Finding]) -> None:
        if not holder.ready or any(finding.kind == "database_missing" for finding in findings):
            await Rebuilder(self._parts).rebuild(holder, context)
            return
        if any(finding.kind == "security" for finding in findings):
            await self._couch.close_database(holder.database, [principal(holder.id)])
        should = await self._expected(holder, context)
        lost: list[Change] = []
        wrong: list[Change] = []
        ended: list[str] = []
        stale: list[Change] = []
        for document_id in sorted({finding.document for finding in findings}):
            wanted = should.documents.get(document_id)
            known = should.known.get(document_id)
            kinds = {finding.kind for finding in findings if finding.document == document_id}
            if kinds & {"unreadable", "security"}:
                continue
            client_id = wanted.client_id if wanted else known.client_id if known else None
            change = Change(document_id, client_id, wanted, known)
            leaf = (await self._couch.leaves(holder.database, [document_id], bodies=False))[document_id]
            if leaf.revision is None and known is not None:
                lost.append(change)
                continue
            if leaf.revision is not None and known is not None and is_stale(leaf.revision, known):
                stale.append(change)
                continue
            cleared = await self._cleared(holder, change, leaf)
            if cleared:
                wrong.append(cleared)
            else:
                ended.append(document_id)
        written = await self._writer.restore(holder.database, holder.id, lost, should.as_of)
        written += await self._writer.supersede(holder.database, holder.id, stale, should.as_of)
        written += await self._writer.write(holder.database, holder.id, wrong, should.as_of)
        self._database.run(state.record, written)
        self._database.run(state.tell, holder.id, ended)
        # The manifest names the last change, which may just have moved.
        should = await self._expected(holder, context)
        manifest = should.documents.get(MANIFEST)
        known = should.known.get(MANIFEST)
        if manifest and (known is None or known.digest != manifest.digest):
            change = Change(MANIFEST, None, manifest, known)
            written = await self._writer.write(holder.database, holder.id, [change], should.as_of)
            self._database.run(state.record, written)
        await asyncio.to_thread(self._database.run, mark, [holder.id])

    async def _cleared(self, holder: Holder, change: Change, leaf: Leaf) -> Change | None:
        """`change` on the right parent, after every other leaf of the document was ended with a tombstone.

        None if that was all it took: the right revision, freed of its competitors, wins again.
        """
        if leaf.revision is None or leaf.deleted:
            return change
        leaves = [leaf.revision, *await self._couch.live(holder.database, change.id)]
        recorded = change.known.revision if change.known else None
        kept = recorded if recorded in leaves else leaf.revision
        await self._writer.end_others(holder.database, change.id, kept)
        if kept == recorded:
            winner = (await self._couch.leaves(holder.database, [change.id]))[change.id]
            right = winner.revision == recorded and canonical.digest_of(winner.body or {}) == change.digest
            return None if right and change.document and _same_picture(winner, change.document) else change
        found = Known(kept, b"", False, change.client_id, datetime.now(UTC))
        return Change(change.id, change.client_id, change.document, found)

    def _finding(self, holder: Holder, kind: str, document: str, detail: str) -> Finding:
        return Finding(kind, holder.id, document, detail)


def _is_ours(leaf: Leaf, known: Known) -> bool:
    return leaf.revision == known.revision and canonical.digest_of(leaf.body or {}) == known.digest


def _same_picture(leaf: Leaf, wanted: Projected) -> bool:
    """Whether the attachment is the picture: CouchDB tells its MD5, so its bytes need not be read."""
    attached = (leaf.body or {}).get("_attachments", {})
    if wanted.picture is None:
        return not attached
    md5 = base64.b64encode(hashlib.md5(wanted.picture.data, usedforsecurity=False).digest()).decode()
    return set(attached) == {PICTURE_ATTACHMENT} and attached[PICTURE_ATTACHMENT].get("digest") == f"md5-{md5}"
