"""Projection of a loan: terms and totals, charges, transactions. The schedule has a module of its own."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from projections import vocabulary, words
from projections.common import UNNAMED_CHARGE, pages, payment, year
from projections.context import Context
from projections.documents import SCHEMA, Currency, Loan, LoanCharges, LoanTransactions
from projections.documents.loans import (
    InstalmentCharge,
    LoanCharge,
    LoanDates,
    LoanInterest,
    LoanPageTotals,
    LoanPrincipal,
    LoanSummary,
    LoanTerms,
    LoanTransaction,
    NextDue,
    PortionSummary,
    PrincipalSummary,
)
from projections.money import Digits, rate
from projections.rows import (
    InstalmentChargeRow,
    LoanAggregate,
    LoanChargeRow,
    LoanRow,
    LoanTransactionRow,
)


def account(row: LoanRow, currency: Currency, digits: Digits, context: Context, next_due: NextDue | None) -> Loan:
    """Document `loan:{id}`."""
    unknown = context.unknown
    return Loan(
        schema=SCHEMA,
        client_id=row.client_id,
        loan_id=row.id,
        account_no=row.account_no,
        status=vocabulary.LOAN_STATUS(row.status, unknown) or words.UNKNOWN,
        kind=_kind(row, unknown),
        sub_status=vocabulary.LOAN_SUB_STATUS(row.sub_status, unknown),
        currency=currency,
        product=row.product or None,
        purpose=row.purpose or None,
        topup=row.is_topup,
        principal=_principal(row, digits),
        interest=_interest(row, unknown),
        terms=_terms(row, digits, unknown),
        summary=_summary(row, digits),
        next_due=next_due,
        dates=LoanDates(
            submitted=row.submitted_on,
            approved=row.approved_on,
            expected_disbursed=row.expected_disbursed_on,
            disbursed=row.disbursed_on,
            expected_first_repayment=row.expected_first_repayment_on,
            expected_matured=row.expected_matured_on,
            matured=row.matured_on,
            closed=row.closed_on,
            written_off=row.written_off_on,
            rescheduled=row.rescheduled_on,
            overpaid=row.overpaid_on,
        ),
    )


def charges(aggregate: LoanAggregate, currency: Currency, digits: Digits, context: Context) -> LoanCharges | None:
    """Document `loan:{id}:charges`: the active charges, as the core's own list. None when there are none."""
    rows = sorted((row for row in aggregate.charges if row.is_active), key=lambda row: row.id)
    if not rows:
        return None
    split: dict[int, list[InstalmentChargeRow]] = {}
    for part in aggregate.instalment_charges:
        split.setdefault(part.charge_id, []).append(part)
    return LoanCharges(
        schema=SCHEMA,
        client_id=aggregate.loan.client_id,
        loan_id=aggregate.loan.id,
        currency=currency,
        charges=[_charge(row, split.get(row.id), digits, context.unknown) for row in rows],
    )


def transactions(
    aggregate: LoanAggregate, since: date | None, currency: Currency, digits: Digits, context: Context
) -> list[LoanTransactions]:
    """Documents `loan:{id}:transactions:{yyyy}`, without the movements of accounting alone."""
    shown = [row for row in aggregate.transactions if row.type not in vocabulary.HIDDEN_LOAN_TRANSACTIONS]
    return [
        LoanTransactions(
            schema=SCHEMA,
            client_id=aggregate.loan.client_id,
            loan_id=aggregate.loan.id,
            currency=currency,
            period=period,
            transactions=[_transaction(row, digits, context.unknown) for row in rows],
            totals=_page_totals(rows, digits),
        )
        for period, rows in pages(shown, year, since).items()
    ]


def _kind(row: LoanRow, unknown: set[tuple[str, int]]) -> str:
    """The kind of loan. Data older than the core's types says whose a loan is by its client and group alone."""
    if row.loan_type == vocabulary.UNTYPED_LOAN:
        return "individual" if row.group_id is None else "joint_liability_group"
    return vocabulary.LOAN_TYPE(row.loan_type, unknown) or words.UNKNOWN


