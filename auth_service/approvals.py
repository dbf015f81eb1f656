"""Acts that need two administrators: one asks, another approves, and only then it happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from passbook.audit.chain import Actor, record
from passbook.audit.events import ApprovalDecided, ApprovalRequested
from passbook.credentials import new_id
from passbook.errors import Conflict, NotFound, NotPermitted
from passbook.servicedb.tables import approval

_LIVES = timedelta(hours=24)

#: What an approved act does: its arguments, the reason given, and who approved it.
Act = Callable[[Connection, Actor, dict[str, Any], str], Any]


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
    """Ask for a second approver."""
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
    connection: Connection, by: Actor, approval_id: str, *, approve: bool, acts: Mapping[str, Act]
) -> tuple[Approval, Any]:
    """Approve (then the act happens, in this transaction) or refuse. Whoever asked may refuse, not approve."""
    connection.execute(select(approval.c.id).where(approval.c.id == approval_id).with_for_update())
    now = show(connection, approval_id)
    if now.state != "pending":
        raise Conflict(f"This was {now.state} already.", code="decided")
    if approve and by.id == now.requested_by:
        raise NotPermitted("Somebody else than who asked must approve.", code="second_approver")
    decision = "approved" if approve else "refused"
    connection.execute(
        update(approval)
        .where(approval.c.id == approval_id)
        .values(decided_by=by.id, decided_at=func.now(), decision=decision)
    )
    record(connection, by, ApprovalDecided(approval=approval_id, action=now.action, decision=decision))
    done = acts[now.action](connection, by, now.arguments, now.reason) if approve else None
    return show(connection, approval_id), done


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
