"""Listening on a port that anybody may reach: so many connections, so long to ask for something, files for all.

Whoever opens a connection and says nothing costs a file and a little memory. There are only so many of both, so a
connection that asks for nothing is closed after a while, and earlier when there is no other room for a new one: it
loses nothing, while somebody who asks gets an answer. The gateway and the auth service use it; their HTTP protocols
plug in as `BoundedConnection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from passbook.errors import PortBusy, Refused

log = structlog.get_logger()

BACKLOG = 1024  # connections that wait to be taken: after a restart all devices come at once
GONE_AFTER = 120  # seconds without a sign of the other side's network
#: Bytes that a connection may send without having asked for anything: of a head that does not end, or the rest of a
#: body that was refused unread, some of which is taken, or the answer would not reach the other side.
MOST_UNASKED = 1_000_000

_TAKEN_AT_ONCE = 32  # connections, before others have their turn
_LOOKED_AT_EVERY = 1.0  # seconds between two looks at who is silent
_PAUSED_FOR = 0.5  # seconds without taking connections, when the system has no files
_TOLD_EVERY = 60.0  # seconds between two lines in the log about one and the same
#: Seconds after which an answer that is not taken makes room for others, while this share of connections is open.
_STALLED_SECONDS = 30.0
_CROWDED_SHARE = 0.8
#: For so many connections one more may be open to be told that there is no room, and so long.
_REFUSED_SHARE = 16
_REFUSED_SECONDS = 5.0


@dataclass(frozen=True)
class Bounds:
    """The bounds of one listener."""

    #: Most connections at a time.
    connections: int
    #: A connection that asks for nothing for so many seconds is closed.
    idle_seconds: float
    #: A request that has begun must have come within so many.
    request_seconds: float


class BoundedConnection(asyncio.Protocol):
    """One connection of a listener: to be inherited from before the class of the HTTP server.

    Whoever inherits sets `_listener`, says in `asks_nothing` what the server is doing, and tells the listener of
    each answer (`answered`).
    """

    __slots__ = ()

    _listener: Listener

    def asks_nothing(self) -> bool:
        """Whether no request is here that is still to be answered."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._listener.made(self, transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.lost(self)
        super().connection_lost(exc)  # type: ignore[arg-type] # aiohttp takes more than asyncio gives

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._listener.heard(self, len(data))


