"""CouchDB's answer on its way to the device.

A small answer is taken in full, which sets CouchDB's connection free at once, however slowly the device reads. A
large one is passed on bit by bit, and only so many at a time: they hold connections that all the others need.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator

import aiohttp
import structlog
from aiohttp import web

from sync_gateway import compress, routes
from sync_gateway.answers import COMMON_HEADERS, busy
from sync_gateway.queues import Queues, Room

STALLED_FOR = 120.0  # seconds a device may take to read one chunk
#: A large answer holds what all others need, so it is to be taken at no less than so many bytes a second (half of
#: what the slowest network gives a phone), after so many seconds, and within so many.
LOWEST_RATE = 2_000
SLOW_FOR = 30.0
LONGEST = 600.0
#: Seconds that a large answer waits for others to the same person.
TURN_WITHIN = 240.0
_MANY = 1_000_000
SMALL = 256 * 1024  # bytes of an answer that is taken in full
#: Bytes that may wait in the kernel for a device that reads slowly, and in this process before the next chunk of a
#: large answer is asked of CouchDB. The kernel alone would let megabytes pile up.
WAITING_IN_KERNEL = 128 * 1024
WAITING_HERE = 64 * 1024

#: Which entry of the allow-list a request matched, for the log.
ROUTE = web.RequestKey("route", str)

log = structlog.get_logger()


class Place:
    """Of one large answer, for as long as it is on its way."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._since = time.monotonic()
        self._before = request.writer.output_size
        #: Seconds that were spent on waiting for the device.
        self._waited = 0.0

    @contextlib.asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        """While something is given to the device. Raises `TimeoutError` if it takes the answer too slowly."""
        started = time.monotonic()
        sent = self._request.writer.output_size - self._before
        slow = SLOW_FOR + sent / LOWEST_RATE - self._waited
        left = min(STALLED_FOR, slow, self._since + LONGEST - started)
        if left <= 0:
            raise TimeoutError  # a device that takes everything at once would never be waited for
        async with asyncio.timeout(left):
            yield
        self._waited += time.monotonic() - started

    def give_up(self) -> None:
        """Break the answer off."""
        log.info("large_answer_given_up", seconds=round(time.monotonic() - self._since, 1))
        if self._request.transport is not None:
            self._request.transport.abort()


class OthersFirst(Exception):
    """Other large answers to this person are on their way; let go of this one, and ask again in `Slots.turn`."""


