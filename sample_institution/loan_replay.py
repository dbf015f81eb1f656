"""Undoing and re-allocating the transactions of a loan.

When history changes (a payment is reversed, booked with an earlier date, or a charge is added) Fineract
clears the schedule and allocates all standing transactions again. One whose portions come out differently is
reversed and booked anew, the new row linked to the old one by relation type 3.
"""

from __future__ import annotations

from copy import copy
from datetime import date, datetime

from sample_institution.loans import (
    ALLOCATED,
    CHARGE_PAYMENT,
    DUE_AT_DISBURSEMENT,
    WAIVE_CHARGES,
    WAIVE_INTEREST,
    WRITE_OFF,
    Loan,
)
from sample_institution.money import ZERO
from sample_institution.rows.loans import (
    InstalmentChargeRow,
    LoanChargePaidByRow,
    LoanChargeRow,
    LoanRelationRow,
    LoanTransactionRow,
)

REPLAYED = 3  # m_loan_transaction_relation.relation_type_enum

_REPLAYED_TYPES = ALLOCATED | {CHARGE_PAYMENT, WAIVE_CHARGES, WAIVE_INTEREST, WRITE_OFF}

_SETTLED_COLUMNS = (
    "principal_completed_derived",
    "principal_writtenoff_derived",
    "interest_completed_derived",
    "interest_waived_derived",
    "interest_writtenoff_derived",
    "fee_charges_completed_derived",
    "fee_charges_waived_derived",
    "fee_charges_writtenoff_derived",
    "penalty_charges_completed_derived",
    "penalty_charges_waived_derived",
    "penalty_charges_writtenoff_derived",
    "total_paid_in_advance_derived",
    "total_paid_late_derived",
)

Target = tuple[LoanChargeRow, int]


def booking_order(transaction: LoanTransactionRow) -> tuple[date, datetime, int]:
    """The order in which Fineract reads transactions: date, creation, id."""
    return transaction.transaction_date, transaction.created_on_utc, transaction.id


def reverse(loan: Loan, transaction: LoanTransactionRow, on: date) -> list[LoanTransactionRow]:
    """Undo a payment: the row stays, marked, and the others are allocated again. Returns rows booked anew."""
    targets = _targets(loan)
    _mark_reversed(loan, transaction, on)
    transaction.manually_adjusted_or_reversed = True
    return _replay(loan, on, targets)


def replay(loan: Loan, on: date) -> list[LoanTransactionRow]:
    """Allocate all standing transactions again, in order. Returns rows booked anew."""
    return _replay(loan, on, _targets(loan))


def _replay(loan: Loan, on: date, targets: dict[int, Target]) -> list[LoanTransactionRow]:
    links_before = _reset(loan)
    renewed = []
    for old in sorted(loan.transactions, key=booking_order):
        if old.is_reversed or old.transaction_type_enum not in _REPLAYED_TYPES:
            continue
        trial = _again(loan, old, targets)
        if trial.amount == old.amount and trial.portions() == old.portions():
            continue
        _mark_reversed(loan, old, on, keep_links=True)
        if trial.amount:
            renewed.append(_book_anew(loan, old, trial, on))
    _keep_link_ids(loan, links_before)
    return renewed


def _mark_reversed(loan: Loan, row: LoanTransactionRow, on: date, *, keep_links: bool = False) -> None:
    row.is_reversed = True
    row.reversed_on_date = on
    row.last_modified_on_utc = loan.desk.instant(on)
    row.last_modified_by = loan.desk.user
    if not keep_links:
        loan.paid_by = [link for link in loan.paid_by if link.loan_transaction_id != row.id]


def _targets(loan: Loan) -> dict[int, Target]:
    """Which charge and instalment each charge payment or waiver was meant for."""
    charges = {charge.id: charge for charge in loan.charges}
    meant = {}
    for link in loan.paid_by:
        charge = charges[link.loan_charge_id]
        if charge.charge_time_enum not in DUE_AT_DISBURSEMENT:
            number = link.installment_number
            number = number or loan.instalment_on(charge.due_for_collection_as_of_date).installment
            meant[link.loan_transaction_id] = (charge, number)
    return meant


