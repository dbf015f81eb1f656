"""The gateway as an aiohttp application, built from its parts, and a way to serve it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import HttpVersion11, web

from passbook.freshness import in_words
from passbook.origins import Origins
from passbook.settings import Settings
from sync_gateway import bodies, compress, routes, selectors, writes
from sync_gateway.answers import (
    CHECKED_AT,
    Problem,
    answer,
    encoded,
    no_sessions,
    not_found,
    read_only,
    unavailable,
)
from sync_gateway.checkpoints import Checkpoints
from sync_gateway.cors import Cors
from sync_gateway.credentials import Credentials, Principal
from sync_gateway.feeds import Feeds
from sync_gateway.hub import Hub
from sync_gateway.limits import Bounds, Limits, Ticket
from sync_gateway.metrics import Metrics, Reading
from sync_gateway.open_requests import OpenRequests
from sync_gateway.proxy import ROUTE, Upstream
from sync_gateway.routes import Action
from sync_gateway.serving import DRAIN_WITHIN, LIMITS, serving
from sync_gateway.sightings import Sightings

__all__ = ["Gateway", "Parts", "build", "serving"]

#: Where a device says that it has thrown its copy away.
RECEIPT = "/wiped"
#: Where clients that know nothing else ask for a cookie.
SESSION = ("POST", "/_session")
DEVICE = web.RequestKey("device", str)
FEED = web.RequestKey("feed", str)
#: `checked_at` of the copy that is read.
FRESHNESS = web.RequestKey("freshness", str)
#: What a request is counted as whose device hung up, or was cut off, before it was answered.
HUNG_UP = 499
COME_LATER = (429, 503)

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """Authenticates, matches, answers. One instance serves all requests of one process."""

    def __init__(self, credentials: Credentials, upstream: Upstream, parts: Parts) -> None:
        self._credentials = credentials
        self._upstream = upstream
        self._parts = parts
        self._requests = parts.requests
        self._feeds = Feeds(upstream, parts.hub)
        self._looking: set[asyncio.Task[Principal]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The answer to any request."""
        started = time.monotonic()
        status = HUNG_UP
        try:
            response = await self._admitted(request)
            status = response.status
        except Problem as problem:
            self._parts.metrics.refused(problem.rule)
            response = problem.response()
            status = problem.status
            if DEVICE not in request:
                # A stranger has no business with a second request: a thousand of them, sent at once and their
                # answers never read, would keep a connection for as long as the system waits.
                response.force_close()
            if status in COME_LATER:
                await asyncio.sleep(self._parts.limits.pause(request.headers.getall("Authorization", [])))
        except Exception:
            log.exception("request_failed", route=request.get(ROUTE))
            response = unavailable().response()
            status = response.status
        finally:
            self._note(request, status, time.monotonic() - started)
        return response

    def _note(self, request: web.Request, status: int, seconds: float) -> None:
        route, feed = request.get(ROUTE), request.get(FEED)
        self._parts.metrics.request(route, request.method, status, None if feed else seconds)
        log.info(
            "request",
            method=request.method,
            route=route,
            device=request.get(DEVICE),
            status=status,
            seconds=round(seconds, 3),
        )

    async def drain(self, _: web.Application) -> None:
        """Let what is being answered come to its end, for a while.

        Long polls end at once, with the place they have come to: whoever waits asks the next gateway. A continuous
        feed has no such end, and is broken off.
        """
        self._requests.cut(self._requests.devices(), "shutdown", feed="continuous")
        self._parts.hub.close()
        if not await self._requests.ended(DRAIN_WITHIN):
            self._requests.cut(self._requests.devices(), "shutdown")

    async def _admitted(self, request: web.Request) -> web.StreamResponse:
        preflight = self._parts.cors.preflight(request)
        if preflight is not None:
            return preflight
        if compress.coding(request) not in _TAKEN:
            raise encoded()  # whoever asks, and unread
        authorization = request.headers.getall("Authorization", [])
        limits = self._parts.limits
        async with limits.turn(request, authorization):
            with limits.entered(request) as ticket:
                return await self._respond(request, authorization, ticket)

    async def _respond(self, request: web.Request, authorization: list[str], ticket: Ticket) -> web.StreamResponse:
        if request.method == "POST" and request.raw_path == RECEIPT:
            return await self._receipt(request, authorization)
        # First of all, so that nobody learns anything, not even which paths exist.
        told = self._requests.told
        principal = await self._principal(authorization)
        request[DEVICE] = principal.device_id
        ticket.identify(principal)
        match = routes.match(request.method, request.raw_path)
        if match is None:
            if routes.would_write(request.method, request.raw_path):
                request[ROUTE] = "write"
                raise read_only()  # unread
            raise no_sessions() if (request.method, request.raw_path) == SESSION else not_found()
        request[ROUTE] = match.route.name
        feed = match.query.get("feed", "") if match.live else ""
        async with ticket.person_turn() as waited:
            if feed:
                request[FEED] = feed
                ticket.becomes_feed()
            with self._requests.entered(principal, request, feed):
                if waited or self._requests.told != told:
                    # Access may have changed since we asked, too early to find this request among the open ones.
                    principal = await self._principal(authorization)
                return await self._answer(request, match, principal, ticket)

    async def _receipt(self, request: web.Request, authorization: list[str]) -> web.StreamResponse:
        """From a device that is revoked, and so gets nowhere else. Nothing of anybody else's is read."""
        with self._parts.limits.asking(authorization):
            device = await self._credentials.ordered(authorization)
        with self._parts.limits.receiving(device):
            receipt = await bodies.RECEIPT.read(request)
            with self._parts.limits.asking(authorization):
                await self._credentials.confirm(authorization, receipt.order)
        return answer({"ok": True})

    async def _principal(self, authorization: list[str]) -> Principal:
        # A task of its own: whoever hangs up has asked all the same, and counts until the answer is there.
        looking = asyncio.create_task(self._looked_up(authorization))
        self._looking.add(looking)
        looking.add_done_callback(self._looked)
        return await asyncio.shield(looking)

    def _looked(self, looking: asyncio.Task[Principal]) -> None:
        self._looking.discard(looking)
        if not looking.cancelled():
            looking.exception()  # nobody may be there any more to hear of it

    async def _looked_up(self, authorization: list[str]) -> Principal:
        with self._parts.limits.asking(authorization):
            return await self._credentials.principal(authorization)

    async def _answer(
        self, request: web.Request, match: routes.Match, principal: Principal, ticket: Ticket
    ) -> web.StreamResponse:
        if match.route.action is Action.WELCOME:
            return answer({"couchdb": "Welcome", "version": "3.5.0", "vendor": {"name": "Passbook"}})
        if not principal.database_ready:
            raise unavailable("The database is being prepared.", code="not_ready")
        if principal.checked_at is not None:
            request[FRESHNESS] = in_words(principal.checked_at)
        body: Any = None if match.route.body is None else await match.route.body.read(request, ticket.decode)
        if match.route.name == "changes":
            body = selectors.applied(match.query.get("filter", ""), body)
        if match.route.action is Action.INFO:
            return await self._upstream.info(principal)
        if match.route.action is Action.COMMITTED:
            return answer({"ok": True, "instance_start_time": "0"}, status=201)
        if match.route.action is Action.REFUSE_WRITES:
            return answer(writes.answers(body.docs), status=201)
        if match.route.action is Action.CHECKPOINT:
            return await self._checkpoint(request, match, principal, body)
        if match.route.name == "changes":
            self._parts.note(principal)
            if principal.unseen:
                await self._credentials.seen(principal.device_id)
        if match.live:
            return await self._feeds.serve(request, match, principal, body, lambda: self._parts.note(principal))
        return await self._upstream.forward(request, match, principal, body)

    async def _checkpoint(
        self, request: web.Request, match: routes.Match, principal: Principal, body: dict[str, Any]
    ) -> web.StreamResponse:
        checkpoints = self._parts.checkpoints
        # CouchDB's replicator sends it beside `_rev`, which is enough; a bad one would be a 500.
        body.pop("_revisions", None)
        if checkpoints is None:
            return await self._upstream.forward(request, match, principal, body)
        async with checkpoints.admitted(principal, match.segments[-1], self._forget):
            response = await self._upstream.forward(request, match, principal, body)
        position = checkpoints.position(principal.device_id, body.get("last_seq"))
        self._parts.note(principal)
        if principal.unseen:
            await self._credentials.seen(principal.device_id, position)
        return response

    async def _forget(self, principal: Principal, checkpoint: str) -> None:
        """Remove the document of a checkpoint, whatever is in it."""
        match = routes.Match(routes.FORGOTTEN, (routes.DATABASE, "_local", checkpoint))
        async with self._upstream.asked("DELETE", match, principal, None):
            pass


