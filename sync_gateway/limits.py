"""Everybody's fair share: how much one device and one person may ask for, and how much all of them together.

Counted in this process's memory, which stays small: a bucket that is full again is forgotten. Requests of a device
beyond what is answered at once wait their turn: a replication fetches all pictures of a batch at once, and gives up
the batch when one of them is refused. What no replication does is answered with 429 to that device alone; what is
too much altogether, with 503, feeds first.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, fields
from typing import TypeVar

from aiohttp import web

from passbook import listening
from passbook.settings import Settings
from sync_gateway import basic
from sync_gateway.answers import Problem, busy, too_many
from sync_gateway.buckets import Buckets
from sync_gateway.compress import SAVED
from sync_gateway.credentials import Principal
from sync_gateway.queues import Queues, Room
from sync_gateway.turns import Turns

#: A person's devices together have so many times the requests and bytes per minute of one.
DEVICES_AT_ONCE = 3
#: Of a person's requests at once, the share that may be feeds; the rest is for what feeds make necessary.
_FEEDS_OF_A_PERSON = 0.5
#: Above this share of all connections there are no new feeds: who synchronises and goes needs room too.
_CONNECTIONS_FOR_FEEDS = 0.9
#: Of all connections, the share whose requests may wait for their turn.
_CONNECTIONS_FOR_WAITING = 0.4
#: Of all requests at once, the share that may be by strangers whose credential is being looked up; likewise of all
#: that wait.
_FOR_STRANGERS = 0.125
#: Bytes of its head beyond which a request, as one with a body, is large while it waits: few of those may.
_SMALL_HEAD = 4_096
_KNOWN = 100_000
#: Receipts for its wipe order that a device may be sending at once.
_RECEIPTS = 2
#: Processor time for decoding bodies, seconds a minute of one device. An agent's first synchronisation takes 0.01.
_DECODING_PER_MINUTE = 1.0
#: Refusals a minute that one gets at once; each further one takes a while.
_REFUSALS_PER_MINUTE = 30
_PAUSE = 1.0  # seconds


_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Bounds:
    """The settings `gateway_*` of the same names."""

    device_requests: int = 20
    device_waiting: int = 1_200
    waiting_seconds: float = 240.0
    device_feeds: int = 6
    person_requests: int = 60
    device_requests_per_minute: int = 6_000
    device_bytes_per_minute: int = 500_000_000
    requests: int = 2_000
    feeds: int = 20_000
    connections: int = 25_000
    idle_seconds: float = 75.0
    request_seconds: float = 20.0

    @property
    def of_connections(self) -> listening.Bounds:
        return listening.Bounds(self.connections, self.idle_seconds, self.request_seconds)

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        return cls(**{field.name: getattr(settings, f"gateway_{field.name}") for field in fields(cls)})


@dataclass
class _Count:
    """What one device or person has open."""

    requests: int = 0
    feeds: int = 0


class Limits:
    """Admits requests. One instance for all requests of a process."""

    def __init__(self, bounds: Bounds | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds = bounds or Bounds()
        self.requests = 0  # being answered now, feeds aside
        self.feeds = 0
        #: How many connections there are; set by whoever listens.
        self.connections: Callable[[], int] = lambda: 0
        #: How many of them were closed or not taken, by reason; likewise.
        self.dropped: Callable[[], Mapping[str, int]] = dict
        #: Whether each of them waits for an answer, and another would be told to come later; likewise.
        self.crowded: Callable[[], bool] = lambda: False
        #: Told of every so many bytes that were sent to a device.
        self.sent: Callable[[int], None] = lambda _: None
        #: Hashes of the `Authorization` headers that are being looked up, and of those that were good lately.
        self._asking: Counter[int] = Counter()
        self._known: OrderedDict[int, None] = OrderedDict()
        self._strangers = 0
        self._receipts: Counter[str] = Counter()
        self._strangers_waiting = 0
        at_once, waiting = bounds.device_requests, bounds.device_waiting
        self.devices_queues = Queues(at_once, self._room(each_large=at_once))
        #: Of people whose devices ask for too much together. Who waits here holds a place of their device.
        self.persons_queues = Queues(bounds.person_requests, self._room(each_large=waiting))
        self._devices: dict[str, _Count] = {}
        self._persons: dict[str, _Count] = {}
        self._tickets: dict[str, set[Ticket]] = {}
        per_minute, volume = bounds.device_requests_per_minute, bounds.device_bytes_per_minute
        self._rates = (Buckets(per_minute, clock), Buckets(per_minute * DEVICES_AT_ONCE, clock))
        self._refusals = Buckets(_REFUSALS_PER_MINUTE, clock)
        decoding = _DECODING_PER_MINUTE
        self._decoding = (Buckets(decoding, clock), Buckets(decoding * DEVICES_AT_ONCE, clock))
        self.turns = Turns()
        self._volumes = (Buckets(volume, clock), Buckets(volume * DEVICES_AT_ONCE, clock))

    def full(self) -> str:
        """What there is no room for, in words; empty if there is room."""
        if self.crowded():
            return f"All {self.bounds.connections} connections are in use, and each waits for an answer."
        if self.requests >= self.bounds.requests:
            return f"All {self.bounds.requests} places for requests are taken."
        return ""

    def _room(self, *, each_large: int) -> Room:
        bounds = self.bounds
        return Room(
            each=bounds.device_waiting,
            each_large=each_large,
            all=self._most_waiting,
            all_large=bounds.requests,
            seconds=bounds.waiting_seconds,
        )

    def _most_waiting(self) -> int:
        return int(self.bounds.connections * _CONNECTIONS_FOR_WAITING)

    @asynccontextmanager
    async def turn(self, request: web.Request, authorization: Sequence[str]) -> AsyncIterator[None]:
        """One of the places of the device that sends this, once it is free; who waits for it holds nothing else.

        The wait comes before the credential is looked up, so what is found then is fresh. A credential that is
        refused is refused for all requests that wait with it. Raises `Problem` (429, 503).
        """
        key = _key(authorization)
        if key is None:
            yield  # nobody's; it is refused at once
            return
        stranger = key not in self._known and self.devices_queues.full(key)
        if stranger and self._strangers_waiting >= self._most_waiting() * _FOR_STRANGERS:
            raise busy("strangers")
        self._strangers_waiting += stranger
        try:
            async with self.devices_queues.turn(key, large=_large(request)):
                self._strangers_waiting -= stranger
                stranger = False
                yield
        except Problem as problem:
            if problem.status == 401:
                self.devices_queues.refuse(key, problem)
            raise
        finally:
            self._strangers_waiting -= stranger

    @contextmanager
    def entered(self, request: web.Request) -> Iterator[Ticket]:
        """For as long as a request is being answered, whoever sent it. Raises `Problem` (503) for one too many."""
        if self.requests >= self.bounds.requests:
            raise busy("requests")
        ticket = Ticket(self, request)
        self.requests += 1
        try:
            yield ticket
        finally:
            self._leave(ticket)

    @contextmanager
    def receiving(self, device_id: str) -> Iterator[None]:
        """While a receipt of this device is read and taken. Raises `Problem` (429) if it sends too many at once."""
        if self._receipts[device_id] >= _RECEIPTS:
            raise too_many("receipts")
        self._receipts[device_id] += 1
        try:
            yield
        finally:
            self._receipts[device_id] -= 1
            if not self._receipts[device_id]:
                del self._receipts[device_id]

    @contextmanager
    def asking(self, authorization: Sequence[str]) -> Iterator[None]:
        """While the service database is asked whose a request is: that is the one thing that everybody needs.

        Who is known by exactly this header takes no more than a device's share of it, and all strangers together no
        more than a part. Raises `Problem` (429, 503).
        """
        key = _key(authorization) or hash(tuple(authorization))
        known = key in self._known
        if self._asking[key] >= self.bounds.device_requests:
            raise too_many("asking")
        if not known and self._strangers >= max(
            self.bounds.device_requests, int(self.bounds.requests * _FOR_STRANGERS)
        ):
            raise busy("strangers")
        self._asking[key] += 1
        self._strangers += not known
        try:
            yield
        except Problem as problem:
            if problem.status == 401:
                self._known.pop(key, None)
            raise
        else:
            self._known[key] = None
            self._known.move_to_end(key)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        finally:
            self._strangers -= not known
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key]

    def pause(self, authorization: Sequence[str]) -> float:
        """Seconds to wait before telling somebody to come later: none at first, but one who comes at once again.

        That may be a PouchDB: of two thousand that back off one begins with a pause of 1 ms and never gets beyond.
        """
        key = str(hash(tuple(authorization)))
        seconds = _PAUSE if self._refusals.wait(key, 1) else 0.0
        self._refusals.take(key, 1)
        return seconds

    def identify(self, ticket: Ticket, principal: Principal) -> None:
        """The request is this device's. Raises `Problem` (429) if it had too much."""
        device, person = principal.device_id, principal.person_id
        for open_one in self._tickets.get(device, ()):
            self._charge(open_one)
        keys = (device, person)
        for buckets, amount, rule in (
            (self._rates, 1, "requests_per_minute"),
            (self._volumes, 0, "bytes"),
            (self._decoding, 0, "decoding"),
        ):
            seconds = max(bucket.wait(key, amount) for bucket, key in zip(buckets, keys, strict=True))
            if seconds > 0:
                raise too_many(rule, math.ceil(seconds))
        self._take(self._rates, principal, 1)
        ticket.principal = principal
        self._tickets.setdefault(device, set()).add(ticket)
        for count in self._counts(principal):
            count.requests += 1

    @asynccontextmanager
    async def person_turn(self, ticket: Ticket) -> AsyncIterator[bool]:
        """One of the places of the person whose the request is, once it is free; whether it was not free at once.

        Who waits here does not count among those that are being answered. Raises `Problem` (429, 503).
        """
        if ticket.principal is None:
            raise RuntimeError("a turn is somebody's")
        person = ticket.principal.person_id
        waits = self.persons_queues.full(person)
        async with AsyncExitStack() as held:
            self.requests -= waits
            try:
                await held.enter_async_context(self.persons_queues.turn(person))
            finally:
                self.requests += waits
            if waits and self.requests > self.bounds.requests:
                raise busy("requests")
            yield waits

    def becomes_feed(self, ticket: Ticket) -> None:
        """The request is a feed. Raises `Problem`: 429 for too many of a device or person, 503 for too many."""
        principal, bounds = ticket.principal, self.bounds
        if principal is None:
            raise RuntimeError("a feed is somebody's")
        of_device, of_person = self._counts(principal)
        if of_device.feeds >= bounds.device_feeds:
            raise too_many("device_feeds")
        if of_person.feeds >= max(bounds.person_requests * _FEEDS_OF_A_PERSON, bounds.device_feeds):
            raise too_many("person_feeds")
        if self.feeds >= bounds.feeds:
            raise busy("feeds")
        if self.connections() > bounds.connections * _CONNECTIONS_FOR_FEEDS:
            raise busy("connections")
        ticket.feed = True
        self.requests -= 1
        self.feeds += 1
        of_device.feeds += 1
        of_person.feeds += 1

    def _counts(self, principal: Principal) -> tuple[_Count, _Count]:
        return (
            self._devices.setdefault(principal.device_id, _Count()),
            self._persons.setdefault(principal.person_id, _Count()),
        )

    def _leave(self, ticket: Ticket) -> None:
        if ticket.feed:
            self.feeds -= 1
        else:
            self.requests -= 1
        self._charge(ticket)
        if ticket.principal is None:
            return
        device, person = ticket.principal.device_id, ticket.principal.person_id
        for counts, key in ((self._devices, device), (self._persons, person)):
            count = counts[key]
            count.requests -= 1
            count.feeds -= ticket.feed
            if not count.requests:
                del counts[key]
        self._tickets[device].discard(ticket)
        if not self._tickets[device]:
            del self._tickets[device]

    def _charge(self, ticket: Ticket) -> None:
        """Put what was sent since the last time, as it was before compression, on the account of whose it is."""
        sent, received, saved = ticket.new_bytes()
        if sent:
            self.sent(sent)
        if ticket.principal is not None and sent + received:
            self._take(self._volumes, ticket.principal, sent + received + saved)

    async def decode(self, principal: Principal, piece: Callable[[], _Result], *, small: bool) -> _Result:
        """Do a piece of work on the event loop for this device, when it is its turn; it pays for the time."""

        def paid(seconds: float) -> None:
            self._take(self._decoding, principal, seconds)

        if small:
            return self.turns.now(piece, paid)
        return await self.turns.work(principal.person_id, piece, paid)

    def _take(self, buckets: tuple[Buckets, Buckets], principal: Principal, amount: float) -> None:
        for bucket, key in zip(buckets, (principal.device_id, principal.person_id), strict=True):
            bucket.take(key, amount)


