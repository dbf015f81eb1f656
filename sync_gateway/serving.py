"""Serving: an application on a port, within the bounds on connections that gateway and auth service share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from passbook import listening
from passbook.listening import BoundedConnection, Listener
from sync_gateway.answers import bad_request, busy, unavailable
from sync_gateway.delivery import WAITING_IN_KERNEL
from sync_gateway.limits import Limits

#: Seconds within which a gateway has stopped when told to; those of them that requests other than feeds have to
#: finish, and then, twice, connections to close.
SHUTDOWN_WITHIN = 5.0
DRAIN_WITHIN = 3.5
_CLOSE_WITHIN = 0.5
#: An application's limits, if it has any.
LIMITS = web.AppKey("limits", Limits)

#: Seconds for which the rest of a body that was refused unread is taken from the network and thrown away.
_THROWN_AWAY_WITHIN = 5.0
#: Bytes of a body that wait in this process before no more is taken from the network; twice that at most.
_WAITING_FOR_US = 64 * 1024
#: The listener closes who is silent; aiohttp's own timer is to do nothing.
_NEVER = 10 * 86_400.0
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
    listener = Listener(limits.bounds.of_connections, refusal=_refusal())
    limits.connections = lambda: listener.connections
    limits.dropped = lambda: listener.dropped
    limits.crowded = listener.full
    logger = _http_logger()

    def connection() -> _Connection:
        if runner.server is None:
            raise RuntimeError("the application is not set up")
        return _Connection(listener, runner.server, logger)

    try:
        sockets = listening.bound(host, port, what="The gateway", remedy=remedy, send_buffer=WAITING_IN_KERNEL)
        bound_to = int(sockets[0].getsockname()[1])
        listener.start(sockets, connection)
        try:
            yield bound_to
        finally:
            listener.close()
    finally:
        await runner.cleanup()


class _Connection(BoundedConnection, web.RequestHandler):
    """One connection. What is no HTTP gets our answer instead of aiohttp's, which names its version."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener, server: web.Server, logger: logging.Logger) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=logger,
            access_log=None,  # type: ignore[arg-type] # the gateway writes its own
            keepalive_timeout=_NEVER,
            auto_decompress=False,  # also what is thrown away would be unpacked: 60 kB become 60 MB
            lingering_time=_THROWN_AWAY_WITHIN,
            read_bufsize=_WAITING_FOR_US,
        )
        self._listener = listener

    def asks_nothing(self) -> bool:
        return not self._request_in_progress and not self._messages

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        self._listener.answered(self)
        return finished

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


def _refusal() -> bytes:
    """The answer for whoever finds no room."""
    problem = busy("connections").response()
    return (
        "HTTP/1.1 503 Service Unavailable\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in problem.headers.items())
        + f"Connection: close\r\nContent-Length: {problem.content_length}\r\n\r\n{problem.text}"
    ).encode()


def _http_logger() -> logging.Logger:
    """aiohttp's own log, without the stack trace it writes for everything that is not HTTP."""

    def ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    logger = logging.getLogger("sync_gateway.http")
    logger.filters = [ours]
    return logger
