"""Listening: an application on a port, with a bound on its connections and on how long one may say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from passbook.errors import PortBusy, Refused
from sync_gateway.answers import bad_request, busy, unavailable
from sync_gateway.delivery import WAITING_IN_KERNEL
from sync_gateway.limits import Bounds, Limits

#: Seconds within which a gateway has stopped when told to; those of them that requests other than feeds have to
#: finish, and then, twice, connections to close.
SHUTDOWN_WITHIN = 5.0
DRAIN_WITHIN = 3.5
_CLOSE_WITHIN = 0.5
BACKLOG = 1024  # connections that wait to be taken: after a restart all devices come at once
GONE_AFTER = 120  # seconds without a sign of the other side's network
#: An application's limits, if it has any.
LIMITS = web.AppKey("limits", Limits)

#: How long, and how much of, a body that was refused unread is taken from the network and thrown away.
_THROWN_AWAY_WITHIN = 5.0
_THROWN_AWAY_MOST = 1_000_000
#: Bytes of a body that wait in this process before no more is taken from the network; twice that at most.
_WAITING_FOR_US = 64 * 1024

_FULL_SECONDS = 5.0  # for somebody who finds no room to ask, and be told
_FULL_AT_ONCE = 1000
_REMEDY = "Choose another with --host and --port, or PASSBOOK_GATEWAY_HOST and PASSBOOK_GATEWAY_PORT."


@contextlib.asynccontextmanager
async def serving(
    application: web.Application, host: str, port: int, *, remedy: str = _REMEDY
) -> AsyncIterator[int]:
    """Serve until this ends; gives the port. Raises `PortBusy` if it is taken."""
    limits = application.get(LIMITS, Limits())
    runner = web.AppRunner(
        application,
        handler_cancellation=True,  # a device that hangs up ends its feed at CouchDB as well
        shutdown_timeout=_CLOSE_WITHIN,
    )
    await runner.setup()
    door = _Door(runner, limits.bounds)
    limits.connections = lambda: door.connections
    try:
        try:
            listening = await asyncio.get_running_loop().create_server(door, host, port, backlog=BACKLOG)
        except OSError as error:
            raise _cannot_listen(host, port, error, remedy) from None
        for one in listening.sockets:
            _prepare(one)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()
    finally:
        await runner.cleanup()


class _Door:
    """Makes what speaks to a new connection: the application, or while there are too many, a refusal."""

    def __init__(self, runner: web.AppRunner, bounds: Bounds) -> None:
        self._runner = runner
        self._bounds = bounds
        self._logger = _http_logger()
        self._refused = 0
        self.connections = 0

    def __call__(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or self.connections >= self._bounds.connections:
            return _Full(self)
        return _Connection(self, server, self._logger, self._bounds.idle_seconds)

    def enter(self) -> bool:
        """Whether there is room for a refusal."""
        self._refused += 1
        return self._refused <= _FULL_AT_ONCE

    def leave(self) -> None:
        self._refused -= 1


class _Connection(web.RequestHandler):
    """One connection, counted. What is no HTTP gets our answer instead of aiohttp's, which names its version."""

    __slots__ = ("_door", "_thrown_away")

    def __init__(self, door: _Door, server: web.Server, logger: logging.Logger, idle_seconds: float) -> None:
        # From the connection, or the last answer, the next request's headers have so long to arrive in full.
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=logger,
            access_log=None,  # type: ignore[arg-type] # the gateway writes its own
            keepalive_timeout=idle_seconds,
            auto_decompress=False,  # also what is thrown away would be unpacked: 60 kB become 60 MB
            lingering_time=_THROWN_AWAY_WITHIN,
            read_bufsize=_WAITING_FOR_US,
        )
        self._door = door
        self._thrown_away = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._door.connections += 1
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.connections -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._request_in_progress or self._waiter is not None:
            self._thrown_away = 0
        else:
            # The rest of a body that nobody wanted: read for a while, or the answer would not reach the other side.
            self._thrown_away += len(data)
            if self._thrown_away > _THROWN_AWAY_MOST:
                if self.transport is not None:
                    self.transport.abort()
                return
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # logs it, and breaks off an answer that has begun
        problem = bad_request("The request is not HTTP/1.1 as it should be.") if status == 400 else unavailable()
        response = problem.response()
        response.force_close()
        return response


class _Full(asyncio.Protocol):
    """Tells whoever asks to come back later."""

    _PROBLEM = busy("connections").response()
    _ANSWER = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in _PROBLEM.headers.items())
        + f"Connection: close\r\nContent-Length: {_PROBLEM.content_length}\r\n\r\n{_PROBLEM.text}"
    ).encode()

    def __init__(self, door: _Door) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type
        self._transport = transport
        if self._door.enter():
            self._timer = asyncio.get_running_loop().call_later(_FULL_SECONDS, transport.abort)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._ANSWER)
            self._transport.close()

    def connection_lost(self, error: BaseException | None) -> None:
        self._door.leave()
        if self._timer is not None:
            self._timer.cancel()


def _prepare(listening: socket.socket) -> None:
    """Let little pile up in the system for a device that reads slowly, and let it close connections whose other
    side is gone without a word, as a phone in a tunnel is.

    Connections that are taken have these options from the listening socket, where the system knows them.
    """
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WAITING_IN_KERNEL)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", GONE_AFTER // 2),
        ("TCP_KEEPINTVL", GONE_AFTER // 8),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", GONE_AFTER * 1000),
    ):
        if hasattr(socket, name):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _http_logger() -> logging.Logger:
    """aiohttp's own log, without the stack trace it writes for everything that is not HTTP."""

    def ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    logger = logging.getLogger("sync_gateway.http")
    logger.filters = [ours]
    return logger


def _cannot_listen(host: str, port: int, error: OSError, remedy: str) -> PortBusy | Refused:
    if error.errno == errno.EADDRINUSE:
        return PortBusy(f"Port {port} on {host} is taken by another program.", remedy=remedy)
    return Refused(f"The gateway cannot listen on {host}:{port}: {error.strerror}.", remedy=remedy)
