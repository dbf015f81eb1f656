"""`filter=_selector`: a feed of a part of the documents, chosen by what never changes in a document.

CouchDB would take any Mango selector. Two things speak against that. It evaluates the selector on every document
that is in the feed, and with lists in lists and patterns a short one keeps it busy for a long time. And a document
that stops fitting is never heard of again: a phone that selects `status: active` shows a closed loan as active for
ever. So a selector names fields that a document keeps for life, and compares them in ways that cost little. A
document that was taken away always fits: a phone must hear of that, whatever it selects.
"""

from __future__ import annotations

from typing import Any

from sync_gateway.answers import Problem
from sync_gateway.bodies import WantedIds

NAME = "_selector"
#: What a document keeps for as long as it is there.
FIELDS = frozenset(("_id", "type", "client_id", "loan_id", "savings_id", "period"))
_JOINING = frozenset(("$and", "$or", "$nor"))
_COMPARING = frozenset(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"))
_LISTING = frozenset(("$in", "$nin"))

MOST_CONDITIONS = 30
MOST_LISTED = 100  # values of one `$in`
DEEPEST = 5
LONGEST = 500  # characters of a text

_HOW = (
    f"A selector compares {', '.join(sorted(FIELDS))}, with "
    f"{', '.join(sorted(_COMPARING | _LISTING))}, $exists, joined by $and, $or, $nor, $not: "
    f"at most {MOST_CONDITIONS} conditions, {DEEPEST} deep, {MOST_LISTED} values in a list."
)


def applied(filtered: str, body: WantedIds | None) -> WantedIds | None:
    """What CouchDB is asked, for this value of `filter`. Raises `Problem` (400) for a selector out of bounds."""
    if filtered != NAME:
        # As CouchDB does: without the filter of its name it has no effect.
        return None if body is None else WantedIds(doc_ids=body.doc_ids)
    if body is None or body.selector is None:
        raise _refused("filter=_selector wants a POST whose body has a `selector`.")
    if not body.selector:
        return WantedIds(selector={})  # everything; within another selector it would be nothing
    _Checked().selector(body.selector, 1)
    return WantedIds(selector={"$or": [{"_deleted": True}, body.selector]})


class _Checked:
    """Counts the conditions of one selector while it looks at them."""

    def __init__(self) -> None:
        self._left = MOST_CONDITIONS

    def selector(self, selector: Any, depth: int) -> None:
        if not isinstance(selector, dict) or not selector or depth > DEEPEST:
            raise _refused(_HOW)
        for name, value in selector.items():
            if name in _JOINING:
                if not isinstance(value, list) or not value:
                    raise _refused(_HOW)
                for one in value:
                    self._one_more()
                    self.selector(one, depth + 1)
            elif name == "$not":
                self._one_more()
                self.selector(value, depth + 1)
            elif name in FIELDS:
                self._field(value)
            else:
                raise _refused(f"{_quoted(name)} is not served. {_HOW}")

    def _field(self, value: Any) -> None:
        if value == {}:
            raise _refused(_HOW)
        for name, operand in value.items() if isinstance(value, dict) else [("$eq", value)]:
            self._one_more()
            if name in _COMPARING:
                good = _plain(operand)
            elif name in _LISTING:
                good = isinstance(operand, list) and len(operand) <= MOST_LISTED and all(map(_plain, operand))
            elif name == "$exists":
                good = isinstance(operand, bool)
            else:
                raise _refused(f"{_quoted(name)} is not served. {_HOW}")
            if not good:
                raise _refused(_HOW)

    def _one_more(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _refused(_HOW)


def _plain(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and len(value) <= LONGEST)


def _quoted(name: str) -> str:
    return f"`{name[:40]}`"


def _refused(reason: str) -> Problem:
    return Problem(400, "bad_request", reason, code="selector_not_served")
