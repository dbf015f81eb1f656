"""`passbook auth`: serve people and administrators until told to stop; and the rotation of the signing key."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import signal
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, get_args

import typer
import uvicorn

from auth_service import keys
from auth_service.api.app import THREADS, build
from auth_service.commands.session import at_keyboard
from auth_service.secret import auth_secret
from auth_service.service import Part, Service
from passbook.context import Outside, opened, service_database
from passbook.errors import PortBusy, Refused
from passbook.output import Json, print_facts, print_json
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings

app = typer.Typer(help="Serve people and administrators: sign-in, devices, administration.")

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
    listening = _listen(settings.auth_host, settings.auth_port)
    # People's side has no business with CouchDB; administration deletes the databases of people who are erased.
    with (
        contextlib.closing(listening),
        opened(settings, servicedb=True, couchdb="administration" in parts) as outside,
        service_database(outside, connections=THREADS) as database,
    ):
        asyncio.run(_serve(_service(outside, database, parts), listening))


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


class _Server(uvicorn.Server):
    """Says where it listens once it does, and ends well when told to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own dies of the signal in the end: status -15, and nobody cleans up behind it.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            typer.echo(f"Auth service listens on http://{f'[{host}]' if ':' in host else host}:{port}")


async def _serve(service: Service, listening: socket.socket) -> None:
    settings = service.settings
    # What uvicorn itself would log: each request with its query string. Ours is in the middleware.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(
        uvicorn.Config(
            build(service),
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=True,
            proxy_headers=bool(settings.proxies),
            forwarded_allow_ips=settings.proxies or "",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
            h11_max_incomplete_event_size=32 * 1024,
            backlog=1024,
        )
    )
    await server.serve(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    remedy = "Choose another with --host and --port, or PASSBOOK_AUTH_HOST and PASSBOOK_AUTH_PORT."
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortBusy(f"Port {port} on {host} is taken by another program.", remedy=remedy) from None
        raise Refused(
            f"The auth service cannot listen on {host}:{port}: {error.strerror}.", remedy=remedy
        ) from None
    # Connections have it from here: asyncio sets it itself only for sockets that were made with the protocol's
    # number. Without it the second part of an answer waits 40 ms for the caller's acknowledgement of the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
