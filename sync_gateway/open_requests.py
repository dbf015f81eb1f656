"""Every request that is being answered, by whose it is, so that it can be broken off the moment access ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from sync_gateway.credentials import Principal

#: Closing throws away what waits in the kernel, and the other side sees the connection torn.
_LINGER_NOT = struct.pack("ii", 1, 0)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(eq=False)
class OpenRequest:
    """A request that is being answered."""

    principal: Principal
    task: asyncio.Task[object]
    request: web.Request
    #: `longpoll`, `continuous`, or empty for one that ends by itself.
    feed: str

    def cut(self) -> None:
        """Tear the connection: an orderly end would make half an answer look whole, and to a client that never
        reads it would never come. Nor may what is on its way here still reach it."""
        transport = self.request.transport
        if transport is not None:
            with contextlib.suppress(OSError, AttributeError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()
        self.task.cancel()


class OpenRequests:
    """The open requests of one process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._of_device: dict[str, set[OpenRequest]] = {}
        self._of_person: dict[str, set[OpenRequest]] = {}
        #: No credential expires before.
        self._expiry = _NEVER
        self._none = asyncio.Event()
        self._none.set()
        self.feeds: Counter[str] = Counter()
        #: How many were broken off, by reason.
        self.cuts: Counter[str] = Counter()
        #: How often something was told about access. Who was admitted and finds it higher by the time the request
        #: stands here asks again: what was told in between could not break off what was not yet open.
        self.told = 0

    def __len__(self) -> int:
        return sum(len(requests) for requests in self._of_device.values())

    @contextmanager
    def entered(self, principal: Principal, request: web.Request, feed: str) -> Iterator[OpenRequest]:
        """For as long as the request is being answered by the current task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered by a task")
        one = OpenRequest(principal, task, request, feed)
        indexes = ((self._of_device, principal.device_id), (self._of_person, principal.person_id))
        for index, key in indexes:
            index.setdefault(key, set()).add(one)
        self._expiry = min(self._expiry, principal.expires_at)
        self._none.clear()
        if feed:
            self.feeds[feed] += 1
        try:
            yield one
        finally:
            for index, key in indexes:
                index[key].discard(one)
                if not index[key]:
                    del index[key]
            if feed:
                self.feeds[feed] -= 1
            if not self._of_device:
                self._none.set()

    def devices(self) -> list[str]:
        """Devices with an open request."""
        return list(self._of_device)

    def devices_of(self, person: str) -> list[str]:
        """Devices of a person with an open request."""
        return list({one.principal.device_id for one in self._of_person.get(person, ())})

    def expired(self, now: datetime) -> list[str]:
        """Devices with an open request whose credential was to expire by now."""
        if now < self._expiry:
            return []
        found = [one.principal for one in self._all() if one.principal.expires_at <= now]
        self._expiry = min((one.principal.expires_at for one in self._all()), default=_NEVER)
        return list({principal.device_id for principal in found})

    def unconfirmed(self, seconds: float) -> list[str]:
        """Devices with an open request of which nobody has been able to say for so long that they may."""
        since = time.monotonic() - seconds
        return list({one.principal.device_id for one in self._all() if one.principal.known_at < since})

    def confirm(self, principal: Principal) -> bool:
        """The device may go on, as this; False if what it has open began as somebody else's, or of another copy."""
        requests = self._of_device.get(principal.device_id, ())
        if any(not one.principal.same(principal) for one in requests):
            return False
        for one in requests:
            one.principal = principal
        self._expiry = min(self._expiry, principal.expires_at)
        return True

    def cut(self, devices: Iterable[str], reason: str, *, feed: str = "") -> int:
        """Break off every open request of these devices, or only the feeds of that kind; how many."""
        count = 0
        for device in devices:
            for one in list(self._of_device.get(device, ())):
                if not feed or one.feed == feed:
                    one.cut()
                    count += 1
        self.cuts[reason] += count
        return count

    async def ended(self, within: float) -> bool:
        """Wait until none is open; False if there are some after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()
        return self._none.is_set()

    def _all(self) -> Iterator[OpenRequest]:
        for requests in self._of_device.values():
            yield from requests
