"""What a device may write: a table of rules, the first that fits counts. There is none that admits anything yet.

A verdict falls on a document by its id alone, whatever else it has: revisions, `_deleted`, attachments, and whether
the batch says `new_edits: false`, which would let a device make up revisions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sync_gateway.answers import READ_ONLY


@dataclass(frozen=True)
class WriteRule:
    """Documents whose id fits `pattern` are refused for this reason, or admitted if there is none."""

    pattern: re.Pattern[str]
    refusal: str | None


#: A namespace that devices may write to is one line here, before the last.
RULES = (WriteRule(re.compile(r".*", re.DOTALL), READ_ONLY),)


def refusal(document: dict[str, Any], rules: Iterable[WriteRule] = RULES) -> str | None:
    """Why this document may not be written, or None if it may."""
    name = document.get("_id")
    if isinstance(name, str):
        for rule in rules:
            if rule.pattern.fullmatch(name):
                return rule.refusal
    return READ_ONLY  # without a good id, or one that no rule knows


def answers(documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As CouchDB answers documents that its validation does not let in: each by itself, the whole with 201.

    The status is for PouchDB, which would take an error without one for a 500.
    """
    refused = ((document.get("_id"), refusal(document)) for document in documents)
    return [
        {"id": name, "error": "forbidden", "reason": reason, "status": 403}
        for name, reason in refused
        if reason is not None
    ]
