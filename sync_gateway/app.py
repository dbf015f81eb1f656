"""The gateway as an aiohttp application, built from its parts, and a way to serve it."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from passbook.errors import PortBusy, Refused
from sync_gateway import bodies, routes
from sync_gateway.answers import Problem, answer, not_found, unavailable
from sync_gateway.credentials import SEEN_EVERY, Credentials, Principal
from sync_gateway.feeds import Feeds
from sync_gateway.hub import Hub
from sync_gateway.open_requests import OpenRequests
from sync_gateway.proxy import ROUTE, Upstream
from sync_gateway.routes import Action

SHUTDOWN_WITHIN = 5.0  # seconds that requests other than feeds have to finish
#: Where a device says that it has thrown its copy away.
RECEIPT = "/wiped"
DEVICE = web.RequestKey("device", str)

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """Authenticates, matches, answers. One instance serves all requests of one process."""

    def __init__(self, credentials: Credentials, upstream: Upstream, parts: Parts) -> None:
        self._credentials = credentials
        self._upstream = upstream
        self._requests = parts.requests
        self._feeds = Feeds(upstream, parts.hub)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The answer to any request."""
        started = time.monotonic()
        try:
            response = await self._respond(request)
        except Problem as problem:
            response = problem.response()
        except Exception:
            log.exception("request_failed", route=request.get(ROUTE))
            response = unavailable().response()
        log.info(
            "request",
            method=request.method,
            route=request.get(ROUTE),
            device=request.get(DEVICE),
            status=response.status,
            seconds=round(time.monotonic() - started, 3),
        )
        return response

    async def close_feeds(self, _: web.Application) -> None:
        """Break off everything that would never end by itself."""
        self._requests.cut(self._requests.devices(), "shutdown")

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and request.raw_path == RECEIPT:
            # From a device that is revoked, and so gets nowhere else.
            receipt = await bodies.RECEIPT.read(request)
            await self._credentials.confirm(request.headers.getall("Authorization", []), receipt.order)
            return answer({"ok": True})
        # First of all, so that nobody learns anything, not even which paths exist.
        principal = await self._credentials.principal(request.headers.getall("Authorization", []))
        request[DEVICE] = principal.device_id
        match = routes.match(request.method, request.raw_path)
        if match is None:
            raise not_found()
        request[ROUTE] = match.route.name
        feed = match.query.get("feed", "") if match.live else ""
        with self._requests.entered(principal, request, feed):
            return await self._answer(request, match, principal)

    async def _answer(self, request: web.Request, match: routes.Match, principal: Principal) -> web.StreamResponse:
        if match.route.action is Action.WELCOME:
            return answer({"couchdb": "Welcome", "version": "3.5.0", "vendor": {"name": "Passbook"}})
        if not principal.database_ready:
            raise unavailable("The database is being prepared.", code="not_ready")
        body: Any = None if match.route.body is None else await match.route.body.read(request)
        if match.route.action is Action.INFO:
            return await self._upstream.info(principal)
        if match.route.action is Action.COMMITTED:
            return answer({"ok": True, "instance_start_time": "0"}, status=201)
        if match.route.action is Action.REFUSE_WRITES:
            return _refused_writes(body.docs)
        if principal.unseen and match.route.name == "changes":
            await self._credentials.seen(principal.device_id)
        if match.live:
            return await self._feeds.serve(request, match, principal, body, _Seen(self._credentials, principal))
        return await self._upstream.forward(request, match, principal, body)


@dataclass(frozen=True)
class Parts:
    """What a gateway's requests share, and those who watch over them."""

    requests: OpenRequests
    hub: Hub

    @classmethod
    def new(cls) -> Parts:
        return cls(OpenRequests(), Hub())


class _Seen:
    """Notes now and then that the device of an open feed is there: it took a heartbeat."""

    def __init__(self, credentials: Credentials, principal: Principal) -> None:
        self._credentials = credentials
        self._device = principal.device_id
        self._noted_at = time.monotonic()

    async def __call__(self) -> None:
        if time.monotonic() - self._noted_at > SEEN_EVERY.total_seconds():
            self._noted_at = time.monotonic()
            await self._credentials.seen(self._device)


def _refused_writes(documents: list[dict[str, Any]]) -> web.Response:
    """As CouchDB answers documents that its validation does not let in: each by itself, the whole with 201."""
    return answer(
        [
            {
                "id": document.get("_id"),
                "error": "forbidden",
                "reason": "This database is read-only for devices.",
            }
            for document in documents
        ],
        status=201,
    )


def build(credentials: Credentials, upstream: Upstream, parts: Parts | None = None) -> web.Application:
    """The application. `upstream` is opened and closed with it; `credentials` stay the caller's."""
    gateway = Gateway(credentials, upstream, parts or Parts.new())

    @web.middleware
    async def everything(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await gateway.handle(request)  # whatever the path: there are no routes of aiohttp's

    application = web.Application(middlewares=[everything])

    async def connected(_: web.Application) -> AsyncIterator[None]:
        await upstream.open()
        yield
        await upstream.close()

    application.cleanup_ctx.append(connected)
    application.on_shutdown.append(gateway.close_feeds)
    return application


def _http_logger() -> logging.Logger:
    """aiohttp's own log, without the stack trace it writes for everything that is not HTTP."""

    def ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    logger = logging.getLogger("sync_gateway.http")
    logger.filters = [ours]
    return logger


@contextlib.asynccontextmanager
async def serving(application: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve until this ends; gives the port. Raises `PortBusy` if it is taken."""
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_http_logger(),
        handler_cancellation=True,  # a device that hangs up ends its feed at CouchDB as well
        shutdown_timeout=SHUTDOWN_WITHIN,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise _cannot_listen(host, port, error) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _cannot_listen(host: str, port: int, error: OSError) -> PortBusy | Refused:
    remedy = "Choose another with --host and --port, or PASSBOOK_GATEWAY_HOST and PASSBOOK_GATEWAY_PORT."
    if error.errno == errno.EADDRINUSE:
        return PortBusy(f"Port {port} on {host} is taken by another program.", remedy=remedy)
    return Refused(f"The gateway cannot listen on {host}:{port}: {error.strerror}.", remedy=remedy)
