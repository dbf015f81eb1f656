"""Acts that need two administrators: one asks, another approves, and only then it happens.

Which acts these are `sensitivity` says; who is another, `independence`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Text, cast, func, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB

from auth_service import independence
from auth_service.administrators import may
from passbook.audit.chain import Actor, record
from passbook.audit.events import ApprovalDecided, ApprovalRequested
from passbook.credentials import new_id
from passbook.errors import Conflict, NotFound, NotPermitted, TooMany
from passbook.servicedb.tables import administrator, approval

_LIVES = timedelta(hours=24)
#: Acts of one administrator that wait at the same time: whoever approves must be able to look at each.
_MOST_WAITING = 100
_COME_AGAIN = 600  # seconds
#: The arguments of an act without the name of whoever was to be created.
_NAMELESS = approval.c.arguments.op("-", return_type=JSONB())(cast("username", Text))


class Denied(NotPermitted):
    """You cannot approve this. `why` is `asked`, `concerned` or `dependent`."""

    def __init__(self, message: str, *, code: str, why: str) -> None:
        super().__init__(message, code=code)
        self.why = why


@dataclass(frozen=True)
class Approval:
    """An act that waits, or waited. `state` is pending, approved, refused or expired."""

    approval: str
    action: str
    arguments: dict[str, Any]
    reason: str
    state: str
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """For answers."""
        return asdict(self)


def request(connection: Connection, by: Actor, action: str, arguments: Mapping[str, Any], reason: str) -> Approval:
    """Ask for a second approver. Raises `TooMany` when too much of this administrator's waits already."""
    waits = (
        (approval.c.requested_by == by.id) & approval.c.decided_at.is_(None) & (approval.c.expires_at > func.now())
    )
    if connection.execute(select(func.count()).where(waits)).scalar_one() >= _MOST_WAITING:
        raise TooMany(
            f"{_MOST_WAITING} of your acts wait for a second administrator already.",
            retry_after=_COME_AGAIN,
            limit="waiting",
        )
    approval_id = new_id("approval")
    connection.execute(
        insert(approval).values(
            id=approval_id,
            action=action,
            arguments=dict(arguments),
            reason=reason,
            requested_by=by.id,
            expires_at=func.now() + _LIVES,
        )
    )
    record(connection, by, ApprovalRequested(approval=approval_id, action=action), reason=reason)
    return show(connection, approval_id)


def show(connection: Connection, approval_id: str) -> Approval:
    """One act. Raises `NotFound`."""
    found = _approvals(connection, approval.c.id == approval_id)
    if not found:
        raise NotFound(f"There is no approval {approval_id!r}.")
    return found[0]


def pending(connection: Connection) -> list[Approval]:
    """The acts that wait, oldest first."""
    return _approvals(connection, approval.c.decided_at.is_(None), approval.c.expires_at > func.now())


def decide(
    connection: Connection,
    by: Actor,
    approval_id: str,
    *,
    approve: bool,
    role: str,
    lasts: timedelta,
    carry_out: Callable[[Approval], Any],
) -> tuple[Approval, Any]:
    """Approve (then the act happens, in this transaction) or refuse. Whoever asked may refuse, not approve.

    `role` is what the act takes, `lasts` for how long an administrator depends on who made them. Raises `Denied`
    for somebody who is no second one, `Conflict` for what is decided or expired, or if who asked may not do it any
    more.
    """
    connection.execute(select(approval.c.id).where(approval.c.id == approval_id).with_for_update())
    now = show(connection, approval_id)
    if now.state != "pending":
        raise Conflict(f"This was {now.state} already.", code="decided")
    if approve:
        _check_second(connection, by, now, lasts)
        asker = connection.execute(
            select(administrator.c.role, administrator.c.state).where(administrator.c.id == now.requested_by)
        ).one()
        if asker.state != "active" or not may(asker.role, role):
            raise Conflict("Whoever asked may not do this any more: refuse it.", code="asker_out")
    decision = "approved" if approve else "refused"
    # A person's name is kept with the person alone.
    connection.execute(
        update(approval)
        .where(approval.c.id == approval_id)
        .values(decided_by=by.id, decided_at=func.now(), decision=decision, arguments=_NAMELESS)
    )
    record(connection, by, ApprovalDecided(approval=approval_id, action=now.action, decision=decision))
    done = carry_out(now) if approve else None
    return show(connection, approval_id), done


