"""Errors as answers: one shape, `{code, message, detail, request_id}`, whatever went wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from auth_service.approvals import Approval
from auth_service.causes import Told
from passbook.errors import (
    Conflict,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PassbookError,
    Refused,
    Stale,
    TooMany,
    Unavailable,
)

log = structlog.get_logger()

#: What the name of a member, parameter or header looks like.
_MEMBER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_RETRY_AFTER = 5  # seconds to wait when it is we who have a problem

#: The first class that fits decides.
_STATUS: tuple[tuple[type[PassbookError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (Stale, 412),
    (NotAuthenticated, 401),
    (NotPermitted, 403),
    (TooMany, 429),
    (Unavailable, 503),
    (Refused, 400),
)

_SIMPLE = {
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This cannot be done here."),
    413: ("too_large", "A request has at most 64 KiB."),
    415: ("unsupported_encoding", "Requests are taken as they are; send this one without Content-Encoding."),
    500: ("internal", "Something went wrong on our side; the same request may be repeated."),
}


#: The member of an answer that says why access has ended.
BECAUSE: Any = Field(
    default=None,
    description="With the code `session_ended`, where it is known: why. Absent otherwise.",
    examples=["signed_out"],
)


class Problem(BaseModel):
    """Every answer that is not a success."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "not_found",
                    "message": "There is no person 'person-1'.",
                    "detail": None,
                    "request_id": "request-5d0c",
                }
            ]
        }
    )

    code: str
    message: str
    detail: dict[str, Any] | None
    request_id: str
    because: Told | None = BECAUSE


class VersionRequired(Refused):
    """Say which version you saw: send If-Match with the ETag you were given."""

    code = "version_required"


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the errors it may answer, besides those that any may."""
    return {
        status: {"model": Problem, "description": HTTPStatus(status).phrase}
        # Where a token is wanted, those who come with none that holds are slowed.
        for status in sorted({*statuses, 400, 413, 415, 422, 503} | ({429} if 401 in statuses else set()))
    }


#: For a route's `responses`: an act that a second administrator must agree to.
WAITS: dict[str, Any] = {"model": Approval, "description": "It waits until a second administrator approves."}


def request_id_of(request: Request) -> str:
    """The id that the middleware gave the request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def answer(
    request: Request,
    status: int,
    code: str,
    message: str,
    *,
    detail: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    because: str | None = None,
    oauth_error: str | None = None,
) -> JSONResponse:
    """An error as an answer. `oauth_error` adds the two members of RFC 6749, 5.2."""
    body: dict[str, Any] = {
        "code": code,
        "message": message,
        "detail": dict(detail) if detail else None,
        "request_id": request_id_of(request),
    }
    if because is not None:
        body["because"] = because
    if oauth_error is not None:
        body |= {"error": oauth_error, "error_description": message}
    return JSONResponse(body, status, headers=dict(headers or {}))


def of_error(request: Request, error: PassbookError, *, oauth_error: str | None = None) -> JSONResponse:
    """The answer for one of our errors."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers: dict[str, str] = {}
    detail: dict[str, Any] = {}
    if isinstance(error, VersionRequired):
        status = 428
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after)
        detail = {"retry_after": error.retry_after, "limit": error.limit}
    elif status == 503:
        # Which server it is, and where, is nothing for a stranger.
        log.error("unavailable", problem=error.message)
        headers["Retry-After"] = str(_RETRY_AFTER)
        return answer(
            request,
            status,
            "unavailable",
            "The service cannot answer just now; try again soon.",
            headers=headers,
            oauth_error=oauth_error,
        )
    elif status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="passbook"'
    return answer(
        request,
        status,
        error.code,
        error.message,
        detail=detail,
        headers=headers,
        because=error.because if isinstance(error, NotAuthenticated) else None,
        oauth_error=oauth_error,
    )


def install(app: FastAPI) -> None:
    """Give every kind of error its answer."""

    @app.exception_handler(PassbookError)
    async def ours(request: Request, error: PassbookError) -> JSONResponse:
        return of_error(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            # Never the value itself: it may be a password; nor what stands where a member's name should.
            {"where": ".".join(_place(part) for part in one["loc"]), "problem": str(one["msg"])}
            for one in error.errors()
        ]
        return answer(request, 422, "invalid", "The request is not what this takes.", detail={"problems": problems})

    @app.exception_handler(DataError)
    @app.exception_handler(UnicodeError)
    async def unstorable(request: Request, error: Exception) -> JSONResponse:
        return answer(request, 422, "invalid", "The request has characters or numbers that cannot be kept.")

    @app.exception_handler(HTTPException)
    async def simple(request: Request, error: HTTPException) -> JSONResponse:
        return of_status(request, error)


def of_status(request: Request, error: HTTPException) -> JSONResponse:
    """The answer for an error that is no more than its status."""
    code, message = _SIMPLE.get(error.status_code, ("error", HTTPStatus(error.status_code).phrase))
    return answer(request, error.status_code, code, message, headers=error.headers)


def _place(part: int | str) -> str:
    return str(part) if isinstance(part, int) or _MEMBER.fullmatch(part) else "?"


def internal(request: Request) -> JSONResponse:
    """The answer when we have a defect."""
    code, message = _SIMPLE[500]
    return answer(request, 500, code, message)
