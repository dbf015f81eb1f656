"""Amounts: exact decimals, rounded the way the ledger rounds them before it stores them."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

ZERO = Decimal(0)
ONE = Decimal(1)
HUNDRED = Decimal(100)

_QUANTA = tuple(ONE.scaleb(-digits) for digits in range(7))


def rounded(amount: Decimal, digits: int) -> Decimal:
    """`amount` with the account's own number of decimals, HALF_EVEN as Fineract's default mode 6."""
    return amount.quantize(_QUANTA[digits], rounding=ROUND_HALF_EVEN)


def round_figure(amount: Decimal, step: Decimal) -> Decimal:
    """`amount` as people name it: the nearest multiple of `step`, at least one."""
    return max((amount / step).to_integral_value(rounding=ROUND_HALF_EVEN), ONE) * step
