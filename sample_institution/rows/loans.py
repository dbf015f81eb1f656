"""Rows of a loan: the account, its schedule, its transactions and its charges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import ClassVar

from sample_institution.money import ZERO
from sample_institution.rows.base import Audited, Row


@dataclass(slots=True, kw_only=True)
class LoanRow(Audited):
    """m_loan: the account with its stored totals."""

    table: ClassVar[str] = "m_loan"
    account_no: str
    external_id: str | None
    client_id: int
    product_id: int
    loan_officer_id: int | None
    loanpurpose_cv_id: int | None
    loan_status_id: int
    currency_code: str
    currency_digits: int
    principal_amount_proposed: Decimal
    principal_amount: Decimal
    approved_principal: Decimal
    net_disbursal_amount: Decimal
    nominal_interest_rate_per_period: Decimal
    interest_period_frequency_enum: int
    annual_nominal_interest_rate: Decimal
    interest_method_enum: int
    amortization_method_enum: int
    term_frequency: int
    term_period_frequency_enum: int
    repay_every: int
    repayment_period_frequency_enum: int
    number_of_repayments: int
    submittedon_date: date
    expected_disbursedon_date: date
    expected_firstrepaymenton_date: date
    expected_maturedon_date: date
    loan_type_enum: int = 1
    interest_calculated_in_period_enum: int = 1
    grace_on_principal_periods: int | None = None
    grace_on_interest_periods: int | None = None
    grace_interest_free_periods: int | None = None
    approvedon_date: date | None = None
    approvedon_userid: int | None = None
    disbursedon_date: date | None = None
    disbursedon_userid: int | None = None
    maturedon_date: date | None = None
    closedon_date: date | None = None
    closedon_userid: int | None = None
    rejectedon_date: date | None = None
    rejectedon_userid: int | None = None
    rescheduledon_date: date | None = None
    rescheduledon_userid: int | None = None
    withdrawnon_date: date | None = None
    withdrawnon_userid: int | None = None
    writtenoffon_date: date | None = None
    writeoff_reason_cv_id: int | None = None
    overpaidon_date: date | None = None
    accrued_till: date | None = None
    last_closed_business_date: date | None = None
    is_npa: bool = False
    loan_counter: int | None = None
    loan_product_counter: int | None = None
    days_in_month_enum: int = 30
    days_in_year_enum: int = 360
    loan_transaction_strategy_code: str = "mifos-standard-strategy"
    loan_transaction_strategy_name: str = "Penalties, Fees, Interest, Principal order"
    max_outstanding_loan_balance: Decimal | None = None
    version: int = 1
    total_charges_due_at_disbursement_derived: Decimal | None = None
    principal_disbursed_derived: Decimal = ZERO
    principal_adjustments_derived: Decimal = ZERO
    principal_repaid_derived: Decimal = ZERO
    principal_writtenoff_derived: Decimal = ZERO
    principal_outstanding_derived: Decimal = ZERO
    interest_charged_derived: Decimal = ZERO
    interest_repaid_derived: Decimal = ZERO
    interest_waived_derived: Decimal = ZERO
    interest_writtenoff_derived: Decimal = ZERO
    interest_outstanding_derived: Decimal = ZERO
    fee_charges_charged_derived: Decimal = ZERO
    fee_charges_repaid_derived: Decimal = ZERO
    fee_charges_waived_derived: Decimal = ZERO
    fee_charges_writtenoff_derived: Decimal = ZERO
    fee_charges_outstanding_derived: Decimal = ZERO
    penalty_charges_charged_derived: Decimal = ZERO
    penalty_charges_repaid_derived: Decimal = ZERO
    penalty_charges_waived_derived: Decimal = ZERO
    penalty_charges_writtenoff_derived: Decimal = ZERO
    penalty_charges_outstanding_derived: Decimal = ZERO
    total_expected_repayment_derived: Decimal = ZERO
    total_repayment_derived: Decimal = ZERO
    total_expected_costofloan_derived: Decimal = ZERO
    total_costofloan_derived: Decimal = ZERO
    total_waived_derived: Decimal = ZERO
    total_writtenoff_derived: Decimal = ZERO
    total_outstanding_derived: Decimal = ZERO
    total_overpaid_derived: Decimal | None = None
    total_recovered_derived: Decimal | None = None


@dataclass(slots=True, kw_only=True)
class InstalmentRow(Audited):
    """m_loan_repayment_schedule: one instalment of the current schedule."""

    table: ClassVar[str] = "m_loan_repayment_schedule"
    loan_id: int
    fromdate: date
    duedate: date
    installment: int
    principal_amount: Decimal = ZERO
    principal_completed_derived: Decimal = ZERO
    principal_writtenoff_derived: Decimal = ZERO
    interest_amount: Decimal = ZERO
    interest_completed_derived: Decimal = ZERO
    interest_waived_derived: Decimal = ZERO
    interest_writtenoff_derived: Decimal = ZERO
    accrual_interest_derived: Decimal | None = None
    fee_charges_amount: Decimal = ZERO
    fee_charges_completed_derived: Decimal = ZERO
    fee_charges_waived_derived: Decimal = ZERO
    fee_charges_writtenoff_derived: Decimal = ZERO
    accrual_fee_charges_derived: Decimal | None = None
    penalty_charges_amount: Decimal = ZERO
    penalty_charges_completed_derived: Decimal = ZERO
    penalty_charges_waived_derived: Decimal = ZERO
    penalty_charges_writtenoff_derived: Decimal = ZERO
    accrual_penalty_charges_derived: Decimal | None = None
    total_paid_in_advance_derived: Decimal = ZERO
    total_paid_late_derived: Decimal = ZERO
    completed_derived: bool = False
    obligations_met_on_date: date | None = None
    is_additional: bool = False
    credits_amount: Decimal | None = None

    @property
    def principal_due(self) -> Decimal:
        """Principal still to pay."""
        return self.principal_amount - self.principal_completed_derived - self.principal_writtenoff_derived

    @property
    def interest_due(self) -> Decimal:
        """Interest still to pay."""
        return (
            self.interest_amount
            - self.interest_completed_derived
            - self.interest_waived_derived
            - self.interest_writtenoff_derived
        )

    @property
    def fees_due(self) -> Decimal:
        """Fees still to pay."""
        return (
            self.fee_charges_amount
            - self.fee_charges_completed_derived
            - self.fee_charges_waived_derived
            - self.fee_charges_writtenoff_derived
        )

    @property
    def penalties_due(self) -> Decimal:
        """Penalties still to pay."""
        return (
            self.penalty_charges_amount
            - self.penalty_charges_completed_derived
            - self.penalty_charges_waived_derived
            - self.penalty_charges_writtenoff_derived
        )

    @property
    def total_due(self) -> Decimal:
        """All that is still to pay."""
        return self.principal_due + self.interest_due + self.fees_due + self.penalties_due


@dataclass(slots=True, kw_only=True)
class LoanTransactionRow(Audited):
    """m_loan_transaction."""

    table: ClassVar[str] = "m_loan_transaction"
    loan_id: int
    office_id: int
    transaction_type_enum: int
    transaction_date: date
    amount: Decimal
    submitted_on_date: date
    payment_detail_id: int | None = None
    external_id: str | None = None
    is_reversed: bool = False
    reversed_on_date: date | None = None
    manually_adjusted_or_reversed: bool = False
    principal_portion_derived: Decimal | None = None
    interest_portion_derived: Decimal | None = None
    fee_charges_portion_derived: Decimal | None = None
    penalty_charges_portion_derived: Decimal | None = None
    overpayment_portion_derived: Decimal | None = None
    outstanding_loan_balance_derived: Decimal | None = None

    def portions(self) -> tuple[Decimal, ...]:
        """Principal, interest, fees, penalties and overpayment; absent parts are 0."""
        return (
            self.principal_portion_derived or ZERO,
            self.interest_portion_derived or ZERO,
            self.fee_charges_portion_derived or ZERO,
            self.penalty_charges_portion_derived or ZERO,
            self.overpayment_portion_derived or ZERO,
        )


@dataclass(slots=True, kw_only=True)
class LoanRelationRow(Audited):
    """m_loan_transaction_relation: 1 chargeback, 2 charge adjustment, 3 replayed."""

    table: ClassVar[str] = "m_loan_transaction_relation"
    from_loan_transaction_id: int
    to_loan_transaction_id: int | None
    relation_type_enum: int
    to_loan_charge_id: int | None = None


@dataclass(slots=True, kw_only=True)
class LoanChargeRow(Audited):
    """m_loan_charge."""

    table: ClassVar[str] = "m_loan_charge"
    loan_id: int
    charge_id: int
    is_penalty: bool
    charge_time_enum: int
    due_for_collection_as_of_date: date | None
    charge_calculation_enum: int
    calculation_percentage: Decimal | None
    calculation_on_amount: Decimal | None
    charge_amount_or_percentage: Decimal
    amount: Decimal
    amount_outstanding_derived: Decimal
    submitted_on_date: date
    amount_paid_derived: Decimal = ZERO
    amount_waived_derived: Decimal = ZERO
    amount_writtenoff_derived: Decimal = ZERO
    is_paid_derived: bool = False
    waived: bool = False
    is_active: bool = True
    external_id: str | None = None


@dataclass(slots=True, kw_only=True)
class InstalmentChargeRow(Row):
    """m_loan_installment_charge: the part of an instalment fee that falls on one instalment."""

    table: ClassVar[str] = "m_loan_installment_charge"
    loan_charge_id: int
    loan_schedule_id: int
    due_date: date
    amount: Decimal
    amount_outstanding_derived: Decimal
    amount_paid_derived: Decimal = ZERO
    amount_waived_derived: Decimal = ZERO
    amount_writtenoff_derived: Decimal = ZERO
    is_paid_derived: bool = False
    waived: bool = False


@dataclass(slots=True, kw_only=True)
class LoanChargePaidByRow(Row):
    """m_loan_charge_paid_by: the part of a transaction that settled a charge."""

    table: ClassVar[str] = "m_loan_charge_paid_by"
    loan_transaction_id: int
    loan_charge_id: int
    amount: Decimal
    installment_number: int | None = None


@dataclass(slots=True, kw_only=True)
class OverdueLinkRow(Row):
    """m_loan_overdue_installment_charge: which instalment caused a penalty."""

    table: ClassVar[str] = "m_loan_overdue_installment_charge"
    loan_charge_id: int
    loan_schedule_id: int
    frequency_number: int


@dataclass(slots=True, kw_only=True)
class TrancheRow(Row):
    """m_loan_disbursement_detail."""

    table: ClassVar[str] = "m_loan_disbursement_detail"
    loan_id: int
    expected_disburse_date: date
    disbursedon_date: date | None
    principal: Decimal
    net_disbursal_amount: Decimal | None = None
    is_reversed: bool = False


@dataclass(slots=True, kw_only=True)
class TrancheChargeRow(Row):
    """m_loan_tranche_disbursement_charge."""

    table: ClassVar[str] = "m_loan_tranche_disbursement_charge"
    loan_charge_id: int
    disbursement_detail_id: int


@dataclass(slots=True, kw_only=True)
class ArrearsRow:
    """m_loan_arrears_aging: keyed by the loan itself."""

    table: ClassVar[str] = "m_loan_arrears_aging"
    loan_id: int
    principal_overdue_derived: Decimal
    interest_overdue_derived: Decimal
    fee_charges_overdue_derived: Decimal
    penalty_charges_overdue_derived: Decimal
    total_overdue_derived: Decimal
    overdue_since_date_derived: date
