"""Which pages of browsers and hybrid apps may call gateway and auth service: the origins that the settings name.

A browser says of a refusal no more than that it happened, so a request from another origin leaves a line in the
log. Anybody can send any origin: the lines are few, however many there are.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from urllib.parse import urlsplit

import structlog

SETTING = "PASSBOOK_CORS_ORIGINS"

_TOLD_EVERY = 60.0  # seconds from one line to the next
_TOLD_AGAIN = 3_600.0  # seconds until the same origin is told of again
_REMEMBERED = 100
_SHOWN = 100  # characters of an origin
_UNPRINTABLE = re.compile(r"[^!-~]")
#: As a browser writes it: no path, no credentials. The schemes of hybrid apps count as well.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
#: Pages of these have no origin of their own that could be told from another's.
_NONE = ("about", "blob", "data", "file", "javascript")

log = structlog.get_logger()


def is_origin(text: str) -> bool:
    """Whether `text` is an origin that can be let in: scheme, host and port, with nothing after."""
    return _ORIGIN.fullmatch(text) is not None and text.partition(":")[0].lower() not in _NONE


class Origins:
    """The origins that are let in; and `own`, addresses whose own pages need no leave."""

    def __init__(self, listed: Iterable[str] = (), own: Iterable[str] = ()) -> None:
        self._listed = frozenset(origin.lower() for origin in listed)
        self._own = frozenset("{0.scheme}://{0.netloc}".format(urlsplit(url.lower())) for url in own if url)
        #: When each was last told of, the oldest first; and how many requests were not, since the last line.
        self._told: OrderedDict[str, float] = OrderedDict()
        self._told_at = -_TOLD_EVERY
        self._untold = 0

    @property
    def empty(self) -> bool:
        """Whether none is let in."""
        return not self._listed

    def __contains__(self, origin: str) -> bool:
        return origin.lower() in self._listed

    def note(self, origin: str, host: str) -> None:
        """Tell of a request with this `Origin` and `Host` if it is another's and not listed; seldom."""
        if not origin or origin in self or origin.lower() in self._own or origin.partition("://")[2] == host:
            return
        now = time.monotonic()
        shown = _UNPRINTABLE.sub("?", origin[:_SHOWN])
        before = self._told.get(shown)
        if now - self._told_at < _TOLD_EVERY or (before is not None and now - before < _TOLD_AGAIN):
            self._untold += 1
            return
        log.warning("origin_not_listed", origin=shown, setting=SETTING, others_since=self._untold)
        self._told_at, self._untold = now, 0
        self._told.pop(shown, None)
        self._told[shown] = now
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
