"""Charging a loan: at its opening, by the nightly penalty job, or by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sample_institution import loans
from sample_institution.canaries import canary
from sample_institution.desk import stamps
from sample_institution.loans import Loan
from sample_institution.money import HUNDRED, ZERO, rounded
from sample_institution.products import FLAT_AMOUNT, PERCENT
from sample_institution.rows.loans import InstalmentChargeRow, InstalmentRow, LoanChargeRow


@dataclass(frozen=True, slots=True)
class Definition:
    """What a charge is made from; `stated` is an amount or per cent."""

    id: int
    time: int
    calculation: int
    penalty: bool
    stated: Decimal


def charge_loan(
    loan: Loan, definition: Definition, due: date | None, on: date, *, active: bool = True
) -> LoanChargeRow:
    """Add a charge row and what follows from it on the schedule."""
    base: Decimal | None = None
    if definition.calculation == FLAT_AMOUNT:
        amount = definition.stated
    else:
        base = loan.row.principal_amount
        if definition.calculation != PERCENT:
            base += sum((one.interest_amount for one in loan.instalments), ZERO)
        amount = rounded(base * definition.stated / HUNDRED, loan.row.currency_digits)
    if definition.time == loans.PER_INSTALMENT:
        amount *= len(loan.instalments)
    number = loan.desk.ids.new(LoanChargeRow.table)
    charge = LoanChargeRow(
        id=number,
        loan_id=loan.row.id,
        charge_id=definition.id,
        is_penalty=definition.penalty,
        charge_time_enum=definition.time,
        due_for_collection_as_of_date=due,
        charge_calculation_enum=definition.calculation,
        calculation_percentage=None if base is None else definition.stated,
        calculation_on_amount=base,
        charge_amount_or_percentage=definition.stated,
        amount=amount,
        amount_outstanding_derived=amount,
        submitted_on_date=on,
        is_active=active,
        external_id=canary("loan-charge", number),
        **stamps(loan.desk, on),
    )
    loan.charges.append(charge)
    if active:
        _claim(loan, charge, definition.stated)
    return charge


def _claim(loan: Loan, charge: LoanChargeRow, each: Decimal) -> None:
    row, kind = loan.row, charge.charge_time_enum
    if kind in loans.DUE_AT_DISBURSEMENT:
        due = row.total_charges_due_at_disbursement_derived or ZERO
        row.total_charges_due_at_disbursement_derived = due + charge.amount
        row.net_disbursal_amount -= charge.amount
    elif kind == loans.PER_INSTALMENT:
        for instalment in loan.instalments:
            part = InstalmentChargeRow(
                id=loan.desk.ids.new(InstalmentChargeRow.table),
                loan_charge_id=charge.id,
                loan_schedule_id=instalment.id,
                due_date=instalment.duedate,
                amount=each,
                amount_outstanding_derived=each,
            )
            loan.instalment_charges.append(part)
            loan.add_claim(charge, instalment, part)
    else:
        loan.add_claim(charge, holder(loan, charge), None)


def holder(loan: Loan, charge: LoanChargeRow) -> InstalmentRow:
    """The instalment that asks for the charge; one is added after the term if the charge is due later."""
    due, last = charge.due_for_collection_as_of_date, loan.instalments[-1]
    if due is None or due <= last.duedate:
        return loan.instalment_on(due)
    if last.is_additional:
        last.duedate = due
        return last
    (extra,) = instalments(loan, last.duedate, [due])
    extra.installment = last.installment + 1
    extra.is_additional = True
    loan.instalments.append(extra)
    return extra


def instalments(loan: Loan, start: date, dues: Sequence[date]) -> list[InstalmentRow]:
    """Empty instalments for the given due dates."""
    on = loan.row.submittedon_date
    made, previous = [], start
    for number, due in enumerate(dues, start=1):
        made.append(
            InstalmentRow(
                id=loan.desk.ids.new(InstalmentRow.table),
                loan_id=loan.row.id,
                fromdate=previous,
                duedate=due,
                installment=number,
                **stamps(loan.desk, on),
            )
        )
        previous = due
    return made
