"""Acts that wait for a second administrator."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from auth_service import approvals
from auth_service.api import acts
from auth_service.api.doors import AnAdministrator
from auth_service.api.envelope import documented
from auth_service.api.models import (
    ApprovalId,
    Approvals,
)
from auth_service.api.routes.people import finish
from auth_service.approvals import Approval

routes = APIRouter(prefix="/admin", tags=["administration: approvals"])


@routes.get("/approvals", responses=documented(401, 403))
def waiting(door: AnAdministrator) -> Approvals:
    """The acts that wait for a second administrator."""
    with door.enter("support", "list approvals") as (connection, _):
        return Approvals(items=approvals.pending(connection))


@routes.post("/approvals/{approval}/approve", responses=documented(401, 403, 404, 409))
async def approve(approval: ApprovalId, door: AnAdministrator) -> Approval:
    """Approve what another administrator asked for: it happens now."""

    def work() -> tuple[Approval, object]:
        with door.enter("support", "look at an approval") as (connection, _):
            needed = acts.NEEDED[approvals.show(connection, approval).action]
        with door.enter(needed, "approve") as (connection, _):
            return approvals.decide(connection, door.by, approval, approve=True, acts=acts.ACTS)

    decided, done = await run_in_threadpool(work)
    if decided.action == acts.ERASE and isinstance(done, tuple):
        await finish(door, *done)
    return decided


@routes.post("/approvals/{approval}/refuse", responses=documented(401, 403, 404, 409))
def refuse(approval: ApprovalId, door: AnAdministrator) -> Approval:
    """Refuse it, or take back what one has asked for oneself."""
    with door.enter("support", "refuse") as (connection, _):
        decided, _ = approvals.decide(connection, door.by, approval, approve=False, acts=acts.ACTS)
    return decided
