"""Acts that wait for a second administrator."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from auth_service import approvals, sensitivity
from auth_service.api import acts
from auth_service.api.access import handed_over
from auth_service.api.acts import Access
from auth_service.api.doors import AnAdministrator
from auth_service.api.envelope import documented
from auth_service.api.models import (
    ApprovalId,
    Approvals,
    Decided,
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
async def approve(approval: ApprovalId, door: AnAdministrator) -> Decided:
    """Approve what another administrator asked for: it happens now.

    Where it made or reset somebody, the answer has their activation code, to hand over; where codes are delivered,
    it has none.
    """
    decided, done = await run_in_threadpool(acts.decide, door, approval, approve=True)
    handed = None
    if decided.action == sensitivity.ERASE_PERSON:
        await finish(door, *done)
    elif isinstance(done, Access):
        handed = await run_in_threadpool(handed_over, door.service, door.by, done)
    return Decided(**vars(decided), activation=handed)


@routes.post("/approvals/{approval}/refuse", responses=documented(401, 403, 404, 409))
def refuse(approval: ApprovalId, door: AnAdministrator) -> Approval:
    """Refuse it, or take back what one has asked for oneself."""
    decided, _ = acts.decide(door, approval, approve=False)
    return decided
