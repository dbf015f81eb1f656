"""Amounts and rates as text.

The ledger stores amounts as DECIMAL(19,6), already rounded to the digits of the account's currency; the rest is
padding. Every amount is rounded to those digits on the way in, so that the sums in a document always equal the
sum of its lines. Rounding follows the ledger's own setting (`rounding-mode`, half to even unless changed).
"""

from __future__ import annotations

from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    ROUND_UP,
    Decimal,
    InvalidOperation,
)

from projections.garbage import BadValue

#: DECIMAL(19,6) holds 13 digits before the point; anything beyond did not come from Fineract.
LIMIT = Decimal(10) ** 13
MOST_DIGITS = 6

#: The ledger's setting `rounding-mode`, by its number.
ROUNDING_MODES = {
    0: ROUND_UP,
    1: ROUND_DOWN,
    2: ROUND_CEILING,
    3: ROUND_FLOOR,
    4: ROUND_HALF_UP,
    5: ROUND_HALF_DOWN,
    6: ROUND_HALF_EVEN,
}
DEFAULT_ROUNDING = ROUND_HALF_EVEN

_ZERO = Decimal(0)


class Digits:
    """Amounts of one currency: `digits` places after the point.

    Calling it turns a stored amount (NULL counts as zero, facts of the ledger's schedule) into a `Decimal` with
    exactly that many places, which a document shows as text, for example `1250.50`.
    """

    __slots__ = ("_exponent", "_rounding", "_where", "zero")

    def __init__(self, digits: int, where: str, rounding: str = DEFAULT_ROUNDING) -> None:
        """`where` names the row in errors, for example `m_loan 12`. Raises `BadValue` for absurd digits."""
        if not 0 <= digits <= MOST_DIGITS:
            raise BadValue(where, f"currency digits {digits} are not between 0 and {MOST_DIGITS}")
        self._exponent = Decimal(1).scaleb(-digits)
        self._rounding = rounding
        self._where = where
        self.zero = _ZERO.quantize(self._exponent)

    def __call__(self, amount: Decimal | None) -> Decimal:
        """The amount in this currency's digits. Raises `BadValue` for NaN, infinity and amounts beyond range."""
        if not amount:
            return self.zero
        try:
            if -LIMIT < amount < LIMIT:
                # `or`: what rounds to zero from below would be "-0.00".
                return amount.quantize(self._exponent, self._rounding) or self.zero
        except InvalidOperation:
            pass
        raise BadValue(self._where, "an amount is not a number that DECIMAL(19,6) can hold")

    def optional(self, amount: Decimal | None) -> Decimal | None:
        """As the call, but None stays None."""
        return None if amount is None else self(amount)


def rate(value: Decimal | None, where: str) -> str | None:
    """A rate in per cent as decimal text without padding zeros: `12.5`. Raises `BadValue` if it is no number."""
    if value is None:
        return None
    if not value.is_finite() or abs(value) >= LIMIT:
        raise BadValue(where, "a rate is not a number that DECIMAL(19,6) can hold")
    return format(value.normalize(), "f") if value else "0"
