"""Projection state in the service database: per document the digest, the revision and the revisions before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from importlib import resources
from typing import Any

import msgspec
from sqlalchemy import ARRAY, Connection, Text, any_, func, literal, select, text, update

from passbook.servicedb.tables import person, projected_document

#: Sorts after every other id: CouchDB applies a bulk write in the order of ids.
MANIFEST = "~passbook"

#: The manifest's id up to schema 1. Where one is left, it goes when the new one is written.
OLD_MANIFEST = "passbook"

#: The documents that are about no client.
MANIFESTS = (MANIFEST, OLD_MANIFEST)

#: CouchDB's own default is 1000; the last 50 are enough to recognise where a device stands.
KEPT_REVISIONS = 50


class Known(msgspec.Struct, frozen=True, gc=False):
    """What is known of one document of one person. `digest` is empty for a tombstone."""

    revision: str
    digest: bytes
    deleted: bool
    client_id: int | None
    as_of: datetime


def is_stale(found: str, recorded: Known) -> bool:
    """Whether a revision that was found is older than what is on record: a node that was away had it."""
    return generation(found) < generation(recorded.revision)


def generation(revision: str) -> int:
    """How many revisions a document has had, this one included."""
    return int(revision.partition("-")[0])


class Written(msgspec.Struct, frozen=True, gc=False):
    """A document as it stands in CouchDB now.

    `ancestors` is None when the revision follows the recorded one, which then becomes its first ancestor.
    """

    person_id: str
    document_id: str
    client_id: int | None
    digest: bytes
    revision: str
    deleted: bool
    as_of: datetime
    ancestors: tuple[str, ...] | None = None
    #: 1 for a document that was not there before, -1 for one that went, 0 for one that changed.
    gained: int = 0
    #: Whether other nodes of CouchDB may not have it, or may have something that competes with it.
    doubtful: bool = False


#: document id -> what is known of it, for one person.
Copies = dict[str, Known]

_COLUMNS = (
    projected_document.c.person_id,
    projected_document.c.document_id,
    projected_document.c.revision,
    projected_document.c.digest,
    projected_document.c.deleted,
    projected_document.c.client_id,
    projected_document.c.as_of,
)


def of_clients(
    connection: Connection, clients: Sequence[int], people: Collection[str] | None = None
) -> dict[str, Copies]:
    """What is known of all documents about these clients, by person; of everybody, or of these people."""
    query = select(*_COLUMNS).where(projected_document.c.client_id.in_(clients))
    if people is not None:
        query = query.where(projected_document.c.person_id == any_(literal(list(people), ARRAY(Text))))
    return _copies(connection.execute(query))


def of_person(connection: Connection, person_id: str) -> Copies:
    """What is known of every document of one person, the manifest included."""
    found = _copies(connection.execute(select(*_COLUMNS).where(projected_document.c.person_id == person_id)))
    return found.get(person_id, {})


def manifests(connection: Connection, people: Collection[str]) -> dict[str, Copies]:
    """What is known of the manifests of these people, old ones included."""
    query = select(*_COLUMNS).where(
        projected_document.c.document_id.in_(MANIFESTS), projected_document.c.person_id.in_(people)
    )
    return _copies(connection.execute(query))


def last_changes(connection: Connection, people: Collection[str]) -> dict[str, datetime]:
    """The ledger snapshot of the last change among the documents of each of these people."""
    query = (
        select(projected_document.c.person_id, func.max(projected_document.c.as_of))
        .where(projected_document.c.document_id.not_in(MANIFESTS), projected_document.c.person_id.in_(people))
        .group_by(projected_document.c.person_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def holdings(connection: Connection, people: Collection[str] | None = None) -> set[tuple[str, int]]:
    """Every (person, client) of which the person's database holds at least one document; of all, or of these."""
    query = (
        select(projected_document.c.person_id, projected_document.c.client_id)
        .where(~projected_document.c.deleted, projected_document.c.client_id.is_not(None))
        .distinct()
    )
    if people is not None:
        query = query.where(projected_document.c.person_id == any_(literal(list(people), ARRAY(Text))))
    return {(row[0], row[1]) for row in connection.execute(query)}


def ancestors(connection: Connection, person_id: str, documents: Collection[str]) -> dict[str, list[str]]:
    """The recorded revisions before the present one, newest first, of some documents of one person."""
    query = select(projected_document.c.document_id, projected_document.c.ancestors).where(
        projected_document.c.person_id == person_id, projected_document.c.document_id.in_(documents)
    )
    return {row[0]: list(row[1]) for row in connection.execute(query)}


def record(connection: Connection, written: Iterable[Written]) -> None:
    """Note what was written, and whose copies may differ for it. A row from a later snapshot is left alone."""
    following: list[Written] = []
    adopted: list[Written] = []
    doubtful: set[str] = set()
    for document in written:
        if document.doubtful:
            doubtful.add(document.person_id)
        (following if document.ancestors is None else adopted).append(document)
    for rows, name in ((following, "record_following"), (adopted, "record_adopted")):
        if rows:
            connection.execute(text(_sql(name)), _arrays(rows))
    if doubtful:
        connection.execute(
            update(person).where(person.c.id.in_(doubtful)).values(doubtful_at=func.clock_timestamp())
        )


def tell(connection: Connection, person_id: str, documents: Collection[str]) -> None:
    """Wake the devices that wait: CouchDB gives out another revision of these documents than before.

    What is on record stays as it is; the trigger that tells of writes asks for no more than that it is touched.
    """
    if documents:
        connection.execute(
            update(projected_document)
            .where(projected_document.c.person_id == person_id, projected_document.c.document_id.in_(documents))
            .values(revision=projected_document.c.revision)
        )


def _arrays(rows: Sequence[Written]) -> dict[str, object]:
    return {
        "people": [row.person_id for row in rows],
        "documents": [row.document_id for row in rows],
        "clients": [row.client_id for row in rows],
        "digests": [row.digest for row in rows],
        "revisions": [row.revision for row in rows],
        "ancestors": [",".join(row.ancestors or ()) for row in rows],
        "deleted": [row.deleted for row in rows],
        "as_of": [row.as_of for row in rows],
        "kept": KEPT_REVISIONS - 1,
    }


def _copies(found: Iterable[Sequence[Any]]) -> dict[str, Copies]:
    copies: dict[str, Copies] = {}
    for row in found:
        copies.setdefault(row[0], {})[row[1]] = Known(*row[2:])
    return copies


def _sql(name: str) -> str:
    return (resources.files("sync_worker") / "sql" / f"{name}.sql").read_text("utf-8")
