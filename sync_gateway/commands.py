"""`passbook gateway`: serve devices until told to stop."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from typing import Annotated

import structlog
import typer

from passbook import couch_access
from passbook.context import opened, service_database
from passbook.settings import Settings
from sync_gateway import app as application
from sync_gateway.credentials import DatabaseCredentials
from sync_gateway.proxy import Upstream
from sync_gateway.routes import DATABASE
from sync_gateway.watch import Watch

log = structlog.get_logger()

app = typer.Typer(help="Serve devices: the only door from the internet to CouchDB.")


@app.callback(invoke_without_command=True)
def gateway(
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
    settings = Settings.load()
    settings = dataclasses.replace(
        settings,
        gateway_host=settings.gateway_host if host is None else host,
        gateway_port=settings.gateway_port if port is None else port,
    )
    with opened(settings, couchdb=True, servicedb=True) as context:
        with service_database(context):
            pass  # it is there and of this release, or the command says what to do
        asyncio.run(serve(settings, context.service_url, context.couchdb_url))


async def serve(settings: Settings, service_url: str, couchdb_url: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    access, how = await couch_access.prepare(couchdb_url, connect_seconds=settings.connect_seconds)
    log.info("couchdb_access", how=how)
    credentials = DatabaseCredentials.at(
        service_url, device_days=settings.device_days, grace=settings.gateway_grace_seconds
    )
    parts = application.Parts.new()
    watch = Watch(service_url, credentials, parts.requests, parts.hub)
    try:
        built = application.build(credentials, Upstream(couchdb_url, access), parts)
        async with (
            watch.watching(),
            application.serving(built, settings.gateway_host, settings.gateway_port) as port,
        ):
            typer.echo(f"Gateway listens on http://{settings.gateway_host}:{port}/{DATABASE}")
            await stop.wait()
    finally:
        await credentials.close()
