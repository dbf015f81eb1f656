"""Projection of a loan's schedule, by the rules of the core: NULL amounts are zero, totals are sums of lines."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from projections import vocabulary
from projections.documents import SCHEMA, Currency, LoanSchedule
from projections.documents.loans import (
    Disbursement,
    Instalment,
    NextDue,
    PortionDue,
    PrincipalDue,
    ScheduleTotals,
    Totals,
)
from projections.money import Digits
from projections.rows import DisbursementRow, InstalmentRow, LoanAggregate, LoanRow

_PROGRESSIVE = "PROGRESSIVE"


class _Sum:
    """Running sums of one portion over the instalments: due, paid, waived, written off, outstanding."""

    __slots__ = ("due", "outstanding", "paid", "waived", "written_off")

    def __init__(self, zero: Decimal) -> None:
        self.due = self.paid = self.waived = self.written_off = self.outstanding = zero

    def add(self, due: Decimal, paid: Decimal, waived: Decimal, written_off: Decimal, outstanding: Decimal) -> None:
        self.due += due
        self.paid += paid
        self.waived += waived
        self.written_off += written_off
        self.outstanding += outstanding

    def portion(self) -> PortionDue:
        return PortionDue(
            due=self.due,
            paid=self.paid,
            waived=self.waived,
            written_off=self.written_off,
            outstanding=self.outstanding,
        )

    def principal(self) -> PrincipalDue:
        return PrincipalDue(
            due=self.due, paid=self.paid, written_off=self.written_off, outstanding=self.outstanding
        )


def next_due(aggregate: LoanAggregate, digits: Digits) -> NextDue | None:
    """The first instalment of an active loan on which something is still to pay, whatever day it is."""
    if aggregate.loan.status != vocabulary.LOAN_ACTIVE:
        return None
    for row in sorted(aggregate.instalments, key=lambda row: (row.due_date, row.number)):
        owed = _owed(row, digits)
        if not row.is_complete and owed > 0:
            return NextDue(on=row.due_date, amount=owed)
    return None


def _owed(row: InstalmentRow, digits: Digits) -> Decimal:
    due = (row.principal, row.interest, row.fees, row.penalties)
    settled = (
        *(row.principal_paid, row.interest_paid, row.fees_paid, row.penalties_paid),
        *(row.interest_waived, row.fees_waived, row.penalties_waived),
        *(row.principal_written_off, row.interest_written_off, row.fees_written_off, row.penalties_written_off),
    )
    return sum(map(digits, due), digits.zero) - sum(map(digits, settled), digits.zero)


def schedule(aggregate: LoanAggregate, currency: Currency, digits: Digits) -> LoanSchedule | None:
    """Document `loan:{id}:schedule`, or None for a loan without instalments."""
    if not aggregate.instalments:
        return None
    loan = aggregate.loan
    disbursements = _disbursements(aggregate, digits)
    instalments: list[Instalment] = []
    principal, interest, fees, penalties = (_Sum(digits.zero) for _ in range(4))
    rows = sorted(aggregate.instalments, key=lambda row: row.number)
    start = loan.disbursed_on or loan.expected_disbursed_on or rows[0].due_date
    pending = _covered(disbursements, rows, start, digits)
    progressive = (loan.schedule_type or "").upper() == _PROGRESSIVE
    balance = digits.zero
    days = 0
    for row in rows:
        begin = row.from_date or start
        while pending and _falls_before(pending[0][0], begin, row.due_date, progressive):
            balance += pending.pop(0)[1]
        line, balance = _instalment(row, begin, balance, digits, (principal, interest, fees, penalties))
        days += line.days
        instalments.append(line)
        start = row.due_date
    return LoanSchedule(
        schema=SCHEMA,
        client_id=loan.client_id,
        loan_id=loan.id,
        currency=currency,
        disbursements=disbursements,
        instalments=instalments,
        totals=_totals(days, disbursements, (principal, interest, fees, penalties), digits),
    )


def _covered(
    disbursements: list[Disbursement], rows: list[InstalmentRow], start: date, digits: Digits
) -> list[tuple[date, Decimal]]:
    """The pay-outs that this schedule repays, by date: those made, and of those to come as many as it reckons with.

    Fineract schedules the tranches to come for some products and not for others; the principal tells.
    """
    repaid = sum((digits(row.principal) - digits(row.credits) for row in rows), digits.zero)
    made = sum((line.principal for line in disbursements if line.disbursed), digits.zero)
    covered = []
    for line in disbursements:
        if not line.disbursed:
            if made >= repaid:
                continue
            made += line.principal
        covered.append((line.disbursed_on or line.expected_on or start, line.principal))
    return covered


def _falls_before(day: date, begin: date, due: date, progressive: bool) -> bool:
    """Whether a pay-out of `day` precedes the instalment of this period.

    One on the due date still belongs to the period, with a progressive schedule to the next one. A down payment
    begins and falls due on the day of its pay-out.
    """
    return day <= begin or (day < due if progressive else day <= due)


def _disbursements(aggregate: LoanAggregate, digits: Digits) -> list[Disbursement]:
    loan = aggregate.loan
    tranches = [row for row in aggregate.disbursements if not row.is_reversed]
    if tranches:
        rows = [row for row in sorted(tranches, key=_tranche_order) if _still_counts(row, loan)]
        lines = [_tranche(row, digits) for row in rows]
        places = {row.id: line for row, line in zip(rows, lines, strict=True)}
    else:
        lines, places = [_only_disbursement(loan, digits)], {}
    if lines:
        _add_fees(aggregate, lines, places, digits)
    return lines


def _only_disbursement(loan: LoanRow, digits: Digits) -> Disbursement:
    return Disbursement(
        principal=digits(loan.principal),
        fees=digits.zero,
        fees_paid=digits.zero,
        disbursed=loan.disbursed_on is not None,
        expected_on=loan.expected_disbursed_on,
        disbursed_on=loan.disbursed_on,
    )


def _add_fees(
    aggregate: LoanAggregate, lines: list[Disbursement], places: dict[int, Disbursement], digits: Digits
) -> None:
    """Put the fees at pay-out on their lines: a tranche's charges on the tranche, all others on the first pay-out.

    The core's total for the loan adds up all tranches, those to come and what was waived included
    (`Loan.deriveSumTotalOfChargesDueAtDisbursement`), so it counts only where there are no charges to look at.
    """
    first = lines[0]
    charges = [
        row for row in aggregate.charges if row.is_active and row.charge_time in vocabulary.CHARGES_AT_DISBURSEMENT
    ]
    if not charges:
        first.fees = digits(aggregate.loan.fees_at_disbursement)
        first.fees_paid = first.fees if first.disbursed else digits.zero
    for row in charges:
        line = first if row.tranche_id is None or not places else places.get(row.tranche_id)
        if line is not None:
            line.fees += digits(row.amount) - digits(row.waived) - digits(row.written_off)
            line.fees_paid += digits(row.paid)


def _tranche_order(row: DisbursementRow) -> tuple[date, int]:
    return row.disbursed_on or row.expected_on or date.max, row.id


def _still_counts(row: DisbursementRow, loan: LoanRow) -> bool:
    """A tranche that will not come any more: the loan is closed and it was never paid out."""
    return row.disbursed_on is not None or loan.closed_on is None


def _tranche(row: DisbursementRow, digits: Digits) -> Disbursement:
    return Disbursement(
        principal=digits(row.principal),
        fees=digits.zero,
        fees_paid=digits.zero,
        disbursed=row.disbursed_on is not None,
        expected_on=row.expected_on,
        disbursed_on=row.disbursed_on,
        net_amount=digits.optional(row.net_amount),
    )


def _instalment(
    row: InstalmentRow, begin: date, balance: Decimal, digits: Digits, sums: tuple[_Sum, _Sum, _Sum, _Sum]
) -> tuple[Instalment, Decimal]:
    p_due, p_paid, p_off = (
        digits(row.principal),
        digits(row.principal_paid),
        digits(row.principal_written_off),
    )
    principal = PrincipalDue(due=p_due, paid=p_paid, written_off=p_off, outstanding=p_due - p_paid - p_off)
    interest = _portion(
        row.interest, row.interest_paid, row.interest_waived, row.interest_written_off, digits, sums[1]
    )
    fees = _portion(row.fees, row.fees_paid, row.fees_waived, row.fees_written_off, digits, sums[2])
    penalties = _portion(
        row.penalties, row.penalties_paid, row.penalties_waived, row.penalties_written_off, digits, sums[3]
    )
    sums[0].add(p_due, p_paid, digits.zero, p_off, principal.outstanding)
    credited = digits(row.credits)
    all_credits = credited + digits(row.credited_fees) + digits(row.credited_penalties)
    balance = balance + credited - p_due
    line = Instalment(
        number=row.number,
        from_on=begin,
        due_on=row.due_date,
        days=(row.due_date - begin).days,
        principal=principal,
        interest=interest,
        fees=fees,
        penalties=penalties,
        total=Totals(
            due=p_due + interest.due + fees.due + penalties.due,
            paid=p_paid + interest.paid + fees.paid + penalties.paid,
            waived=interest.waived + fees.waived + penalties.waived,
            written_off=p_off + interest.written_off + fees.written_off + penalties.written_off,
            outstanding=principal.outstanding + interest.outstanding + fees.outstanding + penalties.outstanding,
        ),
        instalment=p_due + interest.due,
        balance_after=balance,
        paid_in_advance=digits(row.paid_in_advance),
        paid_late=digits(row.paid_late),
        complete=row.is_complete,
        completed_on=row.completed_on if row.is_complete else None,
        credits=all_credits or None,
        additional=row.is_additional or None,
        down_payment=row.is_down_payment or None,
    )
    return line, balance


def _portion(
    due: Decimal | None,
    paid: Decimal | None,
    waived: Decimal | None,
    written_off: Decimal | None,
    digits: Digits,
    into: _Sum,
) -> PortionDue:
    d, p, w, o = digits(due), digits(paid), digits(waived), digits(written_off)
    outstanding = d - p - w - o
    into.add(d, p, w, o, outstanding)
    return PortionDue(due=d, paid=p, waived=w, written_off=o, outstanding=outstanding)


def _totals(
    days: int, disbursements: list[Disbursement], sums: tuple[_Sum, _Sum, _Sum, _Sum], digits: Digits
) -> ScheduleTotals:
    principal, interest, fees, penalties = sums
    upfront = sum((line.fees for line in disbursements), digits.zero)
    upfront_paid = sum((line.fees_paid for line in disbursements), digits.zero)
    return ScheduleTotals(
        days=days,
        principal=principal.principal(),
        interest=interest.portion(),
        fees=fees.portion(),
        penalties=penalties.portion(),
        fees_at_disbursement=upfront,
        disbursed=sum((line.principal for line in disbursements if line.disbursed), digits.zero),
        expected=upfront + sum((part.due for part in sums), digits.zero),
        paid=upfront_paid + sum((part.paid for part in sums), digits.zero),
        waived=sum((part.waived for part in sums), digits.zero),
        written_off=sum((part.written_off for part in sums), digits.zero),
        outstanding=upfront - upfront_paid + sum((part.outstanding for part in sums), digits.zero),
    )
