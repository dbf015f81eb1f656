"""The audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from auth_service.api.doors import AnAdministrator
from auth_service.api.envelope import documented
from auth_service.api.models import (
    AuditHead,
    AuditPage,
)
from passbook.audit import chain
from passbook.audit.chain import record
from passbook.audit.events import AuditRead

routes = APIRouter(prefix="/admin", tags=["administration: audit log"])


@routes.get("/audit", responses=documented(401, 403))
def audit(
    door: AnAdministrator,
    event: Annotated[str | None, Query(max_length=100, description="Name of the event.")] = None,
    person: Annotated[str | None, Query(max_length=100, description="Id of a person.")] = None,
    actor: Annotated[str | None, Query(max_length=100, description="Id of who did it.")] = None,
    device: Annotated[str | None, Query(max_length=100)] = None,
    since: Annotated[AwareDatetime | None, Query(description="With its zone.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="With its zone.")] = None,
    before: Annotated[int | None, Query(gt=0, lt=2**63, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    """What happened, newest first, a page at a time."""
    with door.enter("manager", "read the audit log") as (connection, _):
        found = chain.entries(
            connection,
            event=event,
            person=person,
            actor=actor,
            device=device,
            since=since,
            until=until,
            before=before,
            limit=limit + 1,
        )
        shown = found[:limit]
        record(connection, door.by, AuditRead(shown=len(shown)))
    return AuditPage(
        items=shown,
        next=shown[-1].id if len(found) > limit else None,
    )


@routes.get("/audit/head", responses=documented(401, 403))
def head(door: AnAdministrator) -> AuditHead:
    """The last row's id and hash. Noted elsewhere, it is what `passbook audit verify --anchor` proves against."""
    with door.enter("support", "read the audit head") as (connection, _):
        last = chain.head(connection)
    return AuditHead(anchor=str(last) if last else None)
