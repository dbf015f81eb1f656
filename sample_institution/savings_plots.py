"""How savings accounts go, and how often."""

from __future__ import annotations

from enum import StrEnum


class SavingsPlot(StrEnum):
    """How the account goes."""

    PENDING = "pending"
    APPROVED = "approved"
    WITHDRAWN = "withdrawn"
    REJECTED = "rejected"
    ACTIVE = "active"
    BUSINESS = "business"
    HOLD = "hold"
    BLOCKED = "blocked"
    BLOCKED_CREDIT = "credits blocked"
    BLOCKED_DEBIT = "debits blocked"
    INACTIVE = "inactive"
    DORMANT = "dormant"
    CLOSED = "closed"
    TRANSFER = "transfer"
    TRANSFER_ON_HOLD = "transfer on hold"
    FIXED = "fixed"
    FIXED_MATURED = "fixed, matured"
    FIXED_BROKEN = "fixed, closed early"
    FIXED_PENDING = "fixed, pending"
    RECURRING = "recurring"
    RECURRING_MATURED = "recurring, matured"


BLOCKS = {SavingsPlot.BLOCKED: 400, SavingsPlot.BLOCKED_CREDIT: 500, SavingsPlot.BLOCKED_DEBIT: 600}

FIXED_PLOTS = frozenset(
    {SavingsPlot.FIXED, SavingsPlot.FIXED_MATURED, SavingsPlot.FIXED_BROKEN, SavingsPlot.FIXED_PENDING}
)
RECURRING_PLOTS = frozenset({SavingsPlot.RECURRING, SavingsPlot.RECURRING_MATURED})

SAVINGS_PLOTS = (
    *[SavingsPlot.ACTIVE] * 17,
    *[SavingsPlot.BUSINESS] * 4,
    *[SavingsPlot.HOLD] * 2,
    *[SavingsPlot.FIXED] * 2,
    *[SavingsPlot.RECURRING] * 2,
    SavingsPlot.BLOCKED,
    SavingsPlot.BLOCKED_CREDIT,
    SavingsPlot.BLOCKED_DEBIT,
    SavingsPlot.INACTIVE,
    SavingsPlot.DORMANT,
    SavingsPlot.PENDING,
    SavingsPlot.APPROVED,
    SavingsPlot.WITHDRAWN,
    SavingsPlot.REJECTED,
    SavingsPlot.CLOSED,
    SavingsPlot.FIXED_MATURED,
    SavingsPlot.FIXED_BROKEN,
    SavingsPlot.FIXED_PENDING,
    SavingsPlot.RECURRING_MATURED,
)
"""One round of the accounts of active clients."""

SAVINGS_FEATURES = (
    "",
    "",
    "activation annual",
    "monthly",
    "weekly",
    "withdrawal",
    "due",
    "due waived",
    "due unpaid",
    "due retired",
    "bounced",
    "no_activity",
    "mistake",
    "mistake contra",
    "accrual",
)
"""One round of what else happens: charges by key (see products), what becomes of them, mistakes, accruals."""
