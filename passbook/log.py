"""Structured logs on standard error: text for people, JSON for machines, never a secret.

Every entry says what happened (`event`) and has facts beside it. The redaction below is the net under the rule
that secrets are not logged in the first place.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

_SECRET_KEYS = re.compile(r"password|secret|authorization|token|cookie", re.IGNORECASE)
_URL_CREDENTIALS = re.compile(r"(\w+://)[^/\s:@]*:[^/\s@]+@")
_HIDDEN = "***"


def redact(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Blank the values of keys that name secrets, and credentials inside URLs."""
    for key, value in entry.items():
        if key != "event" and _SECRET_KEYS.search(key):
            entry[key] = _HIDDEN
        elif isinstance(value, str) and "://" in value:
            entry[key] = _URL_CREDENTIALS.sub(rf"\1{_HIDDEN}@", value)
    return entry


def configure(level: str, style: str) -> None:
    """Send logs of at least `level` to standard error, as `text` or `json`."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
