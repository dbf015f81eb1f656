"""What Fineract derives on a loan from its schedule, charges and transactions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sample_institution.loan_replay import booking_order
from sample_institution.loans import (
    ACCRUAL,
    ACTIVE,
    CHARGEBACK,
    CREDIT_BALANCE_REFUND,
    DISBURSEMENT,
    DUE_AT_DISBURSEMENT,
    OVERPAID,
    REPAID,
    Loan,
)
from sample_institution.money import ZERO
from sample_institution.rows.loans import ArrearsRow

_SETTLING = frozenset({ACTIVE, REPAID, OVERPAID})


def derive(loan: Loan) -> None:
    """Fill the totals of m_loan and the running balance of every transaction."""
    if loan.row.disbursedon_date is not None:
        _running_balances(loan)
        _summary(loan)


def settle_status(loan: Loan, on: date) -> None:
    """Active, repaid or overpaid, by what is owed now; call after `derive`."""
    row = loan.row
    if row.loan_status_id not in _SETTLING:
        return
    if row.total_overpaid_derived and not row.total_outstanding_derived:
        if row.loan_status_id != OVERPAID:
            row.loan_status_id, row.overpaidon_date = OVERPAID, on
        row.closedon_date = row.closedon_userid = None
    elif not row.total_outstanding_derived:
        if row.loan_status_id != REPAID:
            row.loan_status_id, row.closedon_date = REPAID, on
            row.closedon_userid = loan.desk.user
        row.maturedon_date = row.closedon_date
        row.overpaidon_date = None
    else:
        row.loan_status_id = ACTIVE
        row.closedon_date = row.closedon_userid = row.overpaidon_date = None
        row.maturedon_date = loan.instalments[-1].duedate
        row.total_overpaid_derived = None


def arrears(loan: Loan, today: date) -> ArrearsRow | None:
    """The m_loan_arrears_aging row of an active loan with an unpaid instalment due before `today`."""
    late = [one for one in loan.instalments if one.duedate < today and not one.completed_derived]
    if loan.row.loan_status_id != ACTIVE or not late:
        return None
    principal = sum((one.principal_due for one in late), ZERO)
    interest = sum((one.interest_due for one in late), ZERO)
    fees = sum((one.fees_due for one in late), ZERO)
    penalties = sum((one.penalties_due for one in late), ZERO)
    return ArrearsRow(
        loan_id=loan.row.id,
        principal_overdue_derived=principal,
        interest_overdue_derived=interest,
        fee_charges_overdue_derived=fees,
        penalty_charges_overdue_derived=penalties,
        total_overdue_derived=principal + interest + fees + penalties,
        overdue_since_date_derived=late[0].duedate,
    )


def _running_balances(loan: Loan) -> None:
    """Principal outstanding after each standing transaction; accruals have none."""
    balance = ZERO
    for one in sorted(loan.transactions, key=booking_order):
        kind = one.transaction_type_enum
        if one.is_reversed or kind == ACCRUAL:
            continue
        if kind == DISBURSEMENT:
            balance += one.amount - (one.overpayment_portion_derived or ZERO)
        elif kind in (CHARGEBACK, CREDIT_BALANCE_REFUND):
            balance += one.principal_portion_derived or ZERO
        else:
            balance = max(balance - (one.principal_portion_derived or ZERO), ZERO)
        one.outstanding_loan_balance_derived = balance


def _summary(loan: Loan) -> None:
    row = loan.row
    principal = interest = fees = penalties = ZERO
    paid = [ZERO] * 4
    waived = [ZERO] * 2  # interest, penalties: fees waived come from the charges
    written_off = [ZERO] * 4
    credited = ZERO
    for one in loan.instalments:
        interest += one.interest_amount
        fees += one.fee_charges_amount
        penalties += one.penalty_charges_amount
        credited += one.credits_amount or ZERO
        paid[0] += one.principal_completed_derived
        paid[1] += one.interest_completed_derived
        paid[2] += one.fee_charges_completed_derived
        paid[3] += one.penalty_charges_completed_derived
        waived[0] += one.interest_waived_derived
        waived[1] += one.penalty_charges_waived_derived
        written_off[0] += one.principal_writtenoff_derived
        written_off[1] += one.interest_writtenoff_derived
        written_off[2] += one.fee_charges_writtenoff_derived
        written_off[3] += one.penalty_charges_writtenoff_derived
    fees_waived = ZERO
    for charge in loan.charges:
        if charge.is_active and charge.charge_time_enum in DUE_AT_DISBURSEMENT:
            paid[2] += charge.amount_paid_derived
        if charge.is_active and not charge.is_penalty:
            fees_waived += charge.amount_waived_derived
    fees += row.total_charges_due_at_disbursement_derived or ZERO
    principal = row.principal_amount

    row.principal_disbursed_derived = principal
    row.principal_adjustments_derived = credited
    row.principal_repaid_derived = paid[0]
    row.principal_writtenoff_derived = written_off[0]
    row.principal_outstanding_derived = principal + credited - paid[0] - written_off[0]
    row.interest_charged_derived = interest
    row.interest_repaid_derived = paid[1]
    row.interest_waived_derived = waived[0]
    row.interest_writtenoff_derived = written_off[1]
    row.interest_outstanding_derived = interest - paid[1] - waived[0] - written_off[1]
    row.fee_charges_charged_derived = fees
    row.fee_charges_repaid_derived = paid[2]
    row.fee_charges_waived_derived = fees_waived
    row.fee_charges_writtenoff_derived = written_off[2]
    row.fee_charges_outstanding_derived = fees - paid[2] - fees_waived - written_off[2]
    row.penalty_charges_charged_derived = penalties
    row.penalty_charges_repaid_derived = paid[3]
    row.penalty_charges_waived_derived = waived[1]
    row.penalty_charges_writtenoff_derived = written_off[3]
    row.penalty_charges_outstanding_derived = penalties - paid[3] - waived[1] - written_off[3]
    row.total_expected_costofloan_derived = interest + fees + penalties
    row.total_expected_repayment_derived = principal + row.total_expected_costofloan_derived
    row.total_costofloan_derived = paid[1] + paid[2] + paid[3]
    row.total_repayment_derived = paid[0] + row.total_costofloan_derived
    row.total_waived_derived = waived[0] + fees_waived + waived[1]
    row.total_writtenoff_derived = sum(written_off, ZERO)
    row.total_outstanding_derived = (
        row.principal_outstanding_derived
        + row.interest_outstanding_derived
        + row.fee_charges_outstanding_derived
        + row.penalty_charges_outstanding_derived
    )
    row.total_overpaid_derived = overpaid(loan) or None


def overpaid(loan: Loan) -> Decimal:
    """Money received beyond the debt and not paid back."""
    total = ZERO
    for one in loan.transactions:
        if not one.is_reversed and one.overpayment_portion_derived:
            refund = one.transaction_type_enum == CREDIT_BALANCE_REFUND
            total += -one.overpayment_portion_derived if refund else one.overpayment_portion_derived
    return total