def _key(authorization: Sequence[str]) -> int | None:
    """What stands for a credential, however its header is written; None if there is none."""
    name, secret = basic.name_and_secret(list(authorization))
    return hash((name, secret)) if name else None


def _large(request: web.Request) -> bool:
    """Whether this holds much memory while it waits: some of its body is here, or it has a long head."""
    head = len(request.raw_path) + sum(len(name) + len(value) for name, value in request.raw_headers)
    return request.can_read_body or head > _SMALL_HEAD


class Ticket:
    """One request that was admitted."""

    def __init__(self, limits: Limits, request: web.Request) -> None:
        self._limits = limits
        self._request = request
        self._sent = 0
        self._received = 0
        self._saved = 0
        self.principal: Principal | None = None
        self.feed = False

    def identify(self, principal: Principal) -> None:
        """See `Limits.identify`."""
        self._limits.identify(self, principal)

    def person_turn(self) -> AbstractAsyncContextManager[bool]:
        """See `Limits.person_turn`."""
        return self._limits.person_turn(self)

    def becomes_feed(self) -> None:
        """See `Limits.becomes_feed`."""
        self._limits.becomes_feed(self)

    async def decode(self, piece: Callable[[], _Result], *, small: bool) -> _Result:
        """See `Limits.decode`."""
        if self.principal is None:
            raise RuntimeError("a body is somebody's")
        return await self._limits.decode(self.principal, piece, small=small)

    def new_bytes(self) -> tuple[int, int, int]:
        """How much was sent, received, and saved by compression since this was asked last."""
        sent, received = self._request.writer.output_size, self._request.content.total_bytes
        saved = max(self._request.get(SAVED, 0), self._saved)
        new = sent - self._sent, received - self._received, saved - self._saved
        self._sent, self._received, self._saved = sent, received, saved
        return new
