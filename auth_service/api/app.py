"""The auth service as a FastAPI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio.to_thread
import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from auth_service import approvals as waiting
from auth_service import bounds, devices, sessions
from auth_service.api import envelope
from auth_service.api.middleware import Surroundings
from auth_service.api.routes import (
    activation,
    administrators,
    approvals,
    audit,
    health,
    mine,
    oauth,
    people,
    scopes,
    tenant,
)
from auth_service.api.routes import devices as device_routes
from auth_service.service import Service
from auth_service.tokens import ADMINISTRATORS, PEOPLE
from passbook import __version__
from passbook.audit import chain
from passbook.origins import Origins

log = structlog.get_logger()

_ADMINISTRATION = (people, scopes, device_routes, tenant, administrators, approvals, audit)
#: Threads for requests; as many connections to the service database, so that none waits for one.
THREADS = 20
_SWEEP_EVERY = 600.0  # seconds
_DESCRIPTION = """People and administrators sign in at different doors, with different tokens; a token of one door
is refused at the other. Every error is `{code, message, detail, request_id}`."""


def build(service: Service) -> FastAPI:
    """The application, with the routes of the service's parts."""
    app = FastAPI(
        title="Passbook auth service",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        # The interactive pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    envelope.install(app)
    app.include_router(health.routes)
    if "people" in service.parts:
        app.include_router(oauth.router(PEOPLE))
        app.include_router(oauth.simple)
        app.include_router(activation.router(PEOPLE))
        app.include_router(mine.routes)
    if "administration" in service.parts:
        app.include_router(oauth.router(ADMINISTRATORS))
        app.include_router(activation.router(ADMINISTRATORS))
        for module in _ADMINISTRATION:
            app.include_router(module.routes)
    if service.settings.browser_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.browser_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-Match",
                "Installation-Key",
                "X-Request-Id",
            ],
            expose_headers=["ETag", "Retry-After", "X-Request-Id"],
            max_age=600,
        )
    origins = Origins(service.settings.browser_origins, own=[service.settings.auth_url])
    app.add_middleware(Surroundings, metrics=service.metrics, origins=origins)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    sweeping = asyncio.create_task(_sweep(service))
    try:
        yield
    finally:
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
        service.hashing.close()


async def _sweep(service: Service) -> None:
    """Now and then: throw away what has had its day, and say where the audit log stands."""
    anchor = None
    while True:
        try:
            anchor = await asyncio.to_thread(_sweep_once, service, anchor)
        except Exception as error:
            # It comes again; the database may be away for a while.
            log.warning("sweep not finished", problem=type(error).__name__)
        await asyncio.sleep(_SWEEP_EVERY)


def _sweep_once(service: Service, told: chain.Head | None) -> chain.Head | None:
    """Sweep; the head of the audit log, which is told unless it was before or this is the first time."""
    with service.database.begin() as connection:
        devices.sweep(connection, service.device_terms)
        sessions.sweep(connection)
        if "administration" in service.parts:
            bounds.sweep(connection)
            waiting.sweep(connection)
        service.limits.sweep(connection)
        chain.tell_repeats(connection)
        head = chain.head(connection)
    if told is not None and head != told:
        # Kept in a log on another machine, an anchor proves later that the audit log was not made anew. A warning,
        # so that it is there however little is logged.
        log.warning("audit anchor", anchor=str(head))
    return head
