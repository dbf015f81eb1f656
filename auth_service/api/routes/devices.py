"""Administration of devices: everybody's, and their end."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from auth_service import devices, sensitivity
from auth_service.api import acts
from auth_service.api.doors import AnAdministrator
from auth_service.api.envelope import WAITS, documented
from auth_service.api.models import Cursor, DeviceId, Devices, Limit, ManyDevices, Reason, Revoked
from auth_service.approvals import Approval
from auth_service.tokens import ADMINISTRATORS
from passbook.audit.chain import record
from passbook.audit.events import PeopleListed, PersonRead

routes = APIRouter(prefix="/admin/devices", tags=["administration: devices"])


@routes.get("", responses=documented(401, 403))
def everywhere(
    door: AnAdministrator,
    state: Annotated[Literal["active", "expired", "revoked"] | None, Query()] = None,
    after: Cursor = None,
    limit: Limit = 50,
) -> Devices:
    """Devices of everybody, newest first, a page at a time."""
    with door.enter("support", "list devices") as (connection, _):
        found = devices.everywhere(connection, state=state, after=after, limit=limit + 1)
        shown = found[:limit]
        record(connection, door.by, PeopleListed(what="devices", shown=len(shown)))
    return Devices(items=shown, next=shown[-1].device if len(found) > limit else None)


@routes.get("/{device}", responses=documented(401, 403, 404))
def show(device: DeviceId, door: AnAdministrator) -> devices.Device:
    """One device."""
    with door.enter("support", "look at a device") as (connection, _):
        found = devices.show(connection, device)
        record(connection, door.by, PersonRead(person=found.person, what="device"))
    return found


@routes.post("/{device}/revoke", responses={**documented(401, 403, 404, 409, 429), 202: WAITS})
def revoke(device: DeviceId, body: Reason, door: AnAdministrator, response: Response) -> devices.Device | Approval:
    """End a device's access, and all that was begun on its phone. It is over when this answers.

    Sessions of the person that belong to no device end too.
    """
    revoked: devices.Device | Approval = acts.submit(
        door, sensitivity.REVOKE_DEVICE, {"device": device}, body.reason
    )
    if isinstance(revoked, Approval):
        response.status_code = 202
        return revoked
    door.service.metrics.outcome("device", "revoked", ADMINISTRATORS)
    return revoked


@routes.post("/{device}/wipe", responses={**documented(401, 403, 404, 409, 429), 202: WAITS})
def wipe(device: DeviceId, body: Reason, door: AnAdministrator, response: Response) -> devices.Device | Approval:
    """End a device's access as `revoke` does, and order it to throw its copy away when it next comes.

    Above the hourly number the access ends all the same; the order waits for a second administrator, or is refused.

    `wipe` says how far that is: `ordered`, `delivered`, `received`; `unreachable_since`, that it has not come yet.
    """
    for action in (sensitivity.REVOKE_DEVICE, sensitivity.WIPE_DEVICE):  # revoked whatever comes of the order
        done: devices.Device | Approval = acts.submit(door, action, {"device": device}, body.reason)
        if isinstance(done, Approval):
            response.status_code = 202
            return done
    door.service.metrics.outcome("device", "wipe_ordered", ADMINISTRATORS)
    return done


@routes.post(
    "/revoke",
    responses={
        **documented(401, 403, 404, 409, 429),
        202: {"model": Revoked, "description": "A second administrator must approve."},
    },
)
def revoke_many(body: ManyDevices, door: AnAdministrator, response: Response) -> Revoked:
    """End the access of many devices at once. Where a second approver is wanted: 202, and it waits."""
    result = acts.submit(door, acts.REVOKE_MANY, {"devices": sorted(set(body.devices))}, body.reason)
    if isinstance(result, Approval):
        response.status_code = 202
        return Revoked(approval=result)
    return Revoked(revoked=result)
