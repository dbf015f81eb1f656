"""Devices that were good a moment ago: whom a gateway serves while the service database is away."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_gateway.credentials import Principal

#: Devices remembered at most.
_REMEMBERED = 100_000


class Known:
    """The devices that were good when the database was last asked, for `grace` seconds."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._known: OrderedDict[str, Principal] = OrderedDict()
        #: When something was last told about the access of these devices and people, and of everybody.
        self._told: OrderedDict[str, float] = OrderedDict()
        self._all_told = float("-inf")

    def remember(self, principal: Principal) -> None:
        """The database has just said that this one is good."""
        self._known[principal.device_id] = principal
        self._known.move_to_end(principal.device_id)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def renew(self, device_id: str, principal: Principal | None) -> None:
        """The database has said so of one that may be known; None that it is not good."""
        if principal is None:
            self._known.pop(device_id, None)
        elif device_id in self._known:
            self._known[device_id] = principal

    def get(self, device_id: str) -> Principal | None:
        """Who was good, whether or not that is still to be believed."""
        return self._known.get(device_id)

    def still_good(self, principal: Principal) -> bool:
        """Whether the grace lasts, nothing was told since, and the credential has not expired."""
        return (
            time.monotonic() - principal.known_at <= self.grace
            and self._believed(principal)
            and principal.expires_at > datetime.now(UTC)
        )

    def tell(self, kind: str, name: str) -> None:
        """Access of a device, a person, or (`kind` is `tenant`) everybody may have changed.

        What was known of them before is not believed any more, even if nobody can tell what is so now.
        """
        now = time.monotonic()
        if kind not in ("device", "person"):
            self._all_told = now
            self._known.clear()
            self._told.clear()
            return
        self._told[name] = now
        self._told.move_to_end(name)
        if len(self._told) > _REMEMBERED:
            self._all_told = max(self._all_told, self._told.popitem(last=False)[1])

    def until(self) -> datetime | None:
        """Until when one of them is served if the database is away from now on; None if there is none any more."""
        newest = time.monotonic() - self.grace
        found = False
        # The newest come last, or nearly so.
        for principal in reversed(self._known.values()):
            if principal.known_at > newest and self._believed(principal):
                newest, found = principal.known_at, True
        return datetime.now(UTC) + timedelta(seconds=newest + self.grace - time.monotonic()) if found else None

    def _believed(self, principal: Principal) -> bool:
        told = (self._told.get(name, self._all_told) for name in (principal.device_id, principal.person_id))
        return principal.known_at > max(self._all_told, *told)
