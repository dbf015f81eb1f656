"""Writing the difference to one person's database, so that a crash at any point is made good by the next pass.

Normal writes name the parent revision that is on record. CouchDB is the fence: a stale writer gets a conflict and
makes no branch. After a conflict the stored document is read and

* adopted, when it is what we meant to write (we crashed after CouchDB had taken it);
* left alone, when another worker wrote it from a later snapshot of the ledger;
* written again with its recorded history, when it is older than what is on record: a node that was away answers
  with what it had, and the newer revision may be on one that is away now. A sibling would compete with that one;
* replaced otherwise, as the child of what is there.

A document that is not there at all although it is on record was lost; it comes back with its recorded history, so
that devices which hold it see the same document going on and not a stranger.

The manifest tells of documents that are there. CouchDB applies a request in the order of ids and commits it as one,
so the manifest, whose id sorts last, may travel in one request with documents that it counts:

* it is in the last request of a write, which is sent when everything before it stands;
* where a document beside it met a conflict, it is written once more when that is settled, so that it is last;
* where CouchDB refused a document beside it, it is taken back, and its next write is a request of its own.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from passbook.couch import BulkResult, CouchClient, Leaf
from passbook.errors import Unavailable
from passbook.servicedb.engine import ServiceDatabase
from projections import canonical
from projections.project import PICTURE_ATTACHMENT, Projected
from sync_worker import state
from sync_worker.state import MANIFEST, Copies, Known, Written, is_stale

_ROUNDS = 5


@dataclass(frozen=True)
class Change:
    """One document to write: `document` is None for a tombstone."""

    id: str
    client_id: int | None
    document: Projected | None
    #: What it follows.
    known: Known | None
    #: Whether the document is on record as there, for changes that follow something that is not on record.
    counted: bool | None = None

    @property
    def digest(self) -> bytes:
        return self.document.digest if self.document else b""

    @property
    def was_there(self) -> bool:
        """Whether the document is on record as there."""
        return self.counted if self.counted is not None else bool(self.known and not self.known.deleted)

    def after(self, revision: str, deleted: bool, as_of: datetime) -> Change:
        """The same as the child of what was found in CouchDB."""
        found = Known(revision, b"", deleted, self.client_id, as_of)
        return Change(self.id, self.client_id, self.document, found, self.was_there)


@dataclass
class _Answer:
    """What CouchDB said to one request."""

    written: list[Written]
    conflicts: list[Change]
    refused: Unavailable | None = None


def difference(wanted: Iterable[Projected], known: Copies) -> tuple[list[Change], int]:
    """What to write so that the database holds `wanted` and no other of the `known`; how many stay as they are."""
    changes: list[Change] = []
    unchanged = 0
    present = set()
    for document in wanted:
        present.add(document.id)
        copy = known.get(document.id)
        if copy is not None and copy.digest == document.digest and not copy.deleted:
            unchanged += 1
        else:
            changes.append(Change(document.id, document.client_id, document, copy))
    gone = [
        Change(document_id, copy.client_id, None, copy)
        for document_id, copy in known.items()
        if document_id not in present and not copy.deleted
    ]
    # What must go, goes first.
    return gone + changes, unchanged


@dataclass(frozen=True)
class _Target:
    """Where a write goes, and the ledger snapshot that it is made from."""

    database: str
    person_id: str
    as_of: datetime


class Writer:
    """Writes changes of one person at a time; counts nothing and remembers nothing."""

    def __init__(
        self, couch: CouchClient, database: ServiceDatabase, *, most_documents: int, most_bytes: int
    ) -> None:
        self._couch = couch
        self._database = database
        self._most_documents = most_documents
        self._most_bytes = most_bytes

    async def write(
        self, database: str, person_id: str, changes: Sequence[Change], as_of: datetime
    ) -> list[Written]:
        """Write `changes`, all made from the ledger snapshot `as_of`; what now stands in CouchDB.

        Raises `DatabaseMissing` when the database is gone, `Unavailable` when CouchDB is.
        """
        target = _Target(database, person_id, as_of)
        others, manifest = _apart(changes)
        if manifest is None:
            return await self._stand(target, others)
        if manifest.known and manifest.known.deleted:
            return await self._stand(target, others) + await self._stand(target, [manifest])
        *before, last = self._parts([*others, manifest])
        written = await self._stand(target, [change for part in before for change in part])
        return written + await self._with_manifest(target, last[:-1], manifest)

    async def _with_manifest(self, target: _Target, beside: Sequence[Change], manifest: Change) -> list[Written]:
        """Write the manifest in one request with what is left of the documents that it tells of."""
        answer = await self._send(target, [*beside, manifest])
        _, conflict = _apart(answer.conflicts)
        if answer.refused:
            if not conflict:
                await self._take_back(target)
            raise answer.refused
        if len(answer.conflicts) == (conflict is not None):
            return answer.written + await self._settled(target, answer.conflicts)
        written = [document for document in answer.written if document.document_id != MANIFEST]
        written += await self._settled(target, [change for change in answer.conflicts if change is not conflict])
        return written + await self._on_top(target, manifest)

    async def _take_back(self, target: _Target) -> None:
        """End a manifest that tells of a document which CouchDB did not take: none is better than that one."""
        written = await self._on_top(target, Change(MANIFEST, None, None, None))
        await asyncio.to_thread(self._database.run, state.record, written)

    async def _on_top(self, target: _Target, manifest: Change) -> list[Written]:
        """Write the manifest on whatever is there."""
        leaf = (await self._couch.leaves(target.database, [MANIFEST], bodies=False))[MANIFEST]
        if leaf.revision and manifest.known and is_stale(leaf.revision, manifest.known):
            return await self.supersede(target.database, target.person_id, [manifest], target.as_of)
        if leaf.revision:
            manifest = manifest.after(leaf.revision, leaf.deleted, target.as_of)
        return await self._stand(target, [manifest], on_record=False)

    async def _stand(
        self, target: _Target, changes: Sequence[Change], *, rounds: int = _ROUNDS, on_record: bool = True
    ) -> list[Written]:
        """Write `changes` whatever they meet. `on_record`: what they follow is on record."""
        written: list[Written] = []
        conflicts: list[Change] = []
        for part in self._parts(changes):
            answer = await self._send(target, part, on_record=on_record)
            if answer.refused:
                raise answer.refused
            written += answer.written
            conflicts += answer.conflicts
        return written + await self._settled(target, conflicts, rounds=rounds - 1)

    async def _settled(
        self, target: _Target, conflicts: Sequence[Change], *, rounds: int = _ROUNDS
    ) -> list[Written]:
        """Settle conflicts, and write what has to be written again on top of what was found."""
        if not conflicts:
            return []
        settled, again = await self._settle(target, conflicts)
        if not again:
            return settled
        if not rounds:
            raise Unavailable(
                f"Document {again[0].id!r} was changed under our hands {_ROUNDS} times.",
                remedy="Does something else than Passbook write to these databases?",
            )
        return settled + await self._stand(target, again, rounds=rounds, on_record=False)

    async def _send(self, target: _Target, part: Sequence[Change], *, on_record: bool = True) -> _Answer:
        results = await self._couch.bulk(target.database, [_normal(change) for change in part])
        answer = _Answer([], [])
        # What is written after a conflict may have been written before, by a request whose answer was lost.
        doubtful = results.doubtful or not on_record
        for change, result in zip(part, results, strict=True):
            if result.rev and not result.error:
                history = None
                if not on_record or (change.known is None and not result.rev.startswith("1-")):
                    # It follows something that is not on record: only CouchDB knows what.
                    history = tuple(await self._couch.history(target.database, change.id, result.rev))
                answer.written.append(_written(target, change, result.rev, history, doubtful))
            elif result.error == "conflict":
                answer.conflicts.append(change)
            else:
                answer.refused = answer.refused or _refused(change.id, result)
        return answer

    async def restore(
        self, database: str, person_id: str, changes: Sequence[Change], as_of: datetime
    ) -> list[Written]:
        """Write documents with their recorded revisions, whatever the database holds: for what was lost.

        A document that is what was recorded gets exactly its revision again; one that changed since, a child of it.
        """
        with self._database.begin() as connection:
            recorded = state.ancestors(connection, person_id, [change.id for change in changes])
        target = _Target(database, person_id, as_of)
        others, manifest = _apart(changes)
        written: list[Written] = []
        doubtful = False
        for part in (*self._parts(others), *([[manifest]] if manifest else [])):
            bodies = []
            for change in part:
                revision, history = _lineage(change, recorded.get(change.id, []))
                bodies.append(_with_history(change, revision, history))
                document = _written(target, change, revision, tuple(history))
                if change.known and revision == change.known.revision:
                    document = msgspec.structs.replace(document, as_of=change.known.as_of)
                written.append(document)
            results = await self._couch.bulk(database, bodies, new_edits=False)
            doubtful = doubtful or results.doubtful
            for result in results:
                if result.error:
                    raise _refused(result.id or "?", result)
        return [msgspec.structs.replace(document, doubtful=True) for document in written] if doubtful else written

    async def supersede(
        self, database: str, person_id: str, changes: Sequence[Change], as_of: datetime
    ) -> list[Written]:
        """As `restore`, over revisions older than the recorded ones: those that did not lead to these are ended."""
        written = await self.restore(database, person_id, changes, as_of)
        for document in written:
            await self.end_others(database, document.document_id, document.revision)
        return [msgspec.structs.replace(document, doubtful=True) for document in written]

    async def end_others(self, database: str, document: str, kept: str) -> None:
        """End every live leaf of a document but `kept` with a tombstone."""
        for revision in await self._couch.live(database, document):
            if revision != kept:
                end = f'{{"_id":"{document}","_rev":"{revision}","_deleted":true}}'.encode()
                await self._couch.bulk(database, [end])

    async def _settle(self, target: _Target, conflicts: Sequence[Change]) -> tuple[list[Written], list[Change]]:
        """Decide conflicts: what stands, and what is to be written again on top of what was found."""
        leaves = await self._couch.leaves(target.database, [change.id for change in conflicts])
        with self._database.begin() as connection:
            fresh = state.of_person(connection, target.person_id)
        stands: list[Written] = []
        again: list[Change] = []
        lost: list[Change] = []
        stale: list[Change] = []
        for change in conflicts:
            leaf = leaves[change.id]
            newer = fresh.get(change.id)
            if leaf.revision is None:
                if change.known:
                    lost.append(change)
                else:
                    again.append(change)
            elif newer and is_stale(leaf.revision, newer):
                if newer.as_of <= target.as_of:
                    stale.append(Change(change.id, change.client_id, change.document, newer))
            elif _is_what_we_meant(leaf, change):
                history = tuple(await self._couch.history(target.database, change.id, leaf.revision))
                stands.append(_written(target, change, leaf.revision, history, doubtful=True))
            elif newer and newer.as_of > target.as_of and newer.revision == leaf.revision:
                continue
            else:
                again.append(change.after(leaf.revision, leaf.deleted, target.as_of))
        if lost:
            stands.extend(await self.restore(target.database, target.person_id, lost, target.as_of))
        if stale:
            stands.extend(await self.supersede(target.database, target.person_id, stale, target.as_of))
        return stands, again

    def _parts(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        part: list[Change] = []
        size = 0
        for change in changes:
            length = _size(change)
            if part and (len(part) >= self._most_documents or size + length > self._most_bytes):
                yield part
                part, size = [], 0
            part.append(change)
            size += length
        if part:
            yield part


def _apart(changes: Iterable[Change]) -> tuple[list[Change], Change | None]:
    """The manifest's change, if it is among these, and the others."""
    others, manifest = [], None
    for change in changes:
        if change.id == MANIFEST:
            manifest = change
        else:
            others.append(change)
    return others, manifest