class Slots:
    """How many large answers may be on their way at a time: altogether, for one person, and waiting for their turn.

    Each of them, and whoever waits for one of all, holds one of the connections to CouchDB. When all are taken,
    whoever waits gets the oldest of the person who has most, if that is more than they would have themselves. Who
    waits for another answer to the same person holds no connection.
    """

    def __init__(self, count: int, *, waiting: int, wait_within: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._room = waiting
        self._wait_within = wait_within
        # A person has no more requests in all than the limits say.
        unbounded = Room(each=_MANY, each_large=_MANY, all=lambda: _MANY, all_large=_MANY, seconds=TURN_WITHIN)
        self.queues = Queues(max(2, count // 16), unbounded)
        #: Oldest first.
        self._places: dict[str, list[Place]] = {}

    def turn(self, person: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Leave to have a large answer to this person on its way. Raises `Problem` (429) if it takes too long."""
        return self.queues.turn(person)

    def turn_now(self, person: str) -> contextlib.AbstractAsyncContextManager[None]:
        """The same, without waiting for it. Raises `OthersFirst`."""
        if self.queues.full(person):
            raise OthersFirst
        return self.queues.turn(person)

    @contextlib.asynccontextmanager
    async def one(self, person: str, request: web.Request) -> AsyncIterator[Place]:
        """A slot of all, for as long as this is open, for who has their turn. Raises `Problem` (503) for none."""
        await self._take(person)
        place = Place(request)
        self._places.setdefault(person, []).append(place)
        try:
            yield place
        finally:
            self._remove(person, place)
            self._free.release()

    async def _take(self, person: str) -> None:
        if self._free.locked():
            if not self._room:
                raise busy("large_answers")
            self._make_room(person)
        self._room -= 1
        try:
            async with asyncio.timeout(self._wait_within):
                await self._free.acquire()
        except TimeoutError:
            log.warning("too_many_large_answers")
            raise busy("large_answers") from None
        finally:
            self._room += 1

    def _make_room(self, person: str) -> None:
        most = max(self._places, key=lambda name: len(self._places[name]), default=person)
        if len(self._places.get(most, ())) > len(self._places.get(person, ())) + 1:
            place = self._places[most][0]
            self._remove(most, place)
            place.give_up()

    def _remove(self, person: str, place: Place) -> None:
        places = self._places.get(person, [])
        if place in places:
            places.remove(place)
            if not places:
                del self._places[person]


async def deliver(
    request: web.Request,
    match: routes.Match,
    upstream: aiohttp.ClientResponse,
    slots: Slots,
    person: str,
    *,
    in_turn: bool = False,
) -> web.StreamResponse:
    """Answer the device of this person with what CouchDB answers.

    Raises `OthersFirst` if the answer is large and it is not this person's turn, unless that is so (`in_turn`).
    """
    response, shrinks = _begun(request, match, upstream)
    if request.method == "HEAD" or upstream.status == 304:
        await _sent(request, response, b"")
        return response
    beginning: deque[bytes] = deque()
    whole = False
    if (upstream.content_length or 0) <= SMALL:
        try:
            whole = await begin(upstream, beginning)
        except (aiohttp.ClientError, TimeoutError) as error:
            _tear(request, error)  # as for a large answer, half of which would have gone out by now
            return response
    compressor = compress.Compressor() if shrinks else None
    if whole:
        body = b"".join(beginning)
        beginning.clear()
        if compressor:
            plain = len(body)
            body = compressor.compress(body) + compressor.finish()
            compress.save(request, plain - len(body))
        response.content_length = len(body)
        await _sent(request, response, body)
        return response
    async with (
        contextlib.nullcontext() if in_turn else slots.turn_now(person),
        slots.one(person, request) as place,
    ):
        await _streamed(request, upstream, response, beginning, compressor, place)
        return response


def _begun(
    request: web.Request, match: routes.Match, upstream: aiohttp.ClientResponse
) -> tuple[web.StreamResponse, bool]:
    """The answer's head: CouchDB's status, and the few headers of its that a device needs; whether to compress."""
    response = web.StreamResponse(status=upstream.status, headers=COMMON_HEADERS)
    for name in ("Content-Type", "ETag", "Content-Encoding"):
        if name in upstream.headers:
            response.headers[name] = upstream.headers[name]
    length = upstream.content_length
    shrinks = (
        not match.route.attachment
        and request.method != "HEAD"
        and upstream.status == 200
        and "Content-Encoding" not in upstream.headers
        and (length is None or length >= compress.SMALLEST)
        and compress.accepts_gzip(request.headers.get("Accept-Encoding", ""))
    )
    if shrinks:
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    elif length is not None and upstream.status != 304:
        response.content_length = length
    return response, shrinks


async def begin(upstream: aiohttp.ClientResponse, beginning: deque[bytes]) -> bool:
    """Read what comes first; whether it is all."""
    length = 0
    async for chunk in upstream.content.iter_any():
        beginning.append(chunk)
        length += len(chunk)
        if length > SMALL:
            return False
    return True


async def _sent(request: web.Request, response: web.StreamResponse, body: bytes) -> None:
    """Send a complete answer."""
    with _sending(request):
        async with asyncio.timeout(STALLED_FOR):
            await response.prepare(request)
            if body:
                await response.write(body)
            await response.write_eof()


async def _streamed(
    request: web.Request,
    upstream: aiohttp.ClientResponse,
    response: web.StreamResponse,
    beginning: deque[bytes],
    compressor: compress.Compressor | None,
    place: Place,
) -> None:
    """Pass the body on. The next chunk is read when the device has taken the last: nothing piles up here."""
    _narrow(request)
    with _sending(request):
        await response.prepare(request)
        async for chunk in chunks(beginning, upstream):
            out = compressor.compress(chunk) if compressor else chunk
            compress.save(request, len(chunk) - len(out))
            if out:
                async with place.taking():
                    await response.write(out)
        async with place.taking():
            if compressor:
                await response.write(compressor.finish())
            await response.write_eof()


async def chunks(beginning: deque[bytes], upstream: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """What `begin` has read, and what comes after."""
    while beginning:
        yield beginning.popleft()  # which lets go of it
    async for chunk in upstream.content.iter_any():
        yield chunk


@contextlib.contextmanager
def _sending(request: web.Request) -> Iterator[None]:
    """Tears the connection when what is sent in here comes to no good end."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        _tear(request, error)
    except BaseException as error:
        _tear(request, error)
        raise


def _tear(request: web.Request, error: BaseException) -> None:
    """Break off the connection.

    The status is out, and only a broken connection can still say that this is not all: an orderly end would make
    half an answer look like a whole one.
    """
    if request.transport is not None:
        request.transport.abort()
    log.info("answer_broken_off", route=request.get(ROUTE), error=type(error).__name__)


def _narrow(request: web.Request) -> None:
    """Let little wait for this device."""
    if request.transport is None:
        return
    request.transport.set_write_buffer_limits(high=WAITING_HERE)


def narrow_socket(info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """A socket towards CouchDB in which little piles up."""
    made = socket.socket(info[0], info[1], info[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WAITING_IN_KERNEL)
    return made