class Listener:
    """Takes connections and closes those that ask for nothing. Belongs to one event loop.

    `refusal` is the whole answer for whoever finds no room, in bytes.
    """

    def __init__(self, bounds: Bounds, *, refusal: bytes) -> None:
        self.bounds = bounds
        #: Connections closed or not taken, by reason: `silent`, `crowded`, `talkative`, `stalled`, `refused`.
        self.dropped: Counter[str] = Counter()
        self._refusal = refusal
        self._refusals: set[_Refusal] = set()
        self._open: dict[asyncio.BaseProtocol, asyncio.Transport | None] = {}
        # Those that ask for nothing, the longest silent first, with when their time is up: new, begun, answered.
        self._fresh: dict[BoundedConnection, float] = {}
        self._begun: dict[BoundedConnection, float] = {}
        self._idle: dict[BoundedConnection, float] = {}
        self._kinds: dict[BoundedConnection, dict[BoundedConnection, float]] = {}
        #: Bytes that came since anything was asked for or answered.
        self._unasked: dict[BoundedConnection, int] = {}
        #: Those whose answers wait to be taken: so many bytes, and since when no fewer.
        self._untaken: dict[asyncio.BaseProtocol, tuple[int, float]] = {}
        self._sockets: list[socket.socket] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._told: dict[str, float] = {}

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._open)

    def full(self) -> bool:
        """Whether there is no room for another one: each of them waits for an answer."""
        return self.connections >= self.bounds.connections and not self._kinds

    def start(self, sockets: Sequence[socket.socket], made: Callable[[], BoundedConnection]) -> None:
        """Take connections on these sockets, which are closed at the end; `made` makes what serves one."""
        self._loop = asyncio.get_running_loop()
        self._made = made
        self._sockets = list(sockets)
        for one in self._sockets:
            one.setblocking(False)
            self._loop.add_reader(one.fileno(), self._accept, one)
        self._look()

    def close(self) -> None:
        """Take no more connections; those there are go on."""
        for timer in self._timers.values():
            timer.cancel()
        for one in self._sockets:
            self._loop.remove_reader(one.fileno())
            one.close()
        self._sockets = []

    # Told by the connections

    def made(self, connection: BoundedConnection, transport: asyncio.BaseTransport) -> None:
        """A connection is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type
        self._open[connection] = transport
        self._wait(connection, self._fresh, min(self.bounds.idle_seconds, self.bounds.request_seconds))

    def lost(self, connection: BoundedConnection) -> None:
        """A connection is gone."""
        self._open.pop(connection, None)
        self._unasked.pop(connection, None)
        self._untaken.pop(connection, None)
        self._forget(connection)

    def heard(self, connection: BoundedConnection, size: int) -> None:
        """So many bytes came, and were looked at."""
        if not connection.asks_nothing():
            self._forget(connection)
            self._unasked.pop(connection, None)
            return
        unasked = self._unasked[connection] = self._unasked.get(connection, 0) + size
        if unasked > MOST_UNASKED:
            self._drop(connection, "talkative")
        elif size and self._kinds.get(connection) is self._idle:
            self._wait(connection, self._begun, self.bounds.request_seconds)

    def answered(self, connection: BoundedConnection) -> None:
        """A request of this connection has its answer."""
        if connection in self._open:
            self._unasked.pop(connection, None)
            self._wait(connection, self._idle, self.bounds.idle_seconds)

    # Those that ask for nothing

    def _wait(self, connection: BoundedConnection, kind: dict[BoundedConnection, float], seconds: float) -> None:
        self._forget(connection)
        kind[connection] = self._loop.time() + seconds
        self._kinds[connection] = kind

    def _forget(self, connection: BoundedConnection) -> None:
        kind = self._kinds.pop(connection, None)
        if kind is not None:
            del kind[connection]

    def _look(self) -> None:
        """Close those whose time is up."""
        now = self._loop.time()
        for kind in (self._fresh, self._begun, self._idle):
            while kind and next(iter(kind.values())) <= now:
                connection = next(iter(kind))
                self._forget(connection)
                if connection.asks_nothing():
                    self._drop(connection, "silent")
        self._look_at_untaken(now)
        self._timers["look"] = self._loop.call_later(_LOOKED_AT_EVERY, self._look)

    def _look_at_untaken(self, now: float) -> None:
        """Close those that take nothing of their answers, while others might find no room.

        Who asks and does not read is not silent: a request of theirs is always under way.
        """
        if len(self._open) < self.bounds.connections * _CROWDED_SHARE:
            self._untaken.clear()
            return
        found: dict[asyncio.BaseProtocol, tuple[int, float]] = {}
        for connection, transport in list(self._open.items()):
            waiting = 0 if transport is None else transport.get_write_buffer_size()
            if not waiting:
                continue
            before, since = self._untaken.get(connection, (waiting + 1, now))
            if waiting < before:
                since = now
            elif now - since >= _STALLED_SECONDS and isinstance(connection, BoundedConnection):
                self._drop(connection, "stalled")
                continue
            found[connection] = (waiting, since)
        self._untaken = found

    def _made_room(self) -> bool:
        """Close the longest silent connection; False if each of them waits for an answer of ours.

        Of the kind of which there are most: a flood of one kind makes room for itself, and not at the cost of those
        that have just come, or that a proxy keeps.
        """
        while kind := max((self._fresh, self._begun, self._idle), key=len):
            connection = next(iter(kind))
            self._forget(connection)
            if connection.asks_nothing():
                self._drop(connection, "crowded")
                self._tell("connections_crowded", most=self.bounds.connections)
                return True
        return False

    def _drop(self, connection: BoundedConnection, reason: str) -> None:
        self.dropped[reason] += 1
        self._forget(connection)
        transport = self._open.pop(connection, None)
        if transport is None:
            return
        # In order, unless something waits for the other side to read it: that might be for ever.
        if reason == "silent" and not transport.get_write_buffer_size():
            transport.close()
        else:
            transport.abort()

    # New ones

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_TAKEN_AT_ONCE):
            try:
                taken, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            taken.setblocking(False)
            self._take(taken)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Take no connections for a moment: asked at once, the system would say the same, and so on."""
        self._tell("connections_not_taken", error=errno.errorcode.get(error.errno or 0, ""))
        self._loop.remove_reader(listening.fileno())
        self._made_room()

        def again() -> None:
            if listening.fileno() >= 0:
                self._loop.add_reader(listening.fileno(), self._accept, listening)

        self._timers[f"pause {listening.fileno()}"] = self._loop.call_later(_PAUSED_FOR, again)

    def _take(self, taken: socket.socket) -> None:
        if self.connections < self.bounds.connections or self._made_room():
            protocol: asyncio.Protocol = self._made()
            self._open[protocol] = None
        else:
            self.dropped["refused"] += 1
            self._tell("connections_refused", most=self.bounds.connections)
            if len(self._refusals) >= refused_beside(self.bounds.connections):
                with contextlib.suppress(OSError):
                    taken.send(self._refusal)
                taken.close()
                return
            protocol = _Refusal(self._refusal, self._refusals)
        connecting = self._loop.create_task(self._connect(taken, protocol))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)

    async def _connect(self, taken: socket.socket, protocol: asyncio.Protocol) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, taken)
        except OSError:  # gone already
            self._open.pop(protocol, None)
            taken.close()

    def _tell(self, event: str, **facts: object) -> None:
        """One line in the log a minute, however often it happens."""
        now = time.monotonic()
        if now - self._told.get(event, float("-inf")) >= _TOLD_EVERY:
            self._told[event] = now
            log.warning(event, connections=self.connections, dropped=dict(self.dropped), **facts)


