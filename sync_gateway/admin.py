"""Metrics and health, on a listener of their own that devices never reach."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from passbook.addresses import without_credentials
from sync_gateway.answers import COMMON_HEADERS, Problem, answer, not_found
from sync_gateway.credentials import DatabaseCredentials, Principal
from sync_gateway.limits import Bounds, Limits
from sync_gateway.metrics import Metrics
from sync_gateway.proxy import Upstream
from sync_gateway.serving import LIMITS
from sync_gateway.watch import Watch

READY_WITHIN = 3.0  # seconds
#: Seconds for the service database while devices are served without it: balancers wait little longer.
_DISPENSABLE_WITHIN = 0.7
#: A gateway that finds no room for so many seconds has none; looked at so often.
_FULL_FOR = 0.5
_FULL_LOOKS = 5
CONNECTIONS = 50  # most at a time
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: What a proxy adds.
_FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")


@dataclass(frozen=True)
class Degraded:
    """Something is away, and devices are served all the same until then."""

    reason: str
    until: datetime

    def as_json(self) -> dict[str, Any]:
        until = self.until.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"until": until, "reason": self.reason}


#: What a check finds: all is well, or what is wrong in words (False where there are none).
Found = bool | str | Degraded
#: Raises `Problem` or `TimeoutError`, or tells, when something is missing.
Check = Callable[[], Awaitable[Found]]


def service_database(credentials: DatabaseCredentials) -> Check:
    """Whether the service database answers, or else how long devices are served without it."""

    async def check() -> Found:
        reason = "The service database does not answer."
        try:
            async with asyncio.timeout(_patience(credentials)):
                await credentials.standing(["nobody"])
                return True
        except (Problem, TimeoutError):
            until = credentials.served_until()
            return reason if until is None else Degraded(reason, until)

    return check


def notices(watch: Watch, grace: float) -> Check:
    """Whether notices come. Without them the tables are asked each second, which is good enough for a while."""

    async def check() -> Found:
        if watch.listening.is_set():
            return True
        left = -1.0 if watch.deaf_since is None else watch.deaf_since + grace - time.monotonic()
        reason = "The service database's notices do not come."
        return left > 0 and Degraded(reason, datetime.now(UTC) + timedelta(seconds=left))

    return check


def room(limits: Limits) -> Check:
    """Whether there is room for another request: not when all places are taken, and stay so."""

    async def check() -> Found:
        for _ in range(_FULL_LOOKS):
            if not (reason := limits.full()):
                return True
            await asyncio.sleep(_FULL_FOR / _FULL_LOOKS)
        return reason

    return check


def _patience(credentials: DatabaseCredentials) -> float:
    return READY_WITHIN if credentials.served_until() is None else _DISPENSABLE_WITHIN


def couchdb(url: str) -> Check:
    """Whether CouchDB answers and is not in maintenance (of which its `/_up` says 404)."""
    up = without_credentials(url).rstrip("/") + "/_up"

    async def check() -> Found:
        try:
            async with aiohttp.ClientSession() as session, session.get(up, allow_redirects=False) as response:
                return response.status in (200, 401)  # 401: it wants a name from everybody
        except aiohttp.ClientError:
            return False

    return check


def reading(credentials: DatabaseCredentials, upstream: Upstream) -> Check:
    """Whether CouchDB answers what a device asks: a signed token, and a read as one of the people."""
    people: Sequence[Principal] = ()  # as whom it was tried last

    async def check() -> Found:
        nonlocal people
        try:
            async with asyncio.timeout(_patience(credentials)):
                people = await credentials.anybody()
        except (Problem, TimeoutError):
            if credentials.served_until() is None:
                raise
        return await upstream.failing(people) or True

    return check


def build(metrics: Metrics, checks: Mapping[str, Check], *, token: str = "") -> web.Application:
    """The application; with `token`, whoever asks for the metrics has to send it."""

    async def live(_: web.Request) -> web.Response:
        return answer({"ok": True})

    async def ready(_: web.Request) -> web.Response:
        results = await asyncio.gather(*(_passes(check) for check in checks.values()))
        found = dict(zip(checks, results, strict=True))
        degraded = {name: one.as_json() for name, one in found.items() if isinstance(one, Degraded)}
        missing = {name: one for name, one in found.items() if one is not True and name not in degraded}
        reasons = {name: reason for name, reason in missing.items() if reason}
        said: dict[str, Any] = {"ok": not missing, "missing": list(missing)}
        said |= {"reasons": reasons} if reasons else {}
        said |= {"degraded": degraded} if degraded else {}
        return answer(said, status=503 if missing else 200)

    async def shown(request: web.Request) -> web.Response:
        offered = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not (secrets.compare_digest(offered.encode(), token.encode()) if token else _local(request)):
            return Problem(403, "forbidden", "Metrics are for this machine, or for who has the token.").response()
        return web.Response(body=metrics.text(), headers={**COMMON_HEADERS, "Content-Type": _CONTENT_TYPE})

    @web.middleware
    async def plain(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException:  # aiohttp's own for what is not here
            return not_found().response()

    application = web.Application(middlewares=[plain])
    application[LIMITS] = Limits(Bounds(connections=CONNECTIONS))
    application.router.add_get("/health/live", live)
    application.router.add_get("/health/ready", ready)
    application.router.add_get("/metrics", shown)
    return application


async def _passes(check: Check) -> Found:
    try:
        async with asyncio.timeout(READY_WITHIN):
            return await check()
    except (Problem, TimeoutError, OSError):
        return False


def _local(request: web.Request) -> bool:
    """Whether somebody on this machine asks, and for nobody else: not a proxy that says so."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
