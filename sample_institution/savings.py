"""One savings account as a state machine: book movements in order, derive the stored columns once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from sample_institution.calendars import WEEKS, add_months
from sample_institution.desk import Desk, stamps
from sample_institution.money import HUNDRED, ZERO, rounded
from sample_institution.rows import Row
from sample_institution.rows.clients import PaymentDetailRow
from sample_institution.rows.savings import (
    DepositPlanRow,
    DepositTermRow,
    RecurringDetailRow,
    SavingsChargePaidByRow,
    SavingsChargeRow,
    SavingsRow,
    SavingsTransactionRow,
)

# m_savings_account.status_enum
PENDING, APPROVED, ACTIVE, TRANSFER_IN_PROGRESS, TRANSFER_ON_HOLD = 100, 200, 300, 303, 304
WITHDRAWN, REJECTED, CLOSED, PREMATURE, MATURED = 400, 500, 600, 700, 800
SAVINGS, FIXED, RECURRING = 100, 200, 300  # deposit_type_enum

# m_savings_account_transaction.transaction_type_enum
DEPOSIT, WITHDRAWAL, INTEREST, WITHDRAWAL_FEE, ANNUAL_FEE, WAIVE_CHARGE, PAY_CHARGE = 1, 2, 3, 4, 5, 6, 7
ACCRUAL, INITIATE_TRANSFER, OVERDRAFT_INTEREST, WITHHOLD_TAX, HOLD, RELEASE = 10, 12, 17, 18, 20, 21

EFFECT = {
    DEPOSIT: 1,
    WITHDRAWAL: -1,
    INTEREST: 1,
    WITHDRAWAL_FEE: -1,
    ANNUAL_FEE: -1,
    PAY_CHARGE: -1,
    8: 1,  # dividend
    OVERDRAFT_INTEREST: -1,
    WITHHOLD_TAX: -1,
}  # on the book balance; all others have none
RUNNING_EFFECT = EFFECT | {HOLD: -1, RELEASE: 1}

# charge_time_enum
ON_DUE_DATE, AT_ACTIVATION, AT_CLOSURE, PER_WITHDRAWAL, ANNUAL, MONTHLY, WEEKLY = 2, 3, 4, 5, 6, 7, 11
NO_ACTIVITY = 16
STANDING = frozenset({PER_WITHDRAWAL, NO_ACTIVITY})  # asked per event: nothing is outstanding in between

TAX_RATE = Decimal(10)  # per cent of interest


@dataclass
class Savings:
    """A deposit account with everything that belongs to it."""

    row: SavingsRow
    office_id: int
    desk: Desk
    transactions: list[SavingsTransactionRow] = field(default_factory=list)
    charges: list[SavingsChargeRow] = field(default_factory=list)
    paid_by: list[SavingsChargePaidByRow] = field(default_factory=list)
    payments: list[PaymentDetailRow] = field(default_factory=list)
    term: DepositTermRow | None = None
    recurring: RecurringDetailRow | None = None
    plan: list[DepositPlanRow] = field(default_factory=list)
    balance: Decimal = ZERO
    held: Decimal = ZERO
    # Interest since the last posting: balance x days of credit and of overdraft, up to `counted_to`.
    credit_days: Decimal = ZERO
    debit_days: Decimal = ZERO
    counted_to: date | None = None

    def rows(self) -> Iterable[Row]:
        """All rows."""
        yield self.row
        for single in (self.term, self.recurring):
            if single is not None:
                yield single
        for group in (self.payments, self.transactions, self.charges, self.paid_by, self.plan):
            yield from group

    @property
    def available(self) -> Decimal:
        """What may be withdrawn, the overdraft included."""
        overdraft = self.row.overdraft_limit or ZERO if self.row.allow_overdraft else ZERO
        return self.balance - self.held + overdraft

    def transact(self, kind: int, on: date, amount: Decimal, **columns: object) -> SavingsTransactionRow:
        """Book a movement; `on` must not lie before the last one."""
        self._count_days(on)
        before = self.balance
        self.balance += EFFECT.get(kind, 0) * amount
        if kind in (HOLD, RELEASE):
            self.held += amount if kind == HOLD else -amount
        row = SavingsTransactionRow(
            id=self.desk.ids.new(SavingsTransactionRow.table),
            savings_account_id=self.row.id,
            office_id=self.office_id,
            transaction_type_enum=kind,
            transaction_date=on,
            submitted_on_date=on,
            amount=amount,
            **columns,  # type: ignore[arg-type]
            **stamps(self.desk, on),
        )
        if self.balance < 0 and self.balance < before:
            row.overdraft_amount_derived = min(-self.balance, amount)
        self.transactions.append(row)
        return row

    def _count_days(self, until: date) -> None:
        """Add the days since the last movement to the interest count."""
        if self.counted_to is not None and until > self.counted_to:
            days = (until - self.counted_to).days
            if self.balance >= 0:
                self.credit_days += self.balance * days
            else:
                self.debit_days -= self.balance * days
        if self.counted_to is None or until > self.counted_to:
            self.counted_to = until

    def deposit(self, on: date, amount: Decimal, **columns: object) -> SavingsTransactionRow:
        """Money in; a recurring deposit's plan is filled, oldest instalment first."""
        row = self.transact(DEPOSIT, on, amount, **columns)
        self.fill_plan(on, amount)
        return row

    def fill_plan(self, on: date, amount: Decimal) -> None:
        """Count `amount` towards the deposit plan of a recurring deposit."""
        for line in self.plan:
            part = min(amount, line.deposit_amount - line.deposit_amount_completed_derived)
            if not part:
                continue
            amount -= part
            line.deposit_amount_completed_derived += part
            if on < line.duedate:
                line.total_paid_in_advance_derived += part
            elif on > line.duedate:
                line.total_paid_late_derived += part
            if line.deposit_amount_completed_derived == line.deposit_amount:
                line.completed_derived = True
                line.obligations_met_on_date = on

    def withdraw(self, on: date, amount: Decimal, **columns: object) -> SavingsTransactionRow:
        """Money out, followed by the withdrawal fee if the account has one."""
        row = self.transact(WITHDRAWAL, on, amount, **columns)
        for charge in self.charges:
            if charge.is_active and charge.charge_time_enum == PER_WITHDRAWAL:
                fee = self.withdrawal_fee(charge, amount)
                self._settle(charge, self.transact(WITHDRAWAL_FEE, on, fee))
        return row

    def withdrawal_fee(self, charge: SavingsChargeRow, amount: Decimal) -> Decimal:
        """The fee for taking out `amount`: flat (1) or a percentage (2)."""
        if charge.charge_calculation_enum == 1:
            return charge.amount
        return rounded(amount * (charge.calculation_percentage or ZERO) / HUNDRED, self.row.currency_digits)

    def fees_for(self, amount: Decimal) -> Decimal:
        """All withdrawal fees for taking out `amount`."""
        active = (one for one in self.charges if one.is_active and one.charge_time_enum == PER_WITHDRAWAL)
        return sum((self.withdrawal_fee(one, amount) for one in active), ZERO)

    def _settle(self, charge: SavingsChargeRow, by: SavingsTransactionRow, how: str = "paid") -> None:
        column = f"amount_{how}_derived"
        setattr(charge, column, (getattr(charge, column) or ZERO) + by.amount)
        if charge.charge_time_enum not in STANDING:
            charge.amount_outstanding_derived -= by.amount
            if not charge.amount_outstanding_derived:
                charge.is_paid_derived = how == "paid"
                charge.waived = how == "waived"
        self.paid_by.append(
            SavingsChargePaidByRow(
                id=self.desk.ids.new(SavingsChargePaidByRow.table),
                savings_account_transaction_id=by.id,
                savings_account_charge_id=charge.id,
                amount=by.amount,
            )
        )

    def pay_charge(self, on: date, charge: SavingsChargeRow) -> bool:
        """Collect a charge (type 7; 5 for the annual fee) if the balance covers it."""
        amount = charge.amount if charge.charge_time_enum == NO_ACTIVITY else charge.amount_outstanding_derived
        if not amount or self.available < amount:
            return False
        kind = ANNUAL_FEE if charge.charge_time_enum == ANNUAL else PAY_CHARGE
        self._settle(charge, self.transact(kind, on, amount))
        self._next_due(charge)
        return True

    def waive_charge(self, on: date, charge: SavingsChargeRow) -> None:
        """Forgive what a charge asks (type 6)."""
        self._settle(charge, self.transact(WAIVE_CHARGE, on, charge.amount_outstanding_derived), "waived")
        self._next_due(charge)

    @staticmethod
    def _next_due(charge: SavingsChargeRow) -> None:
        """Recurring fees reuse one row: the due date moves on, and the amount is asked again."""
        kind, due = charge.charge_time_enum, charge.charge_due_date
        if due is None or kind not in (ANNUAL, MONTHLY, WEEKLY):
            return
        if kind == WEEKLY:
            charge.charge_due_date = due + timedelta(weeks=charge.fee_interval or WEEKS)
        else:
            charge.charge_due_date = add_months(due, 12 if kind == ANNUAL else charge.fee_interval or 1)
        charge.amount_paid_derived = charge.amount_waived_derived = None
        charge.amount_outstanding_derived = charge.amount
        charge.is_paid_derived = charge.waived = False

    def interest_since_posting(self) -> Decimal:
        """Interest on credit balances counted so far, per day and by the account's year of 360 or 365."""
        rate = self.row.nominal_annual_interest_rate / HUNDRED
        year = self.row.interest_calculation_days_in_year_type_enum
        return rounded(self.credit_days * rate / year, self.row.currency_digits)

    def post_interest(self, on: date) -> None:
        """Post interest since the last posting (3), withholding tax (18) and overdraft interest (17)."""
        self._count_days(on)
        digits = self.row.currency_digits
        interest = self.interest_since_posting()
        rate = self.row.nominal_annual_interest_rate_overdraft / HUNDRED
        year = self.row.interest_calculation_days_in_year_type_enum
        overdraft = rounded(self.debit_days * rate / year, digits)
        self.credit_days = self.debit_days = ZERO
        if interest:
            self.transact(INTEREST, on, interest)
            tax = rounded(interest * TAX_RATE / HUNDRED, digits) if self.row.withhold_tax else ZERO
            if tax:
                self.transact(WITHHOLD_TAX, on, tax)
        if overdraft:
            self.transact(OVERDRAFT_INTEREST, on, overdraft)
        self.row.interest_posted_till_date = on - timedelta(days=1)

    def hold(self, on: date, amount: Decimal, reason: str) -> SavingsTransactionRow:
        """Put part of the balance on hold (type 20)."""
        return self.transact(HOLD, on, amount, reason_for_block=reason, is_lien_transaction=True)

    def release(self, on: date, hold: SavingsTransactionRow) -> None:
        """Release an amount on hold (type 21)."""
        hold.release_id_of_hold_amount = self.transact(RELEASE, on, hold.amount).id

    def reverse(self, row: SavingsTransactionRow, on: date, *, contra: bool) -> None:
        """Undo the last movement; `contra` also writes the counter row of the reversal-posting setting."""
        row.is_reversed = True
        row.last_modified_on_utc = self.desk.instant(on)
        self.balance -= EFFECT.get(row.transaction_type_enum, 0) * row.amount
        if contra:
            counter = self.transact(row.transaction_type_enum, row.transaction_date, row.amount)
            self.balance -= EFFECT.get(row.transaction_type_enum, 0) * row.amount
            counter.is_reversal, counter.original_transaction_id = True, row.id
            counter.submitted_on_date = on
            counter.overdraft_amount_derived = None

    def derive(self) -> None:
        """Fill the totals of m_savings_account and the running balance of every transaction."""
        standing = _running_balances(self.transactions)
        row = self.row
        if row.activatedon_date is None:
            return
        charges = {charge.id: charge for charge in self.charges}
        paid = {link.savings_account_transaction_id: link.savings_account_charge_id for link in self.paid_by}
        totals: dict[int, Decimal] = dict.fromkeys(range(22), ZERO)
        penalties = held = ZERO
        for one in standing:
            totals[one.transaction_type_enum] += one.amount
            if one.transaction_type_enum == PAY_CHARGE and charges[paid[one.id]].is_penalty:
                penalties += one.amount
            held += one.amount if one.transaction_type_enum == HOLD else ZERO
            held -= one.amount if one.transaction_type_enum == RELEASE else ZERO
        row.total_deposits_derived = totals[DEPOSIT]
        row.total_withdrawals_derived = totals[WITHDRAWAL]
        row.total_withdrawal_fees_derived = totals[WITHDRAWAL_FEE] or None
        row.total_fees_charge_derived = (totals[PAY_CHARGE] - penalties) or None
        row.total_penalty_charge_derived = penalties or None
        row.total_annual_fees_derived = totals[ANNUAL_FEE] or None
        row.total_interest_posted_derived = totals[INTEREST]
        row.total_overdraft_interest_derived = totals[OVERDRAFT_INTEREST]
        row.total_withhold_tax_derived = totals[WITHHOLD_TAX] or None
        row.total_savings_amount_on_hold = held or None
        row.account_balance_derived = sum((sign * totals[kind] for kind, sign in EFFECT.items()), ZERO)


def booking_order(row: SavingsTransactionRow) -> tuple[date, datetime, int]:
    """The order in which Fineract reads transactions: date, creation, id."""
    return row.transaction_date, row.created_on_utc, row.id


def _running_balances(rows: Iterable[SavingsTransactionRow]) -> list[SavingsTransactionRow]:
    """Balance after each standing row (holds reduce it) and the days it stood; returns those rows."""
    balance = ZERO
    standing: list[SavingsTransactionRow] = []
    for row in sorted(rows, key=booking_order):
        if row.is_reversed or row.is_reversal:
            row.running_balance_derived = ZERO
            row.balance_end_date_derived = row.balance_number_of_days_derived = None
            row.cumulative_balance_derived = None
            continue
        if standing:
            _close_day(standing[-1], row.transaction_date)
        balance += RUNNING_EFFECT.get(row.transaction_type_enum, 0) * row.amount
        row.running_balance_derived = balance
        standing.append(row)
    return standing


def _close_day(row: SavingsTransactionRow, following: date) -> None:
    days = (following - row.transaction_date).days
    row.balance_end_date_derived = following - timedelta(days=1) if days else None
    row.balance_number_of_days_derived = days or None
    row.cumulative_balance_derived = row.running_balance_derived * days if days else None
