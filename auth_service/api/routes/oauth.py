"""Signing in: OAuth 2 tokens (RFC 6749), their revocation (RFC 7009), and HTTP Basic as the simple alternative."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from auth_service import me, sessions
from auth_service.api import envelope
from auth_service.api.doors import APerson, Stranger, TheService
from auth_service.api.models import Authenticated, Me, OAuthProblem, TokenAnswer
from auth_service.limits import Audience
from auth_service.service import Service
from auth_service.signin import typed
from auth_service.tokens import ADMINISTRATORS, PEOPLE
from passbook.audit.chain import Actor
from passbook.errors import NotAuthenticated, PassbookError, Refused, TooMany, Unavailable

T = TypeVar("T")

_LONGEST_FIELD = 2000
_FORM = "application/x-www-form-urlencoded"


def _form_of(examples: list[dict[str, str]], **fields: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields, "required": [next(iter(fields))], "examples": examples}
    return {"requestBody": {"required": True, "content": {_FORM: {"schema": schema}}}}


_TOKEN_FORM = _form_of(
    [
        {"grant_type": "password", "username": "amina", "password": "three words and a tree"},
        {"grant_type": "refresh_token", "refresh_token": "pbr_…"},
    ],
    grant_type={"type": "string", "enum": ["password", "refresh_token"]},
    username={"type": "string", "description": "With grant_type=password."},
    password={"type": "string", "format": "password", "description": "With grant_type=password."},
    refresh_token={"type": "string", "description": "With grant_type=refresh_token."},
    installation_key={
        "type": "string",
        "minLength": 16,
        "maxLength": 200,
        "description": "With grant_type=password, for people: a random UUID that the app keeps in the key store "
        "for as long as it is installed. The session then ends with the devices of this phone; without it, with "
        "any device of the person that is revoked, until it registers one.",
    },
)
_REVOKE_FORM = _form_of(
    [{"token": "pbr_…"}],
    token={"type": "string", "description": "A refresh token."},
    token_type_hint={"type": "string", "enum": ["refresh_token", "access_token"]},
)
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": OAuthProblem, "description": meaning}
    for status, meaning in {
        400: "RFC 6749, 5.2; `code` says more: unknown, suspended, maintenance, session_ended",
        429: "too many attempts: wait for Retry-After seconds",
        503: "cannot answer just now: try again after Retry-After seconds",
    }.items()
}
# Said before anybody looks at what it is.
_ERRORS[413] = {"model": envelope.Problem, "description": "too large"}


class _BadForm(Refused):
    """The request is not a form of the kind that is wanted here."""

    code = "invalid_request"


async def _form(request: Request) -> dict[str, str]:
    """The fields of the form, each at most once (RFC 6749, 3.2)."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != _FORM:
        raise _BadForm(f"Send the request as {_FORM}.")
    fields: dict[str, str] = {}
    try:
        form = await request.form(max_fields=20, max_files=0)
    except (HTTPException, UnicodeError, ValueError) as error:
        if isinstance(error, HTTPException) and error.status_code == 413:
            raise
        raise _BadForm from None
    for name, value in form.multi_items():
        if not isinstance(value, str) or name in fields or len(value) > _LONGEST_FIELD:
            raise _BadForm("A field of the form is repeated, too long, or a file.")
        fields[name] = value
    return fields


async def _answered(request: Request, work: Awaitable[T]) -> T | JSONResponse:
    """What `work` gives, or its error in the form of RFC 6749."""
    try:
        return await work
    except (TooMany, Unavailable) as error:
        return envelope.of_error(request, error, oauth_error="temporarily_unavailable")
    except PassbookError as error:
        kind = error.code if error.code in ("invalid_request", "unsupported_grant_type") else "invalid_grant"
        because = error.because if isinstance(error, NotAuthenticated) else None
        return envelope.answer(request, 400, error.code, error.message, because=because, oauth_error=kind)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _tokens(service: Service, opened: sessions.Opened, audience: Audience) -> TokenAnswer:
    access = service.tokens.make(
        subject=opened.principal.id, session=opened.session, audience=audience, token_id=opened.access_id
    )
    return TokenAnswer(
        access_token=access,
        token_type="Bearer",  # noqa: S106 - the name of the scheme
        expires_in=service.tokens.seconds,
        refresh_token=opened.refresh_token,
        must_change_password=opened.must_change_password,
    )


async def _granted(request: Request, service: Service, by: Actor, audience: Audience) -> TokenAnswer:
    fields = await _form(request)
    grant = fields.get("grant_type", "")
    if grant == "password":
        if "username" not in fields or "password" not in fields:
            raise _BadForm("grant_type=password takes username and password.")
        opened = await service.sign_in.with_password(
            by,
            _address(request),
            fields["username"],
            fields["password"],
            audience=audience,
            installation_key=fields.get("installation_key"),
        )
    elif grant == "refresh_token":
        if "refresh_token" not in fields:
            raise _BadForm("grant_type=refresh_token takes refresh_token.")
        await slowed(service, by, fields["refresh_token"], audience)
        opened = await run_in_threadpool(_refreshed, service, by, fields["refresh_token"], audience)
    else:
        code = "unsupported_grant_type" if grant else "invalid_request"
        raise Refused("grant_type is password or refresh_token.", code=code)
    return await run_in_threadpool(_tokens, service, opened, audience)


