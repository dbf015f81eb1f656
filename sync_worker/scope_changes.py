"""Changes of what people may see: pending until a pass has carried them out, then with what it did.

Carried out means that the database is as the new scope says: devices lose and get documents. Done is a change when
the old bodies of what it took away are gone as well (`withdrawal`).

What came and went is counted in the very transaction that notes the documents, so that the numbers are right even
if the worker is killed in between. Of several changes of one person that are carried out together the last one
has the numbers: nobody can say which of them brought a document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources

from sqlalchemy import Connection, exists, func, or_, select, text

from passbook.servicedb.tables import person, scope_change
from sync_worker.state import MANIFESTS, OLD_MANIFEST, Written

#: Person id -> ids of the pending changes, oldest first.
Pending = dict[str, list[int]]


def any_waiting(connection: Connection) -> bool:
    """Whether there is a change to carry out, or somebody to erase."""
    changes = exists(scope_change.c.id).where(scope_change.c.carried_out_at.is_(None))
    leavers = exists(person.c.id).where(person.c.state == "deleting")
    return bool(connection.execute(select(or_(changes, leavers))).scalar())


def pending(connection: Connection) -> Pending:
    """All pending changes. Ask before loading scopes: then each of these is in the scope, whatever comes after."""
    found: Pending = {}
    query = select(scope_change.c.person_id, scope_change.c.id).where(scope_change.c.carried_out_at.is_(None))
    for row in connection.execute(query.order_by(scope_change.c.id)):
        found.setdefault(row.person_id, []).append(row.id)
    return found


def first(connection: Connection, most: int) -> list[str]:
    """The up to `most` people whose changes come first: people who have a copy already before new ones.

    So what is taken away from somebody does not wait for an import of thousands.
    """
    new = func.bool_and(scope_change.c.what == "created")
    query = (
        select(scope_change.c.person_id)
        .where(scope_change.c.carried_out_at.is_(None))
        .group_by(scope_change.c.person_id)
        .order_by(new, func.min(scope_change.c.id))
        .limit(most)
    )
    return list(connection.execute(query).scalars())


def count(connection: Connection, changes: Mapping[str, int], written: Sequence[Written]) -> None:
    """Add what was `written` to the counts of `changes`: by person, the change that has the numbers."""
    added: Counter[int] = Counter()
    removed: Counter[int] = Counter()
    # A manifest that moves to its new id is neither something new nor taken away.
    moved = {document.person_id for document in written if document.document_id == OLD_MANIFEST}
    for document in written:
        if document.document_id in MANIFESTS and document.person_id in moved:
            continue
        change = changes.get(document.person_id)
        if change is not None and document.gained:
            (added if document.gained > 0 else removed)[change] += 1
    ids = sorted(added.keys() | removed.keys())
    if ids:
        values = {"ids": ids, "added": [added[one] for one in ids], "removed": [removed[one] for one in ids]}
        connection.execute(text(_sql("count_scope_changes")), values)


def finish(connection: Connection, done: Pending, failed: Mapping[str, int]) -> None:
    """Mark changes as carried out. `failed`: by person, how many of their clients could not be read or projected.

    They are done as well where no old bodies are left to throw away.
    """
    # Held against `withdrawal`, which marks as done what it finds carried out when it is through.
    connection.execute(select(person.c.id).where(person.c.id.in_(done)).order_by(person.c.id).with_for_update())
    ids, clients = [], []
    for person_id, changes in done.items():
        ids += changes
        clients += [0] * (len(changes) - 1) + [failed[person_id]]
    connection.execute(text(_sql("finish_scope_changes")), {"ids": ids, "failed": clients})


def _sql(name: str) -> str:
    return (resources.files("sync_worker") / "sql" / f"{name}.sql").read_text("utf-8")
