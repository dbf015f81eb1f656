"""Administrators: myself, and the others."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from auth_service import administrators
from auth_service.administrators import Administrator
from auth_service.api.doors import AnAdministrator, SeenVersion
from auth_service.api.envelope import documented
from auth_service.api.models import (
    AdministratorAnswer,
    AdministratorChange,
    AdministratorId,
    AdministratorPasswordChange,
    AdministratorReset,
    Administrators,
    Ended,
    NewAdministrator,
    WhoIAm,
)
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


@routes.post("/administrators", status_code=201, responses=documented(401, 403, 409, 429))
async def create(body: NewAdministrator, door: AnAdministrator) -> AdministratorAnswer:
    """Create an administrator."""
    await run_in_threadpool(door.check, "owner", "create an administrator")
    hashed, initial = await door.service.hashing.given_or_new(body.password, username=body.username)

    def work() -> Administrator:
        with door.enter("owner", "create an administrator") as (connection, _):
            return administrators.add(
                connection,
                door.by,
                username=body.username,
                role=body.role,
                password_hash=hashed,
                reason=body.reason,
            )

    return AdministratorAnswer(administrator=await run_in_threadpool(work), initial_password=initial)


@routes.patch("/administrators/{administrator}", responses=documented(401, 403, 404, 409, 412, 428))
def change(
    administrator: AdministratorId,
    body: AdministratorChange,
    door: AnAdministrator,
    response: Response,
    version: SeenVersion,
) -> Administrator:
    """Change role or state. The last owner stays one."""
    with door.enter("owner", "change an administrator") as (connection, _):
        changed = administrators.change(
            connection,
            door.by,
            administrator,
            role=body.role,
            state=body.state,
            version=version,
            reason=body.reason,
        )
    response.headers["ETag"] = f'"{changed.version}"'
    return changed


@routes.post("/administrators/{administrator}/reset-password", responses=documented(401, 403, 404, 409, 429))
async def reset_password(
    administrator: AdministratorId, body: AdministratorReset, door: AnAdministrator
) -> AdministratorAnswer:
    """Give another administrator a new password, which they must change; their sessions end."""

    def name() -> str:
        with door.enter("owner", "reset an administrator's password") as (connection, me):
            if me.id == administrator:
                raise Conflict("Change your own password at /admin/password.", code="own_password")
            return administrators.show(connection, administrator).username

    username = await run_in_threadpool(name)
    hashed, initial = await door.service.hashing.given_or_new(body.password, username=username)

    def work() -> Administrator:
        with door.enter("owner", "reset an administrator's password") as (connection, _):
            return administrators.reset_password(connection, door.by, administrator, hashed, reason=body.reason)

    return AdministratorAnswer(administrator=await run_in_threadpool(work), initial_password=initial)
