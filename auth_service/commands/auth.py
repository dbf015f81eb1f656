"""`passbook auth`: serve people and administrators until told to stop; and the rotation of the signing key."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, get_args

import typer

from auth_service import keys
from auth_service.api.app import THREADS
from auth_service.commands.session import at_keyboard
from auth_service.secret import auth_secret
from auth_service.service import Part, Service
from auth_service.serving import Server
from passbook import listening
from passbook.context import Outside, opened, service_database
from passbook.couch import CouchClient
from passbook.errors import Refused
from passbook.output import Json, print_facts, print_json
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from passbook.witness import keeper

app = typer.Typer(help="Serve people and administrators: sign-in, devices, administration.")

#: Open files besides connections: to the service database and CouchDB, and the process's own.
FILES_ASIDE = 100 + THREADS

_PARTS: tuple[Part, ...] = get_args(Part)


@app.callback(invoke_without_command=True)
def auth(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", envvar="PASSBOOK_AUTH_HOST", show_envvar=True)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0 takes any.", envvar="PASSBOOK_AUTH_PORT", min=0, max=65535),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Serve one side alone: `people` (for the internet) or `administration` (for inside)."),
    ] = None,
) -> None:
    """Serve until told to stop (SIGTERM or Ctrl-C)."""
    if context.invoked_subcommand is not None:
        return
    parts = _PARTS if only is None else tuple(part for part in _PARTS if part == only)
    if not parts:
        raise Refused(f"{only!r} is no side.", remedy=f"It is one of: {', '.join(_PARTS)}.")
    settings = Settings.load()
    settings = dataclasses.replace(
        settings,
        auth_host=settings.auth_host if host is None else host,
        auth_port=settings.auth_port if port is None else port,
    )
    settings = dataclasses.replace(
        settings, auth_connections=listening.room(settings.auth_connections, aside=FILES_ASIDE)
    )
    sockets = listening.bound(
        settings.auth_host,
        settings.auth_port,
        what="The auth service",
        remedy="Choose another with --host and --port, or PASSBOOK_AUTH_HOST and PASSBOOK_AUTH_PORT.",
    )
    with contextlib.ExitStack() as until_the_end:
        for one in sockets:
            until_the_end.enter_context(one)
        # People's side has no business with CouchDB; administration deletes the databases of people who are erased.
        outside = until_the_end.enter_context(opened(settings, servicedb=True, couchdb="administration" in parts))
        database = until_the_end.enter_context(
            service_database(outside, connections=THREADS, compared=False, processes=parts)
        )
        connect_seconds = settings.connect_seconds
        asyncio.run(keeper.require(database, outside.couchdb_url, connect_seconds=connect_seconds))
        asyncio.run(_serve(_service(outside, database, parts), sockets))


@app.command("rotate-keys")
def rotate_keys(as_json: Json = False) -> None:
    """Sign access tokens with a new key from now on. Nobody is logged out: the old key verifies until its last
    token has expired."""
    settings = Settings.load()
    with opened(settings, servicedb=True) as outside, service_database(outside) as database:
        secret = auth_secret(settings)
        with database.begin() as connection:
            kid = keys.rotate(
                connection,
                at_keyboard(),
                secret,
                tokens_live=timedelta(seconds=settings.access_token_seconds),
            )
    facts = {"kid": kid, "old_keys_verify_for_seconds": settings.access_token_seconds + 2 * int(keys.REREAD_AFTER)}
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


def _service(outside: Outside, database: ServiceDatabase, parts: tuple[Part, ...]) -> Service:
    secret = auth_secret(outside.settings)
    with database.begin() as connection:
        keys.ensure(connection, at_keyboard(), secret)
    return Service.build(outside.settings, database, secret=secret, parts=parts, couchdb_url=outside.couchdb_url)


async def _serve(service: Service, sockets: list[socket.socket]) -> None:
    host, port = sockets[0].getsockname()[:2]

    def begun() -> None:
        typer.echo(f"Auth service listens on http://{f'[{host}]' if ':' in host else host}:{port}")

    server = Server(service, sockets, begun)
    async with _watching(service, server):
        await server.serve()


@contextlib.asynccontextmanager
async def _watching(service: Service, server: Server) -> AsyncIterator[None]:
    """Keep the witness, where CouchDB's administrator is known; else look that the database stays the one it is.

    If it does not, the server ends, and why is raised once this is left.
    """
    stopping = asyncio.Event()

    async def stop() -> None:
        await stopping.wait()
        server.should_exit = True

    ending = asyncio.create_task(stop())
    try:
        async with contextlib.AsyncExitStack() as stack:
            if service.couchdb_url:
                seconds = service.settings.connect_seconds
                couch = await stack.enter_async_context(
                    CouchClient(service.couchdb_url, connections=1, connect_seconds=seconds)
                )
                await stack.enter_async_context(keeper.keeping(service.database, couch, stopping))
            else:
                await stack.enter_async_context(keeper.looking(service.database, stopping))
            yield
    finally:
        ending.cancel()
