"""What passes know of how complete each copy is; `passbook.freshness` makes `checked_at` of it.

A pass that is through has read every client in the scopes it began with, after the time of its beginning by the
ledger's clock. So one row with that time is enough for everybody whose copy is complete; a row of a person's own is
written only when something becomes of them. A pass that does not come to its end tells nothing.

Under the pass lock, all of it: nobody else writes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from importlib import resources

from sqlalchemy import ARRAY, Connection, DateTime, Text, any_, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert

from passbook.servicedb.tables import completeness, person, whole_pass
from sync_worker.run import Run


def note(connection: Connection, run: Run) -> None:
    """What a pass that has come to its end found. Those whose copy it rebuilt were noted with that.

    Whose scope changed with it and who is behind has never been complete as they should be now.
    """
    seen = run.holders.keys() - run.lost - run.lacking
    behind = sorted(seen & run.troubled())
    complete = sorted(seen.difference(behind))
    # Who falls behind keeps the time of the last pass: first of all, before that moves on.
    if behind:
        connection.execute(text(_sql("note_behind")), {"people": behind, "changed": sorted(run.pending)})
    if complete:
        values = {"people": complete, "as_of": run.as_of, "whole": run.all}
        connection.execute(text(_sql("note_complete")), values)
    if run.all:
        connection.execute(update(whole_pass).values(as_of=run.as_of))


def lost(connection: Connection, people: Sequence[str]) -> None:
    """These databases are gone, or about to be filled: nothing is known of them until they are rebuilt."""
    _put(connection, people, "rebuilding", None)


def rebuilt(connection: Connection, person_id: str, as_of: datetime, *, lacking: bool) -> None:
    """A database was filled with all there was at `as_of`; or it lacks clients that could not be read."""
    _put(connection, [person_id], "lacking" if lacking else "complete", None if lacking else as_of)


def to_rebuild(connection: Connection, people: Collection[str]) -> tuple[set[str], set[str]]:
    """Who of these people must be rebuilt in any case, and who when all of their clients can be read."""
    query = select(completeness.c.person_id, completeness.c.state).where(
        completeness.c.state.in_(("rebuilding", "lacking")),
        completeness.c.person_id == any_(literal(list(people), ARRAY(Text))),
    )
    found = {row.person_id: row.state for row in connection.execute(query)}
    return (
        {person_id for person_id, state in found.items() if state == "rebuilding"},
        {person_id for person_id, state in found.items() if state == "lacking"},
    )


def last_pass(connection: Connection) -> datetime | None:
    """The ledger's time at the beginning of the last pass over everybody."""
    found: datetime | None = connection.execute(select(whole_pass.c.as_of)).scalar()
    return found


def _put(connection: Connection, people: Sequence[str], state: str, as_of: datetime | None) -> None:
    # Whoever was erased meanwhile has no row to refer to.
    there = select(person.c.id, literal(state), literal(as_of, DateTime(timezone=True))).where(
        person.c.id == any_(literal(list(people), ARRAY(Text)))
    )
    connection.execute(
        insert(completeness)
        .from_select(["person_id", "state", "as_of"], there.order_by(person.c.id))
        .on_conflict_do_update(index_elements=["person_id"], set_={"state": state, "as_of": as_of})
    )


def _sql(name: str) -> str:
    return (resources.files("sync_worker") / "sql" / f"{name}.sql").read_text("utf-8")
