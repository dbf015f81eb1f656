"""Answers that the gateway makes itself, all JSON, all of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

RETRY_AFTER = "5"  # seconds; what a device is told to wait when we, not it, have a problem
#: Why nothing that a device would write is taken.
READ_ONLY = "This copy is read-only for devices."

#: On every answer. Nothing a device reads may stay in a cache on the way or be taken for a page by a browser.
COMMON_HEADERS = {
    "Server": "Passbook",
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}

_BASIC = "Send the device's name and password as HTTP Basic with every request: there are no sessions here."
#: On answers to devices, where it is known: `checked_at` of the copy, found out before CouchDB was asked.
CHECKED_AT = "Passbook-Checked-At"

_REFUSALS = {
    "credentials_missing": _BASIC,
    "unknown": "Name or password is incorrect.",
    "revoked": "This device's access has been withdrawn.",
    "suspended": "This person's access is suspended.",
    "expired": "This device's credential has expired.",
    "maintenance": "The institution has switched access off for now; try again later.",
}


class Problem(Exception):
    """A request that is answered with an error.

    `error` and `reason` are CouchDB's words, for clients that know CouchDB; `code` and `message` are ours.
    """

    def __init__(
        self,
        status: int,
        error: str,
        reason: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, str] | None = None,
        rule: str = "",
    ) -> None:
        super().__init__(reason)
        #: Further members of the answer.
        self.more = dict(more or {})
        self.status = status
        self.error = error
        self.reason = reason
        self.code = code or error
        self.headers = dict(headers or {})
        #: What it is counted as in the metrics: the limit that was reached, else the code.
        self.rule = rule or self.code

    def response(self) -> web.Response:
        body = {"code": self.code, "message": self.reason, "error": self.error, "reason": self.reason}
        body |= self.more
        return answer(body, status=self.status, headers=self.headers)


def not_found() -> Problem:
    """The one answer to everything that is not on the list, whether CouchDB knows it or not."""
    return Problem(404, "not_found", "missing")


def read_only() -> Problem:
    """The one answer to everything that would write, as CouchDB answers who may not."""
    return Problem(403, "forbidden", READ_ONLY, code="read_only")


def no_sessions() -> Problem:
    """To a device that asks for a session. With this status CouchDB's replicator goes on with Basic."""
    return Problem(404, "not_found", _BASIC, code="no_sessions")


def unauthorized(code: str, *, because: str | None = None, wipe: str | None = None) -> Problem:
    """A credential that does not admit, or none. `code` is `unknown` unless the secret was right.

    `because` says why it was revoked; `wipe` is a signed order to the device to throw its copy away.
    """
    more = {"because": because, "wipe": wipe}
    # Not the scheme Basic: with it a browser would ask the person for a name and a password.
    return Problem(
        401,
        "unauthorized",
        _REFUSALS[code],
        code=code,
        headers={"WWW-Authenticate": 'Passbook realm="passbook"'},
        more={name: value for name, value in more.items() if value is not None},
    )


def unavailable(reason: str = "Try again later.", code: str = "unavailable") -> Problem:
    """Something of ours is not well. Never to be taken for a refusal of the device."""
    return Problem(503, "service_unavailable", reason, code=code, headers={"Retry-After": RETRY_AFTER})


def busy(rule: str) -> Problem:
    """All of us have too much to do."""
    return Problem(
        503,
        "service_unavailable",
        "Too many devices at once; try again later.",
        code="busy",
        headers={"Retry-After": RETRY_AFTER},
        rule=f"busy_{rule}",
    )


def too_many(rule: str, seconds: int = int(RETRY_AFTER)) -> Problem:
    """This device, or its person, asks for more than its share."""
    return Problem(
        429,
        "too_many_requests",
        "This device asks for too much at once; try again later.",
        headers={"Retry-After": str(seconds)},
        rule=f"too_many_{rule}",
    )


def bad_request(reason: str) -> Problem:
    return Problem(400, "bad_request", reason)


def too_large() -> Problem:
    return Problem(413, "too_large", "The request body is too large.")


def encoded() -> Problem:
    """A body in a coding that is not taken. `error` is CouchDB's word for it."""
    return Problem(
        415,
        "bad_content_type",
        "Request bodies are taken as they are, or as gzip; send this one so.",
        code="unsupported_encoding",
        headers={"Accept-Encoding": "gzip, identity"},
    )


def answer(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A complete JSON answer."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body) + b"\n",
        content_type="application/json",
        headers={**COMMON_HEADERS, **(headers or {})},
    )
