"""What surrounds every request: its id, its size limit, its line in the log, its place in the metrics."""

from __future__ import annotations

import re
import time
import traceback
from typing import Any

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth_service.api import envelope
from auth_service.metrics import Metrics
from passbook.credentials import new_id
from passbook.origins import Origins

log = structlog.get_logger()

#: A request id that came from outside is taken over if it can do no harm in a log.
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
LARGEST_BODY = 64 * 1024
_FRAMES = 12

#: On every answer: nothing of it may stay in a cache on the way, or be taken for a page by a browser.
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class _Untaken(HTTPException):
    """A body that is not taken. Of this kind, because FastAPI makes a 400 of any other that comes while reading."""


def _too_large() -> _Untaken:
    return _Untaken(413, headers={"Connection": "close"})


def _encoded() -> _Untaken:
    return _Untaken(415, headers={"Accept-Encoding": "identity"})


class Surroundings:
    """The outermost layer. A defect of ours ends here, as an answer of the usual shape."""

    def __init__(self, app: ASGIApp, metrics: Metrics, origins: Origins) -> None:
        self._app = app
        self._metrics = metrics
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope)
        self._origins.note(given.get("origin", ""), given.get("host", ""))
        offered = given.get("x-request-id", "")
        request_id = offered if _GOOD_ID.fullmatch(offered) else new_id("request")
        scope.setdefault("state", {})["request_id"] = request_id
        started, status, size = time.monotonic(), 0, 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > LARGEST_BODY:
                raise _too_large()
            return message

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            _check_body(Headers(scope=scope))
            await self._app(scope, limited, marked)
        except _Untaken as error:
            if status:
                raise
            await envelope.of_status(Request(scope), error)(scope, receive, marked)
        except Exception as error:
            log.error(
                "request failed",
                request_id=request_id,
                route=_route(scope),
                error=type(error).__name__,
                where=_where(error),
            )
            if status:
                raise  # the answer has begun: the connection must break, or it would look complete
            await envelope.internal(Request(scope))(scope, receive, marked)
        finally:
            seconds = time.monotonic() - started
            self._metrics.request(_route(scope), scope["method"], status, seconds)
            log.info(
                "request",
                request_id=request_id,
                method=scope["method"],
                route=_route(scope),
                status=status,
                seconds=round(seconds, 4),
            )


def _check_body(headers: Headers) -> None:
    """Raise what a body gets that is not even looked at: one that is too large, or would have to be unpacked."""
    codings = ",".join(headers.getlist("content-encoding")).split(",")
    if any(coding.strip().lower() not in ("", "identity") for coding in codings):
        raise _encoded()
    declared = headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > LARGEST_BODY:
        raise _too_large()


def _where(error: Exception) -> list[str]:
    """Where it happened. What it says is left out: messages of libraries have values in them, maybe a password."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-_FRAMES:]]


def _route(scope: Scope) -> str:
    """The route's template: ids in a path are many, and tell who was looked at."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", "other"))
