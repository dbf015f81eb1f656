"""Administrators: myself, and the others."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from auth_service import administrators, sensitivity
from auth_service.administrators import Administrator
from auth_service.api import acts
from auth_service.api.access import handed_over, password_for
from auth_service.api.acts import Access
from auth_service.api.administrator_models import (
    AdministratorAnswer,
    AdministratorChange,
    AdministratorReset,
    Administrators,
    NewAdministrator,
    WhoIAm,
)
from auth_service.api.doors import AnAdministrator, SeenVersion
from auth_service.api.envelope import WAITS, documented
from auth_service.api.models import AdministratorId, AdministratorPasswordChange, Ended
from auth_service.approvals import Approval
from auth_service.people import checked_username
from auth_service.tokens import ADMINISTRATORS
from passbook.errors import Conflict

routes = APIRouter(prefix="/admin", tags=["administration: administrators"])


@routes.get("/me", responses=documented(401, 403))
def who(door: AnAdministrator) -> WhoIAm:
    """Who I am here."""
    with door.enter("support", "who am I", with_old_password=True) as (_, me):
        return WhoIAm(
            administrator=me.id,
            username=me.username,
            role=me.role,
            must_change_password=me.must_change_password,
        )


@routes.post("/password", responses=documented(401, 403, 429))
async def change_password(body: AdministratorPasswordChange, door: AnAdministrator, request: Request) -> Ended:
    """Choose my own new password; my other sessions end."""
    me = await run_in_threadpool(door.check, "support", "change password", with_old_password=True)
    ended, _ = await door.service.sign_in.change_password(
        door.by,
        request.client.host if request.client else "",
        me.username,
        body.current,
        body.new,
        audience=ADMINISTRATORS,
        session=me.session,
        sign_out_others=True,
    )
    return Ended(sessions_ended=ended, devices_revoked=0)


@routes.get("/administrators", responses=documented(401, 403))
def everybody(door: AnAdministrator) -> Administrators:
    """All administrators."""
    with door.enter("owner", "list administrators") as (connection, _):
        return Administrators(items=administrators.everybody(connection))


@routes.post("/administrators", status_code=201, responses={**documented(401, 403, 409, 429), 202: WAITS})
async def create(
    body: NewAdministrator, door: AnAdministrator, response: Response
) -> AdministratorAnswer | Approval:
    """Create an administrator, who chooses a password with a code."""
    await run_in_threadpool(door.check, "owner", "create an administrator")
    hashed, initial = await password_for(door.service, body.username, body.password, body.credential)
    arguments = {"username": checked_username(body.username), "role": body.role}

    def work() -> AdministratorAnswer | Approval:
        done = acts.submit(door, sensitivity.ADD_ADMINISTRATOR, arguments, body.reason, password_hash=hashed)
        return _answered(door, response, done, initial)

    return await run_in_threadpool(work)


@routes.patch(
    "/administrators/{administrator}",
    responses={**documented(401, 403, 404, 409, 412, 428, 429), 202: WAITS},
)
def change(
    administrator: AdministratorId,
    body: AdministratorChange,
    door: AnAdministrator,
    response: Response,
    version: SeenVersion,
) -> Administrator | Approval:
    """Change role or state. The last owner stays one."""
    action = sensitivity.RESTORE_ADMINISTRATOR
    if body.role is not None:
        action = sensitivity.CHANGE_ROLE
    elif body.state != "active":
        action = sensitivity.SUSPEND_ADMINISTRATOR
    arguments = {"administrator": administrator, "role": body.role, "state": body.state}
    done: Administrator | Approval = acts.submit(door, action, arguments, body.reason, version=version)
    if isinstance(done, Approval):
        response.status_code = 202
        return done
    response.headers["ETag"] = f'"{done.version}"'
    return done


@routes.post(
    "/administrators/{administrator}/reset-password",
    responses={**documented(401, 403, 404, 409, 429), 202: WAITS},
)
async def reset_password(
    administrator: AdministratorId, body: AdministratorReset, door: AnAdministrator, response: Response
) -> AdministratorAnswer | Approval:
    """Take another administrator's password away, so that they choose one with a code; their sessions end."""

    def name() -> str:
        with door.enter("owner", "reset an administrator's password") as (connection, me):
            found = administrators.show(connection, administrator)
            if me.id == found.administrator:
                raise Conflict("Change your own password at /admin/password.", code="own_password")
            return found.username

    username = await run_in_threadpool(name)
    hashed, initial = await password_for(door.service, username, body.password, body.credential)

    def work() -> AdministratorAnswer | Approval:
        arguments = {"administrator": administrator}
        done = acts.submit(door, sensitivity.RESET_ADMINISTRATOR, arguments, body.reason, password_hash=hashed)
        return _answered(door, response, done, initial)

    return await run_in_threadpool(work)


def _answered(
    door: AnAdministrator, response: Response, done: Access[Administrator] | Approval, initial: str | None
) -> AdministratorAnswer | Approval:
    """An administrator with new access, or the act that waits."""
    if isinstance(done, Approval):
        response.status_code = 202
        return done
    handed = handed_over(door.service, door.by, done)
    return AdministratorAnswer(administrator=done.whom, initial_password=initial, activation=handed)
