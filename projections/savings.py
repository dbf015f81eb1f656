"""Projection of a savings or deposit account: terms and totals, charges, transactions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from projections import vocabulary, words
from projections.common import UNNAMED_CHARGE, month, pages, payment
from projections.context import Context
from projections.documents import SCHEMA, Currency, Savings, SavingsCharges, SavingsTransactions
from projections.documents.savings import (
    PlannedDeposit,
    RecurringDeposit,
    SavingsCharge,
    SavingsDates,
    SavingsInterest,
    SavingsPageTotals,
    SavingsSummary,
    SavingsTerms,
    SavingsTransaction,
    TermDeposit,
)
from projections.garbage import BadValue
from projections.money import Digits, rate
from projections.rows import (
    PlannedDepositRow,
    SavingsAggregate,
    SavingsChargeRow,
    SavingsRow,
    SavingsTransactionRow,
)

_RECURRING = 300
_TERM_DEPOSITS = (200, _RECURRING)


def account(aggregate: SavingsAggregate, currency: Currency, digits: Digits, context: Context) -> Savings:
    """Document `savings:{id}`."""
    row, unknown = aggregate.account, context.unknown
    balance, guarantee, on_hold = digits(row.balance), digits(row.held_as_guarantee), digits(row.on_hold)
    return Savings(
        schema=SCHEMA,
        client_id=row.client_id,
        savings_id=row.id,
        account_no=row.account_no,
        status=vocabulary.SAVINGS_STATUS(row.status, unknown) or words.UNKNOWN,
        sub_status=vocabulary.SAVINGS_SUB_STATUS(row.sub_status, unknown) if row.sub_status else None,
        kind=vocabulary.DEPOSIT_TYPE(row.deposit_type, unknown) or words.UNKNOWN,
        holder=vocabulary.SAVINGS_TYPE(row.account_type, unknown) or words.UNKNOWN,
        currency=currency,
        product=row.product or None,
        balance=balance,
        held_as_guarantee=guarantee,
        on_hold=on_hold,
        available=balance - guarantee - on_hold,
        summary=_summary(row, digits),
        interest=_interest(row, digits, unknown),
        terms=_terms(row, digits, unknown),
        dates=SavingsDates(
            submitted=row.submitted_on,
            approved=row.approved_on,
            activated=row.activated_on,
            closed=row.closed_on,
        ),
        deposit=_deposit(row, digits, unknown) if row.deposit_type in _TERM_DEPOSITS else None,
        recurring=_recurring(row, aggregate.plan, digits) if row.deposit_type == _RECURRING else None,
    )


def charges(
    aggregate: SavingsAggregate, currency: Currency, digits: Digits, context: Context
) -> SavingsCharges | None:
    """Document `savings:{id}:charges`, or None when there are none."""
    if not aggregate.charges:
        return None
    return SavingsCharges(
        schema=SCHEMA,
        client_id=aggregate.account.client_id,
        savings_id=aggregate.account.id,
        currency=currency,
        charges=[
            _charge(row, digits, context.unknown) for row in sorted(aggregate.charges, key=lambda row: row.id)
        ],
    )


def transactions(
    aggregate: SavingsAggregate, since: date | None, currency: Currency, digits: Digits, context: Context
) -> list[SavingsTransactions]:
    """Documents `savings:{id}:transactions:{yyyy-mm}`, without the movements of accounting alone."""
    hidden = vocabulary.HIDDEN_SAVINGS_TRANSACTIONS
    shown = [row for row in aggregate.transactions if row.type not in hidden]
    return [
        SavingsTransactions(
            schema=SCHEMA,
            client_id=aggregate.account.client_id,
            savings_id=aggregate.account.id,
            currency=currency,
            period=period,
            transactions=[_transaction(row, digits, context.unknown) for row in rows],
            totals=_page_totals(rows, digits),
        )
        for period, rows in pages(shown, month, since).items()
    ]


def _summary(row: SavingsRow, digits: Digits) -> SavingsSummary:
    posted, overdraft = digits(row.interest_posted), digits(row.overdraft_interest)
    earned = digits.optional(row.interest_earned)
    return SavingsSummary(
        deposits=digits(row.deposits),
        withdrawals=digits(row.withdrawals),
        interest_posted=posted,
        withdrawal_fees=digits(row.withdrawal_fees),
        annual_fees=digits(row.annual_fees),
        fees=digits(row.fees),
        penalties=digits(row.penalties),
        overdraft_interest=overdraft,
        withheld_tax=digits(row.withheld_tax),
        interest_earned=earned,
        interest_not_posted=None if earned is None else earned - posted + overdraft,
    )


def _interest(row: SavingsRow, digits: Digits, unknown: set[tuple[str, int]]) -> SavingsInterest:
    return SavingsInterest(
        annual_rate=rate(row.annual_rate, f"m_savings_account {row.id}") or "0",
        compounding=vocabulary.COMPOUNDING(row.compounding, unknown) or words.UNKNOWN,
        posting=vocabulary.POSTING(row.posting, unknown) or words.UNKNOWN,
        calculation=vocabulary.SAVINGS_CALCULATION(row.calculation, unknown) or words.UNKNOWN,
        days_in_year=row.days_in_year,
        min_balance=digits.optional(row.min_balance_for_interest),
    )


def _terms(row: SavingsRow, digits: Digits, unknown: set[tuple[str, int]]) -> SavingsTerms:
    overdraft = bool(row.allow_overdraft)
    return SavingsTerms(
        overdraft=overdraft,
        min_opening_balance=digits.optional(row.min_opening_balance),
        min_balance=digits.optional(row.min_balance),
        enforce_min_balance=row.enforce_min_balance,
        overdraft_limit=digits.optional(row.overdraft_limit) if overdraft else None,
        overdraft_rate=rate(row.overdraft_rate, f"m_savings_account {row.id}") if overdraft else None,
        lock_in=_whole(row.lockin, f"m_savings_account {row.id}") or None,
        lock_in_unit=vocabulary.LOCKIN_UNIT(row.lockin_unit, unknown) if row.lockin else None,
        locked_in_until=row.locked_in_until,
        fee_for_transfer=row.fee_for_transfer,
    )


def _whole(number: Decimal | None, where: str) -> int:
    """A whole number that the ledger keeps in a decimal column; NULL counts as zero."""
    if number is None:
        return 0
    if not number.is_finite():
        raise BadValue(where, "a length is not a number")
    return int(number)


def _deposit(row: SavingsRow, digits: Digits, unknown: set[tuple[str, int]]) -> TermDeposit | None:
    """The term of a fixed or recurring deposit; None where the ledger has no row of it."""
    deposit = TermDeposit(
        amount=digits.optional(row.deposit_amount),
        period=row.deposit_period,
        period_unit=vocabulary.DEPOSIT_PERIOD_UNIT(row.deposit_period_unit, unknown),
        maturity_amount=digits.optional(row.maturity_amount),
        matures_on=row.maturity_on,
        on_closure=vocabulary.ON_CLOSURE(row.on_closure, unknown),
        early_penalty=row.preclosure_penalty,
        early_penalty_rate=rate(row.preclosure_rate, f"m_savings_account {row.id}"),
        early_penalty_on=vocabulary.PRECLOSURE_ON(row.preclosure_on, unknown),
    )
    return None if deposit == TermDeposit() else deposit


def _recurring(row: SavingsRow, plan: list[PlannedDepositRow], digits: Digits) -> RecurringDeposit:
    return RecurringDeposit(
        mandatory=bool(row.recurring_mandatory),
        withdrawals=bool(row.recurring_withdrawal),
        amount=digits.optional(row.recurring_amount),
        plan=[
            PlannedDeposit(
                number=line.number,
                from_on=line.from_date,
                due_on=line.due_date,
                amount=digits(line.amount),
                paid=digits(line.paid),
                complete=line.is_complete,
                completed_on=line.completed_on,
            )
            for line in sorted(plan, key=lambda line: line.number)
        ],
    )


def _charge(row: SavingsChargeRow, digits: Digits, unknown: set[tuple[str, int]]) -> SavingsCharge:
    return SavingsCharge(
        id=row.id,
        name=row.name or UNNAMED_CHARGE,
        penalty=row.is_penalty,
        when=vocabulary.SAVINGS_CHARGE_TIME(row.charge_time, unknown) or words.UNKNOWN,
        calculation=vocabulary.SAVINGS_CHARGE_CALCULATION(row.calculation, unknown) or words.UNKNOWN,
        amount=digits(row.amount),
        paid=digits(row.paid),
        waived=digits(row.waived),
        written_off=digits(row.written_off),
        outstanding=digits(row.outstanding),
        active=row.is_active,
        due_on=row.due_date,
        percentage=rate(row.percentage, f"m_savings_account_charge {row.id}"),
        calculated_on=digits.optional(row.calculated_on),
        inactivated_on=row.inactivated_on,
    )


def _counts(row: SavingsTransactionRow) -> bool:
    return not row.is_reversed and not row.is_reversal


def _effect(kind: int) -> str:
    if kind in vocabulary.SAVINGS_CREDITS:
        return "credit"
    return "debit" if kind in vocabulary.SAVINGS_DEBITS else "none"


def _transaction(row: SavingsTransactionRow, digits: Digits, unknown: set[tuple[str, int]]) -> SavingsTransaction:
    return SavingsTransaction(
        id=row.id,
        type=vocabulary.SAVINGS_TRANSACTION(row.type, unknown) or words.UNKNOWN,
        effect=_effect(row.type),
        on=row.on,
        amount=digits(row.amount),
        reversed=row.is_reversed,
        # The core stores 0 in undone rows and in their counter-entries: no balance at all.
        balance_after=digits.optional(row.balance_after) if _counts(row) else None,
        reversal=row.is_reversal or None,
        original_id=row.original_id,
        released_by=row.released_by,
        overdraft=digits(row.overdraft) if row.overdraft else None,
        submitted_on=row.submitted_on,
        payment=payment(row.payment_type, row.receipt_number),
    )


def _page_totals(rows: list[SavingsTransactionRow], digits: Digits) -> SavingsPageTotals:
    into = out_of = digits.zero
    for row in rows:
        if not _counts(row):
            continue
        if row.type in vocabulary.SAVINGS_CREDITS:
            into += digits(row.amount)
        elif row.type in vocabulary.SAVINGS_DEBITS:
            out_of += digits(row.amount)
    return SavingsPageTotals(credits=into, debits=out_of)
