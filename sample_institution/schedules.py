"""Repayment schedules: what is due when, for flat and declining interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sample_institution.calendars import MONTHS, step
from sample_institution.money import HUNDRED, ONE, ZERO, rounded

DECLINING = 0
FLAT = 1
EQUAL_PRINCIPAL = 0
EQUAL_INSTALMENTS = 1

_PERIODS_PER_YEAR = {1: Decimal(52), 2: Decimal(12)}  # weeks, months


@dataclass(frozen=True, slots=True)
class Terms:
    """What a schedule is computed from. Rates are per cent per year; graces count instalments."""

    annual_rate: Decimal
    method: int
    amortization: int
    instalments: int
    every: int
    frequency: int
    digits: int
    principal_grace: int = 0
    interest_grace: int = 0
    interest_free: int = 0

    @property
    def rate_per_period(self) -> Decimal:
        """The rate of one instalment period as a fraction."""
        return self.annual_rate / HUNDRED * self.every / _PERIODS_PER_YEAR[self.frequency]

    @property
    def rate_per_month(self) -> Decimal:
        """The nominal rate as the product states it: per cent per month."""
        return rounded(self.annual_rate / 12, 6)

    def due_dates(self, start: date) -> list[date]:
        """The due dates of all instalments of a loan paid out on `start`."""
        return [step(start, self.every, self.frequency, number) for number in range(1, self.instalments + 1)]


@dataclass(slots=True)
class Due:
    """Principal and interest of one instalment."""

    principal: Decimal
    interest: Decimal


def split(amount: Decimal, parts: int, digits: int) -> list[Decimal]:
    """`amount` in `parts` equal parts; the last one carries the rounding."""
    each = rounded(amount / parts, digits)
    return [*([each] * (parts - 1)), amount - each * (parts - 1)]


def plan(principal: Decimal, terms: Terms, periods: int) -> list[Due]:
    """Principal and interest of `periods` instalments for `principal`.

    Interest that falls into a grace on interest is carried to the first instalment after it; interest-free
    instalments bear none; a grace on principal moves repayment of principal to the instalments after it.
    """
    grace = min(terms.principal_grace, periods - 1)
    paying = periods - grace
    interest = _flat_interest(principal, terms, periods)
    if terms.method == FLAT or terms.amortization == EQUAL_PRINCIPAL:
        principals = [ZERO] * grace + split(principal, paying, terms.digits)
        if terms.method == DECLINING:
            interest = _declining_interest(principal, principals, terms)
    else:
        principals, interest = _annuity(principal, terms, grace, paying)
    _carry_over(interest, min(terms.interest_grace, periods - 1))
    return [Due(part, cost) for part, cost in zip(principals, interest, strict=True)]


def _flat_interest(principal: Decimal, terms: Terms, periods: int) -> list[Decimal]:
    bearing = max(periods - terms.interest_free, 0)
    total = rounded(principal * terms.rate_per_period * bearing, terms.digits)
    return [ZERO] * (periods - bearing) + (split(total, bearing, terms.digits) if bearing else [])


def _declining_interest(principal: Decimal, principals: Sequence[Decimal], terms: Terms) -> list[Decimal]:
    balance, rate, interest = principal, terms.rate_per_period, []
    for number, part in enumerate(principals):
        interest.append(rounded(balance * rate, terms.digits) if number >= terms.interest_free else ZERO)
        balance -= part
    return interest


def _annuity(principal: Decimal, terms: Terms, grace: int, paying: int) -> tuple[list[Decimal], list[Decimal]]:
    rate = terms.rate_per_period
    instalment = rounded(principal * rate / (ONE - (ONE + rate) ** -paying), terms.digits)
    principals, interest, balance = [], [], principal
    for number in range(grace + paying):
        cost = rounded(balance * rate, terms.digits) if number >= terms.interest_free else ZERO
        if number < grace:
            part = ZERO
        elif number == grace + paying - 1:
            part = balance
        else:
            part = min(max(instalment - cost, ZERO), balance)
        principals.append(part)
        interest.append(cost)
        balance -= part
    return principals, interest


def _carry_over(interest: list[Decimal], grace: int) -> None:
    if grace:
        interest[grace] += sum(interest[:grace], ZERO)
        interest[:grace] = [ZERO] * grace


def monthly(terms: Terms) -> bool:
    """Whether instalments fall due by the month."""
    return terms.frequency == MONTHS
