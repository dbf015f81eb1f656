"""Writing the difference to one person's database, so that a crash at any point is made good by the next pass.

Normal writes name the parent revision that is on record. CouchDB is the fence: a stale writer gets a conflict and
makes no branch. After a conflict the stored document is read and

* adopted, when it is what we meant to write (we crashed after CouchDB had taken it);
* left alone, when another worker wrote it from a later snapshot of the ledger;
* replaced otherwise, as the child of what is there.

A document that is not there at all although it is on record was lost; it comes back with its recorded history, so
that devices which hold it see the same document going on and not a stranger.
"""

from __future__ import annotations

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
from sync_worker.state import Copies, Known, Written

_ROUNDS = 5


@dataclass(frozen=True)
class Change:
    """One document to write: `document` is None for a tombstone."""

    id: str
    client_id: int | None
    document: Projected | None
    known: Known | None

    @property
    def digest(self) -> bytes:
        return self.document.digest if self.document else b""


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
        written: list[Written] = []
        pending = list(changes)
        for attempt in range(_ROUNDS):
            conflicts: list[Change] = []
            for part in self._parts(pending):
                documents = [_normal(change) for change in part]
                results = await self._couch.bulk(database, documents)
                for change, result in zip(part, results, strict=True):
                    if result.rev and not result.error:
                        history = None
                        if attempt or (change.known is None and not result.rev.startswith("1-")):
                            # It follows something that is not on record: only CouchDB knows what.
                            history = tuple(await self._couch.history(database, change.id, result.rev))
                        written.append(_written(person_id, change, result.rev, as_of, history))
                    elif result.error == "conflict":
                        conflicts.append(change)
                    else:
                        raise _refused(change.id, result)
            if not conflicts:
                return written
            settled, pending = await self._settle(database, person_id, conflicts, as_of)
            written.extend(settled)
            if not pending:
                return written
        raise Unavailable(
            f"Document {pending[0].id!r} was changed under our hands {_ROUNDS} times.",
            remedy="Does something else than Passbook write to these databases?",
        )

    async def restore(
        self, database: str, person_id: str, changes: Sequence[Change], as_of: datetime
    ) -> list[Written]:
        """Write documents with their recorded revisions, whatever the database holds: for what was lost.

        A document that is what was recorded gets exactly its revision again; one that changed since, a child of it.
        """
        with self._database.begin() as connection:
            recorded = state.ancestors(connection, person_id, [change.id for change in changes])
        written: list[Written] = []
        for part in self._parts(changes):
            bodies = []
            for change in part:
                revision, history = _lineage(change, recorded.get(change.id, []))
                bodies.append(_with_history(change, revision, history))
                stamp = change.known.as_of if change.known and revision == change.known.revision else as_of
                written.append(_written(person_id, change, revision, stamp, tuple(history)))
            for result in await self._couch.bulk(database, bodies, new_edits=False):
                if result.error:
                    raise _refused(result.id or "?", result)
        return written

    async def _settle(
        self, database: str, person_id: str, conflicts: Sequence[Change], as_of: datetime
    ) -> tuple[list[Written], list[Change]]:
        """Decide conflicts: what stands, and what is to be written again on top of what was found."""
        leaves = await self._couch.leaves(database, [change.id for change in conflicts])
        with self._database.begin() as connection:
            fresh = state.of_person(connection, person_id)
        stands: list[Written] = []
        again: list[Change] = []
        lost: list[Change] = []
        for change in conflicts:
            leaf = leaves[change.id]
            newer = fresh.get(change.id)
            if leaf.revision is None:
                if change.known:
                    lost.append(change)
                else:
                    again.append(change)
            elif _is_what_we_meant(leaf, change):
                history = await self._couch.history(database, change.id, leaf.revision)
                stands.append(_written(person_id, change, leaf.revision, as_of, tuple(history)))
            elif newer and newer.as_of > as_of and newer.revision == leaf.revision:
                continue
            else:
                found = Known(leaf.revision, b"", leaf.deleted, change.client_id, as_of)
                again.append(Change(change.id, change.client_id, change.document, found))
        if lost:
            stands.extend(await self.restore(database, person_id, lost, as_of))
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
    person_id: str, change: Change, revision: str, as_of: datetime, ancestors: tuple[str, ...] | None = None
) -> Written:
    before = change.known is not None and not change.known.deleted
    after = change.document is not None
    return Written(
        person_id=person_id,
        document_id=change.id,
        client_id=change.client_id,
        digest=change.digest,
        revision=revision,
        deleted=not after,
        as_of=as_of,
        ancestors=ancestors,
        gained=after - before,
    )


def _refused(document: str, result: BulkResult) -> Unavailable:
    return Unavailable(
        f"CouchDB did not take document {document!r}: {result.error} ({result.reason}).",
        remedy="Is there a validation function, or another writer, in these databases?",
    )