def _reset(loan: Loan) -> list[LoanChargePaidByRow]:
    """The schedule and charges as if nothing had been paid since disbursement; returns the links given up."""
    untouched = {charge.id for charge in loan.charges if charge.charge_time_enum in DUE_AT_DISBURSEMENT}
    given_up = [link for link in loan.paid_by if link.loan_charge_id not in untouched]
    loan.paid_by = [link for link in loan.paid_by if link.loan_charge_id in untouched]
    asked: list[LoanChargeRow | InstalmentChargeRow] = [one for one in loan.charges if one.id not in untouched]
    asked.extend(loan.instalment_charges)
    for row in asked:
        row.amount_paid_derived = row.amount_waived_derived = row.amount_writtenoff_derived = ZERO
        row.amount_outstanding_derived = row.amount
        row.is_paid_derived = row.waived = False
    for instalment in loan.instalments:
        for name in _SETTLED_COLUMNS:
            setattr(instalment, name, ZERO)
        nothing_due = not instalment.total_due
        instalment.completed_derived = nothing_due
        instalment.obligations_met_on_date = loan.row.disbursedon_date if nothing_due else None
    loan.index_claims()
    return given_up


def _keep_link_ids(loan: Loan, before: list[LoanChargePaidByRow]) -> None:
    """Links that come out as they were keep their ids."""
    ids = {(one.loan_transaction_id, one.loan_charge_id, one.installment_number): one.id for one in before}
    for link in loan.paid_by:
        key = (link.loan_transaction_id, link.loan_charge_id, link.installment_number)
        link.id = ids.pop(key, link.id)


def _again(loan: Loan, old: LoanTransactionRow, targets: dict[int, Target]) -> LoanTransactionRow:
    """A copy of `old` as it is allocated now; links made on the way carry its id."""
    trial = copy(old)
    trial.principal_portion_derived = trial.interest_portion_derived = None
    trial.fee_charges_portion_derived = trial.penalty_charges_portion_derived = None
    trial.overpayment_portion_derived = None
    kind = old.transaction_type_enum
    if kind == WAIVE_INTEREST:
        loan.apply_interest_waiver(trial)
    elif kind == WRITE_OFF:
        loan.apply_write_off(trial)
    elif kind in (CHARGE_PAYMENT, WAIVE_CHARGES):
        _aim(loan, trial, targets[old.id])
    else:
        loan.allocate(trial)
    return trial


def _aim(loan: Loan, trial: LoanTransactionRow, target: Target) -> None:
    """Settle the charge the transaction was meant for, as far as it is still open."""
    charge, number = target
    trial_amount, trial.amount = trial.amount, ZERO
    for instalment, claim in loan.claims_of(charge):
        if instalment.installment == number:
            trial.amount = min(trial_amount, claim.due)
            if trial.amount:
                loan.book_charge(trial, instalment, claim)


def _book_anew(loan: Loan, old: LoanTransactionRow, new: LoanTransactionRow, on: date) -> LoanTransactionRow:
    now = loan.desk.instant(on)
    new.id = loan.desk.ids.new(LoanTransactionRow.table)
    new.external_id = None  # unique; the reversed row keeps it
    new.submitted_on_date = on
    new.created_by = new.last_modified_by = loan.desk.user
    new.created_on_utc = new.last_modified_on_utc = now
    loan.transactions.append(new)
    for link in loan.paid_by:
        if link.loan_transaction_id == old.id:
            link.loan_transaction_id = new.id
    for relation in loan.relations:
        if relation.to_loan_transaction_id == old.id and relation.relation_type_enum != REPLAYED:
            relation.to_loan_transaction_id = new.id  # a chargeback goes on meaning the payment that stands
    loan.relations.append(
        LoanRelationRow(
            id=loan.desk.ids.new(LoanRelationRow.table),
            from_loan_transaction_id=new.id,
            to_loan_transaction_id=old.id,
            relation_type_enum=REPLAYED,
            created_by=loan.desk.user,
            created_on_utc=now,
            last_modified_by=loan.desk.user,
            last_modified_on_utc=now,
        )
    )
    return new