class _Refusal(asyncio.Protocol):
    """Tells whoever asks to come back later."""

    def __init__(self, answer: bytes, others: set[_Refusal]) -> None:
        self._answer = answer
        self._others = others
        others.add(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_REFUSED_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._answer)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._others.discard(self)
        if self._timer is not None:
            self._timer.cancel()


def refused_beside(connections: int) -> int:
    """How many may be open, beside so many connections, that are told that there is no room."""
    return max(1, connections // _REFUSED_SHARE)


def room(wanted: int, *, aside: int) -> int:
    """How many connections the system has files for beside `aside` others: `wanted`, or as many as there can be.

    Raises the process's limit as far as needed and allowed.
    """
    needed = wanted + refused_beside(wanted) + _TAKEN_AT_ONCE + aside
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft >= needed:
        return wanted
    possible = max(1, (soft - aside - _TAKEN_AT_ONCE) * _REFUSED_SHARE // (_REFUSED_SHARE + 1))
    log.info("fewer_connections", wanted=wanted, room=possible, files=soft)
    return possible


def bound(host: str, port: int, *, what: str, remedy: str, send_buffer: int | None = None) -> list[socket.socket]:
    """Sockets that listen on every address that `host` has; port 0 takes any.

    `send_buffer` is how many bytes may wait in the system for one that reads slowly; `what` listens, and `remedy`
    says what to do. Raises `PortBusy`, and `Refused` for an address that this machine does not have.
    """
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            made.append(one)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _prepare(one, send_buffer)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError as error:
        for one in made:
            one.close()
        if error.errno == errno.EADDRINUSE:
            raise PortBusy(f"Port {port} on {host} is taken by another program.", remedy=remedy) from None
        raise Refused(f"{what} cannot listen on {host}:{port}: {error.strerror}.", remedy=remedy) from None
    return made


def _prepare(listening: socket.socket, send_buffer: int | None) -> None:
    """Connections that are taken have these options from the listening socket, where the system knows them.

    Answers go out at once: the second part of one would wait 40 ms for the caller's acknowledgement of the first.
    And the system closes connections whose other side is gone without a word, as a phone in a tunnel is.
    """
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if send_buffer is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    for name, value in (
        ("TCP_KEEPIDLE", GONE_AFTER // 2),
        ("TCP_KEEPINTVL", GONE_AFTER // 8),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", GONE_AFTER * 1000),
    ):
        if hasattr(socket, name):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
