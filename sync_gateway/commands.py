"""`passbook gateway`: serve devices until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator
from typing import Annotated

import structlog
import typer

from passbook import couch_access, listening
from passbook.context import opened, service_database
from passbook.errors import OlderDatabase, Refused
from passbook.output import Json, print_facts, print_json
from passbook.settings import Settings
from passbook.witness import keeper
from sync_gateway import admin
from sync_gateway import app as application
from sync_gateway.checkpoints import Checkpoints
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.proxy import Upstream
from sync_gateway.routes import DATABASE
from sync_gateway.serving import serving
from sync_gateway.sightings import Sightings
from sync_gateway.watch import Watch

log = structlog.get_logger()

#: Open files besides the connections of devices: to CouchDB (100) and the service database (26), of those who look
#: at the metrics, and the process's own.
FILES_ASIDE = 200 + admin.CONNECTIONS

app = typer.Typer(help="Serve devices: the only door from the internet to CouchDB.")


@app.callback(invoke_without_command=True)
def gateway(
    context: typer.Context,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on.", envvar="PASSBOOK_GATEWAY_HOST", show_envvar=True),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0 takes any.", envvar="PASSBOOK_GATEWAY_PORT", min=0, max=65535),
    ] = None,
) -> None:
    """Serve devices until told to stop (SIGTERM or Ctrl-C)."""
    if context.invoked_subcommand is not None:
        return
    settings = Settings.load()
    settings = dataclasses.replace(
        settings,
        gateway_host=settings.gateway_host if host is None else host,
        gateway_port=settings.gateway_port if port is None else port,
    )
    with opened(settings, couchdb=True, servicedb=True) as outside:
        with service_database(outside, compared=False, processes=("gateway",)) as database:
            # It is there, of this release and not an older one, or the command says what to do.
            asyncio.run(keeper.require(database, outside.couchdb_url, connect_seconds=settings.connect_seconds))
        asyncio.run(serve(settings, outside.service_url, outside.couchdb_url))


@app.command("rotate-key")
def rotate_key(
    overlap: Annotated[
        float, typer.Option(help="Seconds that the old key stays good; 0 if it was stolen.", min=0)
    ] = 3 * couch_access.LOOK_EVERY,
    as_json: Json = False,
) -> None:
    """Sign what gateways send to CouchDB with a new key from now on. No device notices, and none is logged out."""
    settings = Settings.load()
    if settings.couchdb_jwt_key:
        raise Refused(
            "The key is given by PASSBOOK_COUCHDB_JWT_KEY.",
            remedy='docs/operators.md, "CouchDB", says how to change it without an interruption.',
        )
    with opened(settings, couchdb=True) as outside:
        done = asyncio.run(
            couch_access.rotate(outside.couchdb_url, connect_seconds=settings.connect_seconds, overlap=overlap)
        )
    (print_json if as_json else print_facts)(done)


async def serve(settings: Settings, service_url: str, couchdb_url: str) -> None:
    """Serve until SIGTERM or SIGINT. Raises `OlderDatabase` if one was put in the place of the service database."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    access, how = await couch_access.prepare(
        couchdb_url, connect_seconds=settings.connect_seconds, key=settings.couchdb_jwt_key
    )
    log.info("couchdb_access", how=how)
    credentials = DatabaseCredentials.at(
        service_url, device_days=settings.device_days, grace=settings.gateway_grace_seconds
    )
    checkpoints = Checkpoints.at(service_url, most=settings.gateway_device_checkpoints)
    checkpoints.outage = credentials.outage
    sightings = Sightings(credentials.engine, credentials.outage, device_days=settings.device_days)
    parts = application.Parts.new(with_room(settings), checkpoints, sightings)
    watch = Watch(service_url, credentials, parts.requests, parts.hub)
    try:
        upstream = Upstream(couchdb_url, access)
        built = application.build(credentials, upstream, parts)
        async with (
            watch.watching(),
            checkpoints.writing_positions(),
            sightings.writing(),
            _administration(settings, couchdb_url, credentials, upstream, watch, parts),
            application.serving(built, settings.gateway_host, settings.gateway_port) as port,
        ):
            typer.echo(f"Gateway listens on http://{settings.gateway_host}:{port}/{DATABASE}")
            waiting = [asyncio.create_task(event.wait()) for event in (stop, credentials.older)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in waiting:
                one.cancel()
        if credentials.older.is_set():
            raise OlderDatabase
    finally:
        await checkpoints.close()
        await credentials.close()


@contextlib.asynccontextmanager
async def _administration(
    settings: Settings,
    couchdb_url: str,
    credentials: DatabaseCredentials,
    upstream: Upstream,
    watch: Watch,
    parts: application.Parts,
) -> AsyncIterator[None]:
    """Metrics and health, unless they are switched off."""
    if not settings.gateway_admin_port:
        yield
        return

    checks = {
        "service_database": admin.service_database(credentials),
        "notices": admin.notices(watch, settings.gateway_grace_seconds),
        "couchdb": admin.couchdb(couchdb_url),
        "reading": admin.reading(credentials, upstream),
        "room": admin.room(parts.limits),
    }
    built = admin.build(parts.metrics, checks, token=settings.metrics_token)
    host, port = settings.gateway_admin_host, settings.gateway_admin_port
    remedy = "It is for metrics and health: choose another with PASSBOOK_GATEWAY_ADMIN_PORT; 0 switches them off."
    async with serving(built, host, port, remedy=remedy):
        log.info("administration_listens", host=host, port=port)
        yield


def with_room(settings: Settings) -> Settings:
    """As many connections as the settings say, or as the system has files for, if those are less."""
    room = listening.room(settings.gateway_connections, aside=FILES_ASIDE)
    return dataclasses.replace(settings, gateway_connections=room)
