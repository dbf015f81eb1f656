"""Serving: the application on a port, within the bounds on connections that auth service and gateway share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from auth_service.api.app import build
from auth_service.service import Service
from passbook.listening import BoundedConnection, Bounds, Listener

#: The listener closes who is silent; uvicorn's own timer is to do nothing.
_NEVER = 10 * 86_400
_LARGEST_HEAD = 32 * 1024
_COME_AGAIN = 5  # seconds


class Server(uvicorn.Server):
    """Serves on these sockets until told to stop, and ends well; calls `begun` once it takes connections."""

    def __init__(self, service: Service, sockets: Sequence[socket.socket], begun: Callable[[], None]) -> None:
        settings = service.settings
        # What uvicorn itself would log: each request with its query string, and a line for everything that is no
        # request, as many as somebody likes to send. Ours is in the middleware.
        logging.getLogger("uvicorn.access").disabled = True
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                build(service),
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=True,
                proxy_headers=bool(settings.proxies),
                forwarded_allow_ips=settings.proxies or "",
                http=H11Protocol,
                ws="none",
                timeout_keep_alive=_NEVER,
                timeout_graceful_shutdown=10,
                h11_max_incomplete_event_size=_LARGEST_HEAD,
            )
        )
        self._listener = Listener(
            Bounds(settings.auth_connections, settings.auth_idle_seconds, settings.auth_request_seconds),
            refusal=_refusal(),
        )
        service.metrics.watch(self._listener)
        self._sockets = sockets
        self._begun = begun

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own dies of the signal in the end: status -15, and nobody cleans up behind it.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # it takes no connections itself
        if self.started:
            self._listener.start(self._sockets, lambda: _Connection(self._listener, self))
            self._begun()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._listener.close()
        await super().shutdown([])


class _Connection(BoundedConnection, H11Protocol):
    """One connection."""

    def __init__(self, listener: Listener, server: Server) -> None:
        super().__init__(config=server.config, server_state=server.server_state, app_state=server.lifespan.state)
        self._listener = listener

    def asks_nothing(self) -> bool:
        # A request counts when all of it is there: until then it waits for the other side, not for us.
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.asks_nothing():  # or the next request was here already
            self._listener.answered(self)


def _refusal() -> bytes:
    """The answer for whoever finds no room."""
    body = json.dumps(
        {"code": "unavailable", "message": "Too many at once; try again soon.", "detail": None, "request_id": ""}
    )
    return (
        f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Retry-After: {_COME_AGAIN}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    ).encode()