def _may_draw(row: LoanRow) -> bool:
    """Whether more of the approved principal can still be paid out."""
    if row.status == vocabulary.LOAN_ACTIVE:
        return bool(row.several_disbursals)
    return row.status == vocabulary.LOAN_APPROVED


def _principal(row: LoanRow, digits: Digits) -> LoanPrincipal:
    approved = digits(row.principal_approved)
    return LoanPrincipal(
        current=digits(row.principal),
        approved=approved,
        available=max(approved - digits(row.principal_disbursed), digits.zero) if _may_draw(row) else None,
        proposed=digits.optional(row.principal_proposed),
        net_disbursal=digits.optional(row.net_disbursal),
    )


def _interest(row: LoanRow, unknown: set[tuple[str, int]]) -> LoanInterest:
    where = f"m_loan {row.id}"
    return LoanInterest(
        method=vocabulary.INTEREST_METHOD(row.interest_method, unknown) or words.UNKNOWN,
        calculated=vocabulary.INTEREST_CALCULATED(row.interest_calculated, unknown) or words.UNKNOWN,
        rate=rate(row.rate_per_period, where),
        rate_period=vocabulary.LOAN_RATE_PERIOD(row.rate_period, unknown),
        annual_rate=rate(row.annual_rate, where),
        floating=row.is_floating_rate,
        recalculated=row.interest_recalculation,
        starts_on=row.interest_from,
        days_in_month=row.days_in_month,
        days_in_year=row.days_in_year,
    )


def _terms(row: LoanRow, digits: Digits, unknown: set[tuple[str, int]]) -> LoanTerms:
    return LoanTerms(
        length=row.term,
        length_unit=vocabulary.LOAN_TERM_UNIT(row.term_unit, unknown) or words.UNKNOWN,
        repayments=row.number_of_repayments,
        every=row.repay_every,
        every_unit=vocabulary.LOAN_REPAY_UNIT(row.repay_unit, unknown) or words.UNKNOWN,
        amortization=vocabulary.AMORTIZATION(row.amortization, unknown) or words.UNKNOWN,
        grace_principal=row.grace_principal,
        grace_interest=row.grace_interest,
        interest_free=row.grace_interest_free,
        fixed_instalment=digits.optional(row.fixed_instalment),
        schedule_type=_schedule_type(row.schedule_type),
    )


def _summary(row: LoanRow, digits: Digits) -> LoanSummary:
    return LoanSummary(
        principal=PrincipalSummary(
            disbursed=digits(row.principal_disbursed),
            adjustments=digits(row.principal_adjustments),
            repaid=digits(row.principal_repaid),
            written_off=digits(row.principal_written_off),
            outstanding=digits(row.principal_outstanding),
        ),
        interest=PortionSummary(
            charged=digits(row.interest_charged),
            repaid=digits(row.interest_repaid),
            waived=digits(row.interest_waived),
            written_off=digits(row.interest_written_off),
            outstanding=digits(row.interest_outstanding),
        ),
        fees=PortionSummary(
            charged=digits(row.fees_charged),
            repaid=digits(row.fees_repaid),
            waived=digits(row.fees_waived),
            written_off=digits(row.fees_written_off),
            outstanding=digits(row.fees_outstanding),
            adjustments=digits(row.fees_adjustments) or None,
        ),
        penalties=PortionSummary(
            charged=digits(row.penalties_charged),
            repaid=digits(row.penalties_repaid),
            waived=digits(row.penalties_waived),
            written_off=digits(row.penalties_written_off),
            outstanding=digits(row.penalties_outstanding),
            adjustments=digits(row.penalties_adjustments) or None,
        ),
        total_expected=digits(row.total_expected),
        total_repaid=digits(row.total_repaid),
        total_expected_cost=digits(row.total_expected_cost),
        total_cost=digits(row.total_cost),
        total_waived=digits(row.total_waived),
        total_written_off=digits(row.total_written_off),
        total_outstanding=digits(row.total_outstanding),
        overpaid=digits(row.total_overpaid) if row.total_overpaid else None,
    )