@dataclass(frozen=True)
class Parts:
    """What a gateway's requests share, and those who watch over them."""

    requests: OpenRequests = field(default_factory=OpenRequests)
    hub: Hub = field(default_factory=Hub)
    limits: Limits = field(default_factory=Limits)
    cors: Cors = field(default_factory=Cors)
    metrics: Metrics = field(default_factory=Metrics)
    #: Without them devices may keep as many checkpoints as they like.
    checkpoints: Checkpoints | None = None
    #: Without them it is seldom noted that a device synchronises.
    sightings: Sightings | None = None

    def note(self, principal: Principal) -> None:
        """A device synchronises: it asks for changes, takes a heartbeat, or says how far it has come."""
        if self.sightings is not None:
            self.sightings.note(principal.device_id)

    @classmethod
    def new(
        cls,
        settings: Settings | None = None,
        checkpoints: Checkpoints | None = None,
        sightings: Sightings | None = None,
    ) -> Parts:
        """The parts of one gateway, with these settings or the usual ones."""
        parts = (
            cls(checkpoints=checkpoints, sightings=sightings)
            if settings is None
            else cls(
                limits=Limits(Bounds.of(settings)),
                cors=Cors(Origins(settings.browser_origins, own=[settings.public_url])),
                checkpoints=checkpoints,
                sightings=sightings,
            )
        )
        parts.limits.sent = parts.metrics.sent
        parts.metrics.show(*_readings(parts))
        return parts


