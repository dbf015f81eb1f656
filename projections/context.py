"""What a projection needs besides the client's own rows: currencies, rounding, and a place to note the unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from projections.documents.base import Currency
from projections.garbage import BadValue
from projections.money import DEFAULT_ROUNDING, Digits
from projections.rows import CurrencyRow


@dataclass
class Context:
    """Look-up data of the ledger, read once per pass, and the codes that were met but are not known.

    `currencies` holds one row per code; where the institution has set its own (`m_organisation_currency`), that
    one. `unknown` collects (column, code) pairs for the worker's metrics.
    """

    currencies: Mapping[str, CurrencyRow] = field(default_factory=dict)
    rounding: str = DEFAULT_ROUNDING
    #: The day the books are on, where the institution moves it itself.
    business_date: date | None = None
    unknown: set[tuple[str, int]] = field(default_factory=set)

    def account_currency(self, code: str, digits: int, where: str) -> tuple[Currency, Digits]:
        """Currency of an account, which carries its own digits: they can differ from the currency's usual ones."""
        known = self.currencies.get(code)
        symbol = (known.symbol if known else None) or code
        return Currency(code=code, digits=digits, symbol=symbol), Digits(digits, where, self.rounding)

    def plain_currency(self, code: str, where: str) -> tuple[Currency, Digits]:
        """Currency of a client charge or client transaction, which have no digits of their own."""
        known = self.currencies.get(code)
        if known is None:
            raise BadValue(where, f"currency {code!r} is in neither m_organisation_currency nor m_currency")
        return self.account_currency(code, known.digits, where)