def _charge(
    row: LoanChargeRow, split: list[InstalmentChargeRow] | None, digits: Digits, unknown: set[tuple[str, int]]
) -> LoanCharge:
    return LoanCharge(
        id=row.id,
        name=row.name or UNNAMED_CHARGE,
        penalty=row.is_penalty,
        when=vocabulary.LOAN_CHARGE_TIME(row.charge_time, unknown) or words.UNKNOWN,
        calculation=vocabulary.LOAN_CHARGE_CALCULATION(row.calculation, unknown) or words.UNKNOWN,
        payment_mode=vocabulary.LOAN_CHARGE_PAYMENT(row.payment_mode, unknown),
        amount=digits(row.amount),
        paid=digits(row.paid),
        waived=digits(row.waived),
        written_off=digits(row.written_off),
        outstanding=digits(row.outstanding),
        due_on=row.due_date or row.tranche_disbursed_on or row.tranche_expected_on,
        percentage=rate(row.percentage, f"m_loan_charge {row.id}"),
        calculated_on=digits.optional(row.calculated_on),
        submitted_on=row.submitted_on,
        instalments=_split(split, digits) if split else None,
    )


def _schedule_type(name: str | None) -> str | None:
    """The core keeps this one as a name, not as a code."""
    if not name:
        return None
    word = name.lower()
    return word if word in words.SCHEDULE_TYPE.meanings else words.UNKNOWN


def _split(rows: list[InstalmentChargeRow], digits: Digits) -> list[InstalmentCharge]:
    return [
        InstalmentCharge(
            number=row.number,
            due_on=row.due_date,
            amount=digits(row.amount),
            paid=digits(row.paid),
            waived=digits(row.waived),
            written_off=digits(row.written_off),
            outstanding=digits(row.outstanding),
        )
        for row in sorted(rows, key=lambda row: row.number)
    ]


def _transaction(row: LoanTransactionRow, digits: Digits, unknown: set[tuple[str, int]]) -> LoanTransaction:
    return LoanTransaction(
        id=row.id,
        type=vocabulary.LOAN_TRANSACTION(row.type, unknown) or words.UNKNOWN,
        on=row.on,
        amount=digits(row.amount),
        principal=digits(row.principal),
        interest=digits(row.interest),
        fees=digits(row.fees),
        penalties=digits(row.penalties),
        overpayment=digits(row.overpayment),
        reversed=row.is_reversed,
        # What stands in an undone row is the balance of a history that no longer holds.
        balance_after=None if row.is_reversed else digits.optional(row.balance_after),
        reversed_on=row.reversed_on,
        by_hand=row.is_adjusted or None,
        submitted_on=row.submitted_on,
        payment=payment(row.payment_type, row.receipt_number),
    )


def _page_totals(rows: list[LoanTransactionRow], digits: Digits) -> LoanPageTotals:
    disbursed = principal = interest = fees = penalties = digits.zero
    for row in rows:
        if row.is_reversed:
            continue
        if row.type == vocabulary.LOAN_DISBURSEMENT:
            disbursed += digits(row.amount)
            continue
        sign = _payment_sign(row.type)
        if sign:
            principal += sign * digits(row.principal)
            interest += sign * digits(row.interest)
            fees += sign * digits(row.fees)
            penalties += sign * digits(row.penalties)
    return LoanPageTotals(
        disbursed=disbursed,
        principal_repaid=principal,
        interest_repaid=interest,
        fees_repaid=fees,
        penalties_repaid=penalties,
    )


def _payment_sign(kind: int) -> Decimal | int:
    if kind in vocabulary.LOAN_PAYMENTS:
        return 1
    return -1 if kind in vocabulary.LOAN_PAYMENTS_RETURNED else 0
