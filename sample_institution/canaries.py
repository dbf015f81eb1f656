"""Strings that must never reach a device: confidential columns carry them, so that a leak shows at once."""

from __future__ import annotations

PREFIX = "CANARY-"


def canary(column: str, number: int | str) -> str:
    """A recognisable value for a confidential column, the same in every fill."""
    return f"{PREFIX}{column}-{number}"
