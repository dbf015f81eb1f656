"""What a person does for themselves: the password, the devices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool

from auth_service import devices, leaving, sessions
from auth_service.api.doors import APerson, PersonToken, Stranger, TheService, person_claims
from auth_service.api.envelope import documented
from auth_service.api.models import DeviceId, Ended, PasswordChange
from auth_service.api.phone_models import CredentialAnswer, MyDevice, MyDevices, NewDevice, PhoneSignOut
from auth_service.api.routes.oauth import slowed
from auth_service.callers import PersonCaller
from auth_service.tokens import PEOPLE

routes = APIRouter(tags=["my devices and password"])


@routes.post("/password", responses=documented(401, 403, 429))
async def change_password(body: PasswordChange, door: APerson, request: Request) -> Ended:
    """Choose a new password: 10 characters or more, not one of the common ones."""

    def look() -> PersonCaller:
        with door.enter(with_old_password=True) as (_, me):
            return me

    me = await run_in_threadpool(look)
    ended, revoked = await door.service.sign_in.change_password(
        door.by,
        request.client.host if request.client else "",
        me.username,
        body.current,
        body.new,
        audience=PEOPLE,
        session=me.session,
        sign_out_others=body.sign_out_others,
        keep_device=body.keep_device,
    )
    return Ended(sessions_ended=ended, devices_revoked=revoked)


@routes.post("/devices", status_code=201, responses=documented(401, 403, 409))
def register(
    body: NewDevice,
    door: APerson,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=16,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="A random UUID. The same request with it again gets the same answer, for a day.",
            examples=["6f1c9f52-1d0b-4b5e-9f0e-0c8f6f1a2b3c"],
        ),
    ] = None,
) -> CredentialAnswer:
    """Register this device. The answer is its replication credential; the password is shown here alone."""
    # Locked: a session that is being ended with all devices must not leave one behind.
    with door.enter(lock=True) as (connection, me):
        made = devices.add(
            connection,
            door.by,
            me.id,
            terms=door.service.device_terms,
            name=body.name,
            platform=body.platform,
            idempotency_key=idempotency_key,
            session=me.session,
        )
    door.service.metrics.outcome("device", "registered", PEOPLE)
    return CredentialAnswer(**made.as_json(), person=made.person, wipe_key=made.wipe_key)


@routes.get("/devices", responses=documented(401, 403))
def mine(door: APerson) -> MyDevices:
    """My devices, newest first: those with access, and those that had it."""
    with door.enter() as (connection, me):
        return MyDevices(items=[MyDevice.of(one) for one in devices.of_person(connection, me.id)])


@routes.delete("/devices/{device}", responses=documented(401, 403, 404))
def revoke(device: DeviceId, door: APerson) -> MyDevice:
    """End the access of one of my devices, and all that was begun on its phone; it is over when this answers.

    Sessions of mine that belong to no device end too, this one among them.
    """
    with door.enter() as (connection, me):
        revoked = devices.revoke(
            connection, door.by, device, person_id=me.id, session=me.session, reason="by its person"
        )
    door.service.metrics.outcome("device", "revoked", PEOPLE)
    return MyDevice.of(revoked)


_NOTHING_SAID = PhoneSignOut()


@routes.post(
    "/sign-out",
    summary="Sign this phone out",
    responses=documented(401, 404),
    # The access token may be left out.
    openapi_extra={"security": [{}]},
)
async def sign_out(
    service: TheService, by: Stranger, credentials: PersonToken, body: PhoneSignOut = _NOTHING_SAID
) -> Ended:
    """End every session and every device of the phone that this is sent from; it is over when this answers.

    What it has open breaks off within a second, and its next request is refused: `revoked`, because `signed_out`.
    Any refresh token of a session on it will do, also one that is spent or too old, or an access token. The same
    request again changes nothing, and gets 200.
    """
    token = body.refresh_token
    if token is None:
        of_access = (await person_claims(service, by, credentials)).session
    else:
        await slowed(service, by, token, PEOPLE)

    def work() -> tuple[int, int]:
        with service.database.begin() as connection:
            found = of_access if token is None else sessions.of_token(connection, token, administrators=False)
            return leaving.sign_out(connection, by, found or "", device_id=body.device)

    ended, revoked = await run_in_threadpool(work)
    service.metrics.outcome("device", "signed_out", PEOPLE)
    return Ended(sessions_ended=ended, devices_revoked=revoked)
