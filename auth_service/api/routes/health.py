"""Whether the service lives, whether it can work, and what it has done."""

from __future__ import annotations

import asyncio
import secrets

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy import text

from auth_service.api import envelope
from auth_service.api.doors import TheService
from auth_service.service import Service
from passbook.errors import NotPermitted, PassbookError

routes = APIRouter(tags=["health"])
_READY_WITHIN = 3.0  # seconds


class Health(BaseModel):
    """`ok`, or what is missing."""

    ok: bool
    missing: list[str] = []


@routes.get("/health/live")
async def live() -> Health:
    """The process lives."""
    return Health(ok=True)


@routes.get("/health/ready", responses={503: {"model": Health, "description": "Something is missing."}})
async def ready(service: TheService, response: Response) -> Health:
    """The process can do its work: 200, or 503 with what is missing."""
    try:
        async with asyncio.timeout(_READY_WITHIN):
            missing = await asyncio.to_thread(_missing, service)
    except TimeoutError:
        missing = ["service database: does not answer in time"]
    if missing:
        response.status_code = 503
    return Health(ok=not missing, missing=missing)


def _missing(service: Service) -> list[str]:
    try:
        with service.database.begin() as connection:
            connection.execute(text("SELECT 1"))
        service.database.require_migrated()
    except PassbookError as error:
        return [f"service database: {error.code}"]
    try:
        service.keyring.signing()
    except PassbookError as error:
        return [f"signing key: {error.code}"]
    return []


@routes.get("/metrics", response_class=Response, responses=envelope.documented(403))
async def metrics(request: Request, service: TheService) -> Response:
    """In Prometheus's text format, for whoever sends PASSBOOK_METRICS_TOKEN as a bearer token."""
    # A token always: with a proxy on this machine everybody comes from this machine.
    token = service.settings.metrics_token
    offered = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not token or not secrets.compare_digest(offered.encode(), token.encode()):
        raise NotPermitted("Metrics are for whoever has the token of PASSBOOK_METRICS_TOKEN.")
    service.metrics.hashing.set(service.hashing.running)
    service.metrics.hashing_waiting.set(service.hashing.line)
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
