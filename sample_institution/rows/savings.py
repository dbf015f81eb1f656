"""Rows of a savings account, of any deposit type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import ClassVar

from sample_institution.money import ZERO
from sample_institution.rows.base import Audited, Row


@dataclass(slots=True, kw_only=True)
class SavingsRow(Audited):
    """m_savings_account: the account with its stored totals."""

    table: ClassVar[str] = "m_savings_account"
    account_no: str
    external_id: str | None
    client_id: int
    product_id: int
    field_officer_id: int | None
    status_enum: int
    deposit_type_enum: int
    currency_code: str
    currency_digits: int
    nominal_annual_interest_rate: Decimal
    interest_compounding_period_enum: int
    interest_posting_period_enum: int
    interest_calculation_type_enum: int
    interest_calculation_days_in_year_type_enum: int
    submittedon_date: date
    sub_status_enum: int = 0
    account_type_enum: int = 1
    submittedon_userid: int | None = None
    approvedon_date: date | None = None
    approvedon_userid: int | None = None
    rejectedon_date: date | None = None
    rejectedon_userid: int | None = None
    withdrawnon_date: date | None = None
    withdrawnon_userid: int | None = None
    activatedon_date: date | None = None
    activatedon_userid: int | None = None
    closedon_date: date | None = None
    closedon_userid: int | None = None
    min_required_opening_balance: Decimal | None = None
    lockin_period_frequency: Decimal | None = None
    lockin_period_frequency_enum: int | None = None
    lockedin_until_date_derived: date | None = None
    allow_overdraft: bool = False
    overdraft_limit: Decimal | None = None
    nominal_annual_interest_rate_overdraft: Decimal = ZERO
    withhold_tax: bool = False
    reason_for_block: str | None = None
    last_interest_calculation_date: date | None = None
    interest_posted_till_date: date | None = None
    version: int = 1
    total_deposits_derived: Decimal | None = None
    total_withdrawals_derived: Decimal | None = None
    total_withdrawal_fees_derived: Decimal | None = None
    total_fees_charge_derived: Decimal | None = None
    total_penalty_charge_derived: Decimal | None = None
    total_annual_fees_derived: Decimal | None = None
    total_interest_earned_derived: Decimal | None = None
    total_interest_posted_derived: Decimal | None = None
    total_overdraft_interest_derived: Decimal = ZERO
    total_withhold_tax_derived: Decimal | None = None
    account_balance_derived: Decimal = ZERO
    total_savings_amount_on_hold: Decimal | None = None
    on_hold_funds_derived: Decimal | None = None


@dataclass(slots=True, kw_only=True)
class SavingsTransactionRow(Audited):
    """m_savings_account_transaction."""

    table: ClassVar[str] = "m_savings_account_transaction"
    savings_account_id: int
    office_id: int
    transaction_type_enum: int
    transaction_date: date
    amount: Decimal
    submitted_on_date: date
    payment_detail_id: int | None = None
    is_reversed: bool = False
    is_reversal: bool = False
    original_transaction_id: int | None = None
    overdraft_amount_derived: Decimal | None = None
    running_balance_derived: Decimal = ZERO
    balance_end_date_derived: date | None = None
    balance_number_of_days_derived: int | None = None
    cumulative_balance_derived: Decimal | None = None
    release_id_of_hold_amount: int | None = None
    ref_no: str | None = None
    reason_for_block: str | None = None
    is_lien_transaction: bool = False


@dataclass(slots=True, kw_only=True)
class SavingsChargeRow(Audited):
    """m_savings_account_charge."""

    table: ClassVar[str] = "m_savings_account_charge"
    savings_account_id: int
    charge_id: int
    is_penalty: bool
    charge_time_enum: int
    charge_calculation_enum: int
    amount: Decimal
    amount_outstanding_derived: Decimal
    charge_due_date: date | None = None
    fee_on_month: int | None = None
    fee_on_day: int | None = None
    fee_interval: int | None = None
    calculation_percentage: Decimal | None = None
    calculation_on_amount: Decimal | None = None
    amount_paid_derived: Decimal | None = None
    amount_waived_derived: Decimal | None = None
    amount_writtenoff_derived: Decimal | None = None
    is_paid_derived: bool = False
    waived: bool = False
    is_active: bool = True
    inactivated_on_date: date | None = None


@dataclass(slots=True, kw_only=True)
class SavingsChargePaidByRow(Row):
    """m_savings_account_charge_paid_by."""

    table: ClassVar[str] = "m_savings_account_charge_paid_by"
    savings_account_transaction_id: int
    savings_account_charge_id: int
    amount: Decimal


@dataclass(slots=True, kw_only=True)
class DepositTermRow(Row):
    """m_deposit_account_term_and_preclosure: the terms of a fixed or recurring deposit."""

    table: ClassVar[str] = "m_deposit_account_term_and_preclosure"
    savings_account_id: int
    min_deposit_term: int
    min_deposit_term_type_enum: int
    max_deposit_term: int
    max_deposit_term_type_enum: int
    pre_closure_penal_applicable: bool
    pre_closure_penal_interest: Decimal | None
    pre_closure_penal_interest_on_enum: int | None
    deposit_period: int
    deposit_period_frequency_enum: int
    deposit_amount: Decimal
    maturity_amount: Decimal | None
    maturity_date: date | None
    on_account_closure_enum: int | None
    expected_firstdepositon_date: date | None
    transfer_interest_to_linked_account: bool = False
    transfer_to_savings_account_id: int | None = None


@dataclass(slots=True, kw_only=True)
class RecurringDetailRow(Row):
    """m_deposit_account_recurring_detail."""

    table: ClassVar[str] = "m_deposit_account_recurring_detail"
    savings_account_id: int
    mandatory_recommended_deposit_amount: Decimal
    is_mandatory: bool
    allow_withdrawal: bool
    total_overdue_amount: Decimal | None
    no_of_overdue_installments: int | None


@dataclass(slots=True, kw_only=True)
class DepositPlanRow(Audited):
    """m_mandatory_savings_schedule: one planned deposit of a recurring deposit."""

    table: ClassVar[str] = "m_mandatory_savings_schedule"
    savings_account_id: int
    fromdate: date
    duedate: date
    installment: int
    deposit_amount: Decimal
    deposit_amount_completed_derived: Decimal = ZERO
    total_paid_in_advance_derived: Decimal = ZERO
    total_paid_late_derived: Decimal = ZERO
    completed_derived: bool = False
    obligations_met_on_date: date | None = None
