"""Metrics and health, on a listener of their own that devices never reach."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
from aiohttp import web

from passbook.addresses import without_credentials
from sync_gateway.answers import COMMON_HEADERS, Problem, answer, not_found
from sync_gateway.credentials import Credentials, DatabaseCredentials
from sync_gateway.limits import Bounds, Limits
from sync_gateway.metrics import Metrics
from sync_gateway.proxy import Upstream
from sync_gateway.serving import LIMITS

READY_WITHIN = 3.0  # seconds
CONNECTIONS = 50  # most at a time
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: What a proxy adds.
_FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")

#: Raises `Problem` or `TimeoutError`, or gives False, or the reason in words, when something is missing.
Check = Callable[[], Awaitable[bool | str]]


def service_database(credentials: Credentials) -> Check:
    """Whether the service database answers."""

    async def check() -> bool | str:
        await credentials.standing(["nobody"])
        return True

    return check


def couchdb(url: str) -> Check:
    """Whether CouchDB answers and is not in maintenance (of which its `/_up` says 404)."""
    up = without_credentials(url).rstrip("/") + "/_up"

    async def check() -> bool | str:
        try:
            async with aiohttp.ClientSession() as session, session.get(up, allow_redirects=False) as response:
                return response.status in (200, 401)  # 401: it wants a name from everybody
        except aiohttp.ClientError:
            return False

    return check


def reading(credentials: DatabaseCredentials, upstream: Upstream) -> Check:
    """Whether CouchDB answers what a device asks: a signed token, and a read as one of the people."""

    async def check() -> bool | str:
        return await upstream.failing(await credentials.anybody()) or True

    return check


def build(metrics: Metrics, checks: Mapping[str, Check], *, token: str = "") -> web.Application:
    """The application; with `token`, whoever asks for the metrics has to send it."""

    async def live(_: web.Request) -> web.Response:
        return answer({"ok": True})

    async def ready(_: web.Request) -> web.Response:
        results = await asyncio.gather(*(_passes(check) for check in checks.values()))
        missing = {name: good for name, good in zip(checks, results, strict=True) if good is not True}
        reasons = {name: reason for name, reason in missing.items() if reason}
        said = {"ok": not missing, "missing": list(missing), **({"reasons": reasons} if reasons else {})}
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


async def _passes(check: Check) -> bool | str:
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
