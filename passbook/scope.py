"""Scope: which clients, which document types, since when, for this person. One function, and it fails closed.

The worker, the verifier and the administrator's preview all call `scope_of`; nothing else decides what a device
may hold.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

PERMISSIONS = ("profile", "image", "loans", "schedules", "savings", "charges", "transactions")

#: What a document type needs. Details of an account need the account itself: a schedule without its loan, or
#: charges without the account they are on, are of no use and would only leak that the account exists.
NEEDS: dict[str, frozenset[str]] = {
    "client": frozenset({"profile"}),
    "client_image": frozenset({"image"}),
    "client_charges": frozenset({"charges"}),
    "client_transactions": frozenset({"transactions"}),
    "loan": frozenset({"loans"}),
    "loan_schedule": frozenset({"loans", "schedules"}),
    "loan_charges": frozenset({"loans", "charges"}),
    "loan_transactions": frozenset({"loans", "transactions"}),
    "savings": frozenset({"savings"}),
    "savings_charges": frozenset({"savings", "charges"}),
    "savings_transactions": frozenset({"savings", "transactions"}),
}


def type_of(document_id: str) -> str:
    """Document type by id: `loan:7:transactions:2026` is `loan_transactions`."""
    owner, _, rest = document_id.partition(":")
    detail = rest.split(":")[1] if ":" in rest else ""
    return f"{owner}_{detail}" if detail else owner


@dataclass(frozen=True)
class Scope:
    """What one person's devices may hold."""

    clients: frozenset[int]
    permissions: frozenset[str]
    types: frozenset[str]
    #: First day of the transactions sent; None for all.
    since: date | None

    def allows(self, client_id: int, document_type: str) -> bool:
        """Whether a document of this type about this client belongs to this person's database."""
        return client_id in self.clients and document_type in self.types


NOTHING = Scope(frozenset(), frozenset(), frozenset(), None)


def scope_of(
    *,
    state: str,
    clients: Collection[int],
    permissions: Collection[str],
    history_from: date | None,
    history_months: int | None,
    today: date,
) -> Scope:
    """The scope of a person, from their row and their mappings. `today` is the institution's day.

    Nothing for a person on the way out or in a state this release does not know; a suspended person keeps the
    scope (the gateway keeps the devices out), so that restoring them costs no new synchronisation. Permissions
    that are not known count for nothing.
    """
    if state not in ("active", "suspended"):
        return NOTHING
    granted = frozenset(permissions) & frozenset(PERMISSIONS)
    types = frozenset(kind for kind, needed in NEEDS.items() if needed <= granted)
    window = [day for day in (history_from, _months_back(today, history_months)) if day is not None]
    return Scope(frozenset(clients), granted, types, max(window) if window else None)


def _months_back(today: date, months: int | None) -> date | None:
    """The first day of the month `months` months ago: moves once a month, so pages are not rewritten daily."""
    if months is None:
        return None
    count = today.year * 12 + today.month - 1 - months
    return date(max(count // 12, 1), count % 12 + 1, 1) if count >= 12 else date.min