async def slowed(service: Service, by: Actor, token: str, audience: Audience) -> None:
    """Count somebody who comes with a refresh token. Raises `TooMany`.

    Tokens that this service made are counted by session, so whoever floods from a place slows no good client there.
    """
    family = service.marks.family(token)
    try:
        await (service.strangers.admit(by.address) if family is None else service.families.admit(family))
    except TooMany as error:
        service.metrics.outcome("refresh", f"slowed_{error.limit}", audience)
        raise


def _refreshed(service: Service, by: Actor, token: str, audience: Audience) -> sessions.Opened:
    terms = service.session_terms(administrators=audience == ADMINISTRATORS)
    with service.database.begin() as connection:
        result = sessions.refresh(connection, by, token, terms, administrators=audience == ADMINISTRATORS)
    service.metrics.outcome("refresh", result.code if isinstance(result, sessions.Ended) else "ok", audience)
    if isinstance(result, sessions.Ended):
        raise result
    return result


async def _revoked(request: Request, service: Service, by: Actor, audience: Audience) -> Response:
    fields = await _form(request)
    if "token" not in fields:
        raise _BadForm("The form takes token.")
    await slowed(service, by, fields["token"], audience)

    def work() -> None:
        with service.database.begin() as connection:
            sessions.sign_out(connection, by, fields["token"], administrators=audience == ADMINISTRATORS)

    await run_in_threadpool(work)
    return Response(status_code=200)


def router(audience: Audience) -> APIRouter:
    """The token routes of one audience."""
    people_s = audience == PEOPLE
    whose = "a person" if people_s else "an administrator"
    routes = APIRouter(
        prefix="/oauth" if people_s else "/admin/oauth",
        tags=["signing in" if people_s else "administration: signing in"],
        responses=_ERRORS,
    )

    @routes.post("/token", openapi_extra=_TOKEN_FORM, response_model=TokenAnswer, summary=f"Sign {whose} in")
    async def token(request: Request, service: TheService, by: Stranger) -> Any:
        """Tokens for a name and a password, or new ones for a refresh token, which is good once.

        The answer to a refresh may get lost: the same token may be sent again for a short while.
        """
        return await _answered(request, _granted(request, service, by, audience))

    @routes.post(
        "/revoke", openapi_extra=_REVOKE_FORM, response_class=Response, summary=f"End a session of {whose}"
    )
    async def revoke(request: Request, service: TheService, by: Stranger) -> Any:
        """End the session of a refresh token, and with it its access tokens. A token that is none is no error.

        No device ends with it: a phone goes on synchronising. POST /sign-out signs a phone out.
        """
        return await _answered(request, _revoked(request, service, by, audience))

    return routes


simple = APIRouter(tags=["signing in"])
_basic = HTTPBasic(scheme_name="basic", auto_error=False)


def me_of(connection: Connection, person_id: str) -> Me:
    """What a person is told about themselves."""
    return Me(**asdict(me.show(connection, person_id)))


@simple.post(
    "/authentication",
    summary="Sign a person in with HTTP Basic",
    responses=envelope.documented(401, 403, 429),
    dependencies=[Depends(_basic)],
)
async def authentication(
    request: Request,
    service: TheService,
    by: Stranger,
    installation_key: Annotated[
        str | None,
        Header(
            min_length=16,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="As `installation_key` of POST /oauth/token.",
            examples=["0b0f2f7e-6a55-4f0e-8a57-5c2f1f9d3c11"],
        ),
    ] = None,
) -> Authenticated:
    """Who I am, and tokens to go on with, for `Authorization: Basic`."""
    username, password = _credentials(request)
    opened = await service.sign_in.with_password(
        by, _address(request), username, password, audience=PEOPLE, installation_key=installation_key
    )

    def work() -> Authenticated:
        with service.database.begin() as connection:
            mine = me_of(connection, opened.principal.id)
        return Authenticated(**_tokens(service, opened, PEOPLE).model_dump(), authenticated=True, me=mine)

    return await run_in_threadpool(work)


def _who(door: APerson) -> Me:
    """The person whose access token it is, and what they may see; also while the password must be changed."""
    with door.enter(with_old_password=True) as (connection, caller):
        return me_of(connection, caller.id)


simple.get("/me", summary="Who I am", responses=envelope.documented(401, 403))(_who)
simple.get("/oauth/userdetails", summary="Who I am, by its older name", responses=envelope.documented(401, 403))(
    _who
)


@simple.get("/.well-known/jwks.json", summary="The keys that verify access tokens", responses=envelope.documented())
def jwks(service: TheService) -> dict[str, Any]:
    """RFC 7517. After a rotation the key before is here until its last token has expired."""
    return service.keyring.public()


def _credentials(request: Request) -> tuple[str, str]:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        username, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise NotAuthenticated(
            "Send name and password: Authorization: Basic …", code="credentials_missing"
        ) from None
    if not colon or len(password) > _LONGEST_FIELD:
        raise NotAuthenticated("Send name and password: Authorization: Basic …", code="credentials_missing")
    return typed(username), password
