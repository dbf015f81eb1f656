"""Moves on savings accounts: deposits and withdrawals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import Engine

from passbook.errors import Refused
from sample_institution import savings
from sample_institution.canaries import canary
from sample_institution.money import ZERO, rounded
from sample_institution.savings import Savings
from sample_institution.session import exact, session, value_date
from sample_institution.store import Store

CREDIT_BLOCKED, DEBIT_BLOCKED = (400, 500), (400, 600)  # savings sub-status


@dataclass(frozen=True, slots=True)
class SavingsMove:
    """A movement on a savings account."""

    kind: str
    savings_id: int
    client_id: int
    transaction_id: int
    amount: Decimal
    on: date
    balance: Decimal


def deposit(engine: Engine, savings_id: int, amount: Decimal, on: date | None = None) -> SavingsMove:
    """Put money on an active savings or recurring deposit account."""
    with session(engine) as store:
        account = _active(store, savings_id, CREDIT_BLOCKED)
        day = value_date(store, on, account.row.activatedon_date)
        amount = exact(amount, account.row.currency_digits)
        row = account.deposit(day, amount, payment_detail_id=store.payment("S").id)
        row.ref_no = canary("savings-ref", row.id)
        return _save_savings(store, account, "deposit", row.id, amount, day)


def withdraw(engine: Engine, savings_id: int, amount: Decimal, on: date | None = None) -> SavingsMove:
    """Take money off an active account, with its withdrawal fee; refused beyond the available balance."""
    with session(engine) as store:
        account = _active(store, savings_id, DEBIT_BLOCKED)
        day = value_date(store, on, account.row.activatedon_date)
        amount = exact(amount, account.row.currency_digits)
        if account.row.deposit_type_enum != savings.SAVINGS:
            raise Refused(f"Account {savings_id} is a term deposit; it is paid out at its closing.")
        if amount + account.fees_for(amount) > account.available:
            raise Refused(f"Account {savings_id} does not hold that much.")
        row = account.withdraw(day, amount, payment_detail_id=store.payment("S").id)
        row.ref_no = canary("savings-ref", row.id)
        return _save_savings(store, account, "withdraw", row.id, amount, day)


def _active(store: Store, savings_id: int, blocks: tuple[int, ...]) -> Savings:
    account = store.savings(savings_id)
    row = account.row
    if row.status_enum != savings.ACTIVE or row.sub_status_enum in blocks:
        raise Refused(f"Savings account {savings_id} is not active or is blocked.")
    if row.deposit_type_enum == savings.FIXED:
        raise Refused(f"Account {savings_id} is a fixed deposit; nothing is added to it.")
    return account


def _save_savings(
    store: Store, account: Savings, kind: str, transaction_id: int, amount: Decimal, on: date
) -> SavingsMove:
    account.derive()
    floor = -(account.row.overdraft_limit or ZERO) if account.row.allow_overdraft else ZERO
    if kind == "withdraw" and any(one.running_balance_derived < floor for one in account.transactions):
        raise Refused(f"Account {account.row.id} did not hold that much on {on}.")
    if account.recurring is not None:
        late = [one for one in account.plan if one.duedate < store.desk.today and not one.completed_derived]
        missing = sum((one.deposit_amount - one.deposit_amount_completed_derived for one in late), ZERO)
        account.recurring.total_overdue_amount = missing or None
        account.recurring.no_of_overdue_installments = len(late) or None
    store.save(list(account.rows()))
    row = account.row
    balance = rounded(row.account_balance_derived, row.currency_digits)
    return SavingsMove(kind, row.id, row.client_id, transaction_id, amount, on, balance)
