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

from passbook.addresses import HIDDEN, hide_credentials

_SECRET_KEYS = re.compile(r"password|secret|authorization|token|cookie", re.IGNORECASE)


def redact(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Blank the values of keys that name secrets, and credentials inside addresses, however deep."""
    return {key: HIDDEN if _SECRET_KEYS.search(key) else _redacted(value) for key, value in entry.items()}


def _redacted(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return hide_credentials(value)
        case Mapping():
            return {key: HIDDEN if _SECRET_KEYS.search(str(key)) else _redacted(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted(one) for one in value]
    return hide_credentials(repr(value))  # which is what the renderers would write


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
