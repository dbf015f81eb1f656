"""How loans go, and how often."""

from __future__ import annotations

from enum import StrEnum


class Plot(StrEnum):
    """How the loan goes."""

    PENDING = "pending"
    APPROVED = "approved"
    WITHDRAWN = "withdrawn"
    REJECTED = "rejected"
    GOOD = "good"
    LATE = "late"
    ARREARS = "arrears"
    REPAID = "repaid"
    REPAID_EARLY = "repaid early"
    WRITTEN_OFF = "written off"
    RECOVERED = "recovered"
    RESCHEDULED = "rescheduled"
    OVERPAID = "overpaid"
    REFUNDED = "refunded"
    TRANSFER = "transfer"
    TRANSFER_ON_HOLD = "transfer on hold"


PLOTS = (
    *[Plot.GOOD] * 14,
    *[Plot.LATE] * 5,
    *[Plot.ARREARS] * 5,
    *[Plot.REPAID] * 5,
    *[Plot.REPAID_EARLY] * 2,
    Plot.PENDING,
    Plot.APPROVED,
    Plot.WITHDRAWN,
    Plot.REJECTED,
    Plot.WRITTEN_OFF,
    Plot.RECOVERED,
    Plot.RESCHEDULED,
    Plot.OVERPAID,
    Plot.REFUNDED,
)
"""One round of loans of active clients."""

Feature = str
FEATURES: tuple[frozenset[Feature], ...] = (
    frozenset(),
    frozenset(),
    frozenset({"visit"}),
    frozenset({"insurance"}),
    frozenset({"visit", "waive fee"}),
    frozenset({"visit", "pay fee"}),
    frozenset({"insurance", "reversed"}),
    frozenset({"waive interest"}),
    frozenset({"goodwill", "retired"}),
    frozenset({"total fee", "reversed"}),
    frozenset({"chargeback"}),
    frozenset({"waive penalty"}),
)
"""One round of what else happens to loans that are paid out."""

STOPS = frozenset({Plot.ARREARS, Plot.WRITTEN_OFF, Plot.RECOVERED, Plot.RESCHEDULED})
ENDS_WELL = frozenset({Plot.REPAID, Plot.OVERPAID, Plot.REFUNDED})