def _readings(parts: Parts) -> tuple[Reading, ...]:
    requests, hub, limits = parts.requests, parts.hub, parts.limits
    return (
        Reading("feeds", "Live feeds that are open, by kind.", lambda: dict(requests.feeds), label="kind"),
        Reading("open_requests", "Requests being answered, live feeds aside.", lambda: limits.requests),
        Reading(
            "waiting_requests",
            "Requests that wait for their turn, by whose other requests they wait for.",
            lambda: {"device": limits.devices_queues.waiting, "person": limits.persons_queues.waiting},
            label="of",
        ),
        Reading(
            "waited_requests",
            "Requests that had to wait for their turn, by whose other requests they waited for.",
            lambda: {"device": limits.devices_queues.waited, "person": limits.persons_queues.waited},
            True,
            "of",
        ),
        Reading("connections", "Connections of devices.", lambda: limits.connections()),
        Reading("connections_limit", "Most connections there may be.", lambda: limits.bounds.connections),
        Reading(
            "connections_dropped",
            "Connections that were closed or not taken because there was nothing to answer, by reason.",
            lambda: dict(limits.dropped()),
            True,
            "reason",
        ),
        Reading(
            "decoding_seconds",
            "Processor time that decoding request bodies took.",
            lambda: limits.turns.seconds,
            total=True,
        ),
        Reading("wakes", "Live feeds that were woken by a change.", lambda: hub.wakes, total=True),
        Reading(
            "cuts", "Open requests that were broken off, by reason.", lambda: dict(requests.cuts), True, "reason"
        ),
    )


#: How a body may be sent; gzip, which some clients of CouchDB use unasked, is unpacked for devices alone.
_TAKEN = ("", compress.GZIP)


async def _continue(request: web.Request) -> None:
    """Let a device go on that waits for leave to send its body; ask for nothing else that it may expect."""
    if compress.coding(request) not in _TAKEN:
        return  # it is refused: nothing of it need be sent
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def _tell_freshness(request: web.Request, response: web.StreamResponse) -> None:
    """Say up to when the copy is complete; not with an error, which is no answer from the copy."""
    told = request.get(FRESHNESS)
    if told is not None and response.status < HTTPStatus.BAD_REQUEST:
        response.headers[CHECKED_AT] = told


def build(credentials: Credentials, upstream: Upstream, parts: Parts | None = None) -> web.Application:
    """The application. `upstream` is opened and closed with it; `credentials` stay the caller's."""
    parts = parts or Parts.new()
    gateway = Gateway(credentials, upstream, parts)

    @web.middleware
    async def everything(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await gateway.handle(request)  # whatever the path: there are no routes of aiohttp's

    application = web.Application(middlewares=[everything])
    # Only for requests with an `Expect`, which aiohttp looks at before any middleware, and answers by itself.
    application.router.add_route("*", "/{path:.*}", gateway.handle, expect_handler=_continue)

    async def connected(_: web.Application) -> AsyncIterator[None]:
        await upstream.open()
        yield
        await upstream.close()

    couchdb = Reading(
        "couchdb_answers", "Answers of CouchDB, by status.", lambda: dict(upstream.answers), True, "status"
    )
    parts.metrics.show(couchdb)
    application[LIMITS] = parts.limits
    application.on_response_prepare.append(parts.cors.prepare)
    application.on_response_prepare.append(_tell_freshness)
    application.cleanup_ctx.append(connected)
    application.on_shutdown.append(gateway.drain)
    return application
