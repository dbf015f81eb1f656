"""How fresh somebody's copy is: `checked_at`, told by the gateway and by `/me`.

It is the ledger's time up to which the copy is known to be complete: all that the ledger had committed by then, of
all that the person may see now, is in the person's database. Null when no such time is known: never copied, a
change of scope still to be carried out, a database that was lost. It is about the ledger's clock alone; no clock of
ours is in it. The worker keeps what it is made of (`sync_worker.completeness`); nobody else asks those tables.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, case, func, null, or_, select

from passbook.servicedb.tables import completeness, scope_change, whole_pass


def checked_at(person_id: ColumnElement[str]) -> ColumnElement[datetime | None]:
    """`checked_at` of the person with this id, as a column of a query about people."""
    # Not joined: PostgreSQL, which cannot know that there is one row, would plan for many.
    last_pass = select(whole_pass.c.as_of).scalar_subquery()
    changing = (
        select(scope_change.c.id)
        .where(scope_change.c.person_id == person_id, scope_change.c.carried_out_at.is_(None))
        .correlate_except(scope_change)
        .exists()
    )
    state = completeness.c.state
    known = case(
        (or_(changing, state.in_(("lacking", "rebuilding"))), null()),
        (state == "complete", func.greatest(completeness.c.as_of, last_pass)),
        else_=completeness.c.as_of,
    )
    return (
        select(known).where(completeness.c.person_id == person_id).correlate_except(completeness).scalar_subquery()
    )


def in_words(moment: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond: `checked_at` and `as_of` of the manifest alike."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
