"""The switch for everybody."""

from __future__ import annotations

from fastapi import APIRouter

from auth_service import sensitivity, tenant
from auth_service.api import acts
from auth_service.api.doors import AnAdministrator
from auth_service.api.envelope import documented
from auth_service.api.models import (
    Switch,
)
from auth_service.tenant import Tenant

routes = APIRouter(prefix="/admin", tags=["administration: everybody"])


@routes.get("/tenant", responses=documented(401, 403))
def show_tenant(door: AnAdministrator) -> Tenant:
    """Whether anybody at all may sign in or synchronise."""
    with door.enter("support", "look at the switch") as (connection, _):
        return tenant.show(connection)


@routes.put("/tenant", responses=documented(401, 403))
def switch(body: Switch, door: AnAdministrator) -> Tenant:
    """Switch access for everybody off, or on again. It holds when this answers."""
    done: Tenant = acts.submit(door, sensitivity.SWITCH_ACCESS, {"open": body.open}, body.reason)
    return done