def _size(change: Change) -> int:
    if change.document is None:
        return 100
    picture = change.document.picture
    return len(change.document.body) + (len(picture.data) * 4 // 3 if picture else 0)


def _normal(change: Change) -> bytes:
    # CouchDB 3.5 answers a conflict to the revision of a tombstone, and takes a document without one as its child.
    parent = change.known if change.known and not change.known.deleted else None
    revision = f'"_rev":"{parent.revision}",' if parent else ""
    return _assembled(change, revision)


def _with_history(change: Change, revision: str, history: Sequence[str]) -> bytes:
    generation, _, own = revision.partition("-")
    revisions = msgspec.json.encode({"start": int(generation), "ids": [own, *history]}).decode()
    return _assembled(change, f'"_rev":"{revision}","_revisions":{revisions},')


def _assembled(change: Change, revision: str) -> bytes:
    """The document as CouchDB takes it: reserved fields first, then the canonical body as it is."""
    head = f'{{"_id":"{change.id}",{revision}'
    if change.document is None:
        return f'{head}"_deleted":true}}'.encode()
    picture = change.document.picture
    if picture:
        data = base64.b64encode(picture.data).decode()
        attachment = f'{{"content_type":"{picture.content_type}","data":"{data}"}}'
        head += f'"_attachments":{{"{PICTURE_ATTACHMENT}":{attachment}}},'
    return head.encode() + change.document.body[1:]


def _lineage(change: Change, ancestors: list[str]) -> tuple[str, list[str]]:
    """Revision and ancestors with which a lost document comes back."""
    known = change.known
    if known is None:
        return f"1-{_hash(change, '')}", []
    if known.digest == change.digest and known.deleted == (change.document is None):
        return known.revision, ancestors
    generation, _, own = known.revision.partition("-")
    return f"{int(generation) + 1}-{_hash(change, known.revision)}", [own, *ancestors][: state.KEPT_REVISIONS - 1]


def _hash(change: Change, parent: str) -> str:
    """A revision hash of our own: a function of parent and body, so that a repeated repair makes no branch."""
    return hashlib.sha256(parent.encode() + b"\0" + change.digest).hexdigest()[:32]


def _is_what_we_meant(leaf: Leaf, change: Change) -> bool:
    if change.document is None or leaf.deleted:
        return leaf.deleted and change.document is None
    return leaf.body is not None and canonical.digest_of(leaf.body) == change.digest


def _written(
    target: _Target,
    change: Change,
    revision: str,
    ancestors: tuple[str, ...] | None = None,
    doubtful: bool = False,
) -> Written:
    after = change.document is not None
    return Written(
        person_id=target.person_id,
        document_id=change.id,
        client_id=change.client_id,
        digest=change.digest,
        revision=revision,
        deleted=not after,
        as_of=target.as_of,
        ancestors=ancestors,
        gained=after - change.was_there,
        doubtful=doubtful,
    )


def _refused(document: str, result: BulkResult) -> Unavailable:
    return Unavailable(
        f"CouchDB did not take document {document!r}: {result.error} ({result.reason}).",
        remedy="Is there a validation function, or another writer, in these databases?",
    )
