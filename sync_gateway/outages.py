"""A server that is away, as the log tells it: once when it begins, now and then while it lasts, once at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from sqlalchemy.engine import URL

from passbook.addresses import hide_credentials
from passbook.database import shown

#: Seconds between two lines while the reason stays the same.
EVERY = 60.0
#: Seconds without a failure after which an answer is the end: while some succeed and others fail it goes on.
_SETTLED = 2.0
_LONGEST_REASON = 200

log = structlog.get_logger()


class Outage:
    """Whether one server answers. Everybody who asks it tells this what came of it, as often as they like."""

    def __init__(self, event: str, url: URL, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._url = url
        self._clock = clock
        self._since: float | None = None
        self._failed_at = float("-inf")
        self._failures = 0
        #: When each reason was last told.
        self._told: dict[str, float] = {}

    @property
    def lasts(self) -> bool:
        """Whether the server is away, as far as is known."""
        return self._since is not None

    def failed(self, error: BaseException | None = None) -> None:
        """The server did not answer: it said or did this, or nothing in time."""
        now = self._failed_at = self._clock()
        if self._since is None:
            self._since, self._failures = now, 0
        self._failures += 1
        reason = self.reason(error)
        if now - self._told.get(reason, float("-inf")) < EVERY:
            return
        self._told = {one: at for one, at in self._told.items() if now - at < EVERY} | {reason: now}
        log.error(
            self._event,
            server=shown(self._url),
            reason=reason,
            seconds=round(now - self._since, 1),
            failures=self._failures,
        )

    def answered(self) -> None:
        """The server answered."""
        if self._since is None:
            return
        now = self._clock()
        if now - self._failed_at < _SETTLED:
            return
        away, self._since = self._failed_at - self._since, None
        log.warning(f"{self._event}_over", server=shown(self._url), seconds=round(away, 1), failures=self._failures)

    def reason(self, error: BaseException | None) -> str:
        """The last line of what the driver says, without the password."""
        if error is None or not str(getattr(error, "orig", error)).strip():
            return "no answer" if error is None or isinstance(error, TimeoutError) else type(error).__name__
        lines = str(getattr(error, "orig", error)).strip().splitlines()
        said = hide_credentials(next((line for line in lines if "failed:" in line or "FATAL" in line), lines[0]))
        if self._url.password:
            said = said.replace(str(self._url.password), "***")
        return said.strip()[:_LONGEST_REASON]