def who_may_approve(
    connection: Connection, asker: str, role: str, arguments: Mapping[str, Any], lasts: timedelta
) -> list[str]:
    """The administrators who could approve at this moment what `asker` asks for."""
    known = _ties(connection, None, lasts)
    rows = connection.execute(
        select(administrator.c.id, administrator.c.role).where(administrator.c.state == "active")
    )
    return [
        row.id
        for row in rows
        if may(row.role, role)
        and row.id != arguments.get("administrator")
        and independence.independent(asker, row.id, known)
    ]


def nobody_may(connection: Connection, asker: str, lasts: timedelta) -> Conflict:
    """The refusal of an act that nobody could approve, with what to do."""
    known = _ties(connection, None, lasts)
    others = connection.execute(
        select(administrator.c.id).where(administrator.c.state == "active", administrator.c.id != asker)
    ).scalars()
    days = [independence.independent_from(asker, one, known, lasts) for one in others]
    first = min((day for day in days if day is not None), default=None)
    later = (
        f" From {first.astimezone(UTC):%Y-%m-%d %H:%M} UTC on there is one, if nothing more happens."
        if first
        else ""
    )
    return Conflict(
        "This takes a second administrator, and there is none who may approve: the others have another role, or "
        f"may be the same person, since one of you made, reset or promoted the other.{later} The operator makes "
        "one with `passbook administrator add`, or does this at the command line.",
        code="nobody_to_approve",
    )


def sweep(connection: Connection) -> None:
    """Forget the name of whoever should have been created by an act that lapsed."""
    lapsed = approval.c.decided_at.is_(None) & (approval.c.expires_at <= func.now())
    named = approval.c.arguments.has_key("username")
    connection.execute(update(approval).where(lapsed, named).values(arguments=_NAMELESS))


def _check_second(connection: Connection, by: Actor, asked: Approval, lasts: timedelta) -> None:
    """Raise `Denied` unless `by` is somebody else than who asked, and than whom it concerns."""
    if by.id == asked.requested_by:
        raise Denied("Somebody else than who asked must approve.", code="second_approver", why="asked")
    if by.id == asked.arguments.get("administrator"):
        raise Denied("Somebody else than whom it concerns must approve.", code="second_approver", why="concerned")
    known = _ties(connection, asked.requested_at, lasts)
    if independence.independent(asked.requested_by, by.id, known):
        return
    day = independence.independent_from(asked.requested_by, by.id, known, lasts)
    until = f", here until {day.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if day else ""
    raise Denied(
        "You and whoever asked may be one person: an administrator who was made, reset or promoted depends on who "
        f"did it for {lasts.days} days{until}. Let another administrator approve, or ask again after that; the "
        "operator can do it at the command line.",
        code="not_independent",
        why="dependent",
    )


def _ties(connection: Connection, at: datetime | None, lasts: timedelta) -> list[independence.Tie]:
    """Who depended on whom at that time (None for now), and what came since."""
    since = at or connection.execute(select(func.clock_timestamp())).scalar_one()
    return independence.ties(connection, since - lasts)


def _approvals(connection: Connection, *conditions: Any) -> list[Approval]:
    late = (approval.c.expires_at <= func.now()).label("late")
    query = select(approval, late).where(*conditions).order_by(approval.c.requested_at, approval.c.id)
    return [
        Approval(
            row.id,
            row.action,
            row.arguments,
            row.reason,
            row.decision or ("expired" if row.late else "pending"),
            row.requested_by,
            row.requested_at,
            row.expires_at,
            row.decided_by,
            row.decided_at,
        )
        for row in connection.execute(query)
    ]
