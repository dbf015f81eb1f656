"""Moves on loans: repayments, reversals, new schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise

from sqlalchemy import Engine

from passbook.errors import Refused
from sample_institution import loan_totals as totals
from sample_institution import loans
from sample_institution.calendars import step
from sample_institution.loan_charges import holder
from sample_institution.loan_replay import replay
from sample_institution.loan_replay import reverse as reverse_transaction
from sample_institution.loans import Loan
from sample_institution.money import ZERO, rounded
from sample_institution.rows.loans import InstalmentRow, LoanTransactionRow
from sample_institution.session import exact, session, value_date
from sample_institution.store import Store

REVERSIBLE = loans.ALLOCATED | {loans.CHARGE_PAYMENT}


@dataclass(frozen=True, slots=True)
class LoanMove:
    """A movement on a loan; `status` is m_loan.loan_status_id afterwards."""

    kind: str
    loan_id: int
    client_id: int
    transaction_id: int | None
    amount: Decimal
    on: date
    status: int
    total_outstanding: Decimal


@dataclass(frozen=True, slots=True)
class Rescheduled:
    """A schedule written anew: old and new row ids, and the new last due date."""

    loan_id: int
    client_id: int
    old_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    last_due: date


def repay(engine: Engine, loan_id: int, amount: Decimal, on: date | None = None) -> LoanMove:
    """Repay a loan, on the business date or an earlier day; what exceeds the debt makes it overpaid.

    A payment dated before later ones makes Fineract allocate those again. On a written-off loan it is a
    recovery (type 8).
    """
    with session(engine) as store:
        loan = store.loan(loan_id)
        day, amount = value_date(store, on, loan.row.disbursedon_date), exact(amount, loan.row.currency_digits)
        payment = store.payment("R").id
        if loan.row.loan_status_id == loans.WRITTEN_OFF:
            if loan.row.writtenoffon_date and day < loan.row.writtenoffon_date:
                raise Refused(f"Loan {loan_id} was written off after {day}.")
            transaction = loan.recover(day, amount, payment_detail_id=payment)
        elif loan.row.loan_status_id == loans.ACTIVE:
            backdated = any(one.transaction_date > day and not one.is_reversed for one in loan.transactions)
            transaction = loan.pay(day, amount, payment_detail_id=payment)
            if backdated:
                replay(loan, store.desk.today)
                transaction = _standing(loan, transaction)
        else:
            raise Refused(f"Loan {loan_id} is not active (status {loan.row.loan_status_id}).")
        return save_loan(store, loan, "repay", transaction, day)


def reverse(engine: Engine, loan_transaction_id: int) -> LoanMove:
    """Undo a payment: the row stays, marked reversed, and later ones are allocated again."""
    with session(engine) as store:
        found = store.one(LoanTransactionRow, loan_transaction_id)
        loan = store.loan(found.loan_id)
        transaction = next(one for one in loan.transactions if one.id == loan_transaction_id)
        if transaction.is_reversed or transaction.transaction_type_enum not in REVERSIBLE:
            raise Refused(f"Loan transaction {loan_transaction_id} is reversed already or is no payment.")
        if loan.row.loan_status_id not in (loans.ACTIVE, loans.REPAID, loans.OVERPAID):
            raise Refused(f"Loan {loan.row.id} has status {loan.row.loan_status_id}; nothing is undone on it.")
        linked = any(one.to_loan_transaction_id == transaction.id for one in loan.relations)
        refunded = any(
            one.transaction_type_enum == loans.CREDIT_BALANCE_REFUND and not one.is_reversed
            for one in loan.transactions
        )
        if linked or refunded:
            raise Refused(f"Loan transaction {loan_transaction_id} was charged back or its credit was refunded.")
        reverse_transaction(loan, transaction, store.desk.today)
        return save_loan(store, loan, "reverse", transaction, store.desk.today)


def reschedule(engine: Engine, loan_id: int) -> Rescheduled:
    """Move what is not yet paid to later due dates: all schedule rows are deleted and inserted with new ids."""
    with session(engine) as store:
        loan, today = store.loan(loan_id), store.desk.today
        if loan.row.loan_status_id != loans.ACTIVE:
            raise Refused(f"Loan {loan_id} is not active (status {loan.row.loan_status_id}).")
        old = {one.id: one.installment for one in loan.instalments}
        _postpone(loan, today)
        _renumber(loan, old)
        replay(loan, today)
        last = loan.instalments[-1].duedate
        loan.row.expected_maturedon_date = last
        save_loan(store, loan, "reschedule", None, today)
        new = tuple(one.id for one in loan.instalments)
        return Rescheduled(loan_id, loan.row.client_id, tuple(old), new, last)


def _postpone(loan: Loan, today: date) -> None:
    """Shift open instalments by as many periods as bring the first of them after today, at least one."""
    row = loan.row
    agreed = [one for one in loan.instalments if not one.is_additional]
    moved = [one for one in agreed if not one.completed_derived and one.duedate >= today]
    moved = moved or [one for one in agreed if not one.completed_derived]
    periods = 1
    while moved and step(moved[0].duedate, row.repay_every, row.repayment_period_frequency_enum, periods) <= today:
        periods += 1
    for one in agreed:
        if moved and one.installment >= moved[0].installment:
            one.duedate = step(one.duedate, row.repay_every, row.repayment_period_frequency_enum, periods)
    for earlier, later in pairwise(agreed):
        later.fromdate = earlier.duedate
    loan.instalments = agreed


def _renumber(loan: Loan, old: dict[int, int]) -> None:
    """New schedule ids; charges find their instalment by its number or by their due date again."""
    numbers = dict(enumerate(loan.instalments, start=1))
    stamp = loan.desk.instant(loan.row.submittedon_date)
    for one in loan.instalments:
        one.id = loan.desk.ids.new(InstalmentRow.table)
        one.created_by = one.last_modified_by = loan.desk.user
        one.created_on_utc = one.last_modified_on_utc = stamp
        one.fee_charges_amount = one.penalty_charges_amount = ZERO
    last = loan.instalments[-1]
    for part in loan.instalment_charges:
        instalment = numbers.get(old[part.loan_schedule_id], last)
        part.loan_schedule_id, part.due_date = instalment.id, instalment.duedate
        instalment.fee_charges_amount += part.amount
    for link in loan.overdue_links:
        link.loan_schedule_id = numbers.get(old[link.loan_schedule_id], last).id
    by_date = {loans.ON_DUE_DATE, loans.OVERDUE}
    for charge in loan.charges:
        if charge.is_active and charge.charge_time_enum in by_date:
            instalment = holder(loan, charge)
            if charge.is_penalty:
                instalment.penalty_charges_amount += charge.amount
            else:
                instalment.fee_charges_amount += charge.amount


def save_loan(store: Store, loan: Loan, kind: str, transaction: LoanTransactionRow | None, on: date) -> LoanMove:
    totals.derive(loan)
    totals.settle_status(loan, on)
    store.save(list(loan.rows()))
    store.put_arrears(loan.row.id, totals.arrears(loan, store.desk.today))
    row = loan.row
    return LoanMove(
        kind=kind,
        loan_id=row.id,
        client_id=row.client_id,
        transaction_id=transaction.id if transaction else None,
        amount=rounded(transaction.amount, row.currency_digits) if transaction else ZERO,
        on=on,
        status=row.loan_status_id,
        total_outstanding=rounded(row.total_outstanding_derived, row.currency_digits),
    )


def _standing(loan: Loan, transaction: LoanTransactionRow) -> LoanTransactionRow:
    """The row that stands for a transaction after a replay."""
    for relation in loan.relations:
        if relation.to_loan_transaction_id == transaction.id:
            return next(one for one in loan.transactions if one.id == relation.from_loan_transaction_id)
    return transaction
