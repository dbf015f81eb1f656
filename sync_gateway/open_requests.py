"""Every request that is being answered, by whose it is, so that it can be broken off the moment access ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from sync_gateway.credentials import Principal


@dataclass(eq=False)
class OpenRequest:
    """A request that is being answered."""

    device: str
    person: str
    expires_at: datetime
    task: asyncio.Task[object]
    request: web.Request
    #: `longpoll`, `continuous`, or empty for one that ends by itself.
    feed: str


class OpenRequests:
    """The open requests of one process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._of_device: dict[str, set[OpenRequest]] = {}
        self._of_person: dict[str, set[OpenRequest]] = {}
        self.feeds: Counter[str] = Counter()
        #: How many were broken off, by reason.
        self.cuts: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(len(requests) for requests in self._of_device.values())

    @contextmanager
    def entered(self, principal: Principal, request: web.Request, feed: str) -> Iterator[OpenRequest]:
        """For as long as the request is being answered by the current task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered by a task")
        one = OpenRequest(principal.device_id, principal.person_id, principal.expires_at, task, request, feed)
        self._of_device.setdefault(one.device, set()).add(one)
        self._of_person.setdefault(one.person, set()).add(one)
        if feed:
            self.feeds[feed] += 1
        try:
            yield one
        finally:
            for index, key in ((self._of_device, one.device), (self._of_person, one.person)):
                index[key].discard(one)
                if not index[key]:
                    del index[key]
            if feed:
                self.feeds[feed] -= 1

    def devices(self) -> list[str]:
        """Devices with an open request."""
        return list(self._of_device)

    def devices_of(self, person: str) -> list[str]:
        """Devices of a person with an open request."""
        return list({one.device for one in self._of_person.get(person, ())})

    def expired(self, now: datetime) -> list[str]:
        """Devices with an open request whose credential was to expire by now."""
        return [
            device for device, requests in self._of_device.items() if any(one.expires_at <= now for one in requests)
        ]

    def count(self, device: str, person: str) -> tuple[int, int]:
        """How many requests of the device, and of the person, are open."""
        return len(self._of_device.get(device, ())), len(self._of_person.get(person, ()))

    def prolong(self, device: str, expires_at: datetime) -> None:
        """The device's credential is good for longer than was known."""
        for one in self._of_device.get(device, ()):
            one.expires_at = expires_at

    def cut(self, devices: Iterable[str], reason: str) -> int:
        """Break off every open request of these devices; how many.

        The connection is torn: an orderly end would make half an answer look whole, and one to a client that
        never reads would never end.
        """
        count = 0
        for device in devices:
            for one in list(self._of_device.get(device, ())):
                if one.request.transport is not None:
                    one.request.transport.abort()
                one.task.cancel()
                count += 1
        self.cuts[reason] += count
        return count
