"""The white list: every ledger column that Passbook reads, as typed rows.

Each field names its column as `alias.column`; the aliases are those of the statement in `sync_worker/ledger/sql`
that fills the row. Three properties follow from the declaration:

* a field of a type without `| None` is never NULL in a sound ledger; a NULL there is reported, not guessed;
* `column(..., optional=True)` marks a column that older releases of Fineract do not have: it reads as NULL;
* any other column that is missing makes the ledger unsuitable, and the error names it.

The first field of every row is the id of its owner: a client, a loan, or a savings account.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, NamedTuple

import msgspec


class column(NamedTuple):  # noqa: N801 - reads as a word inside Annotated[...]
    """Where a field comes from: `alias.column`, and whether an older ledger may lack it."""

    path: str
    optional: bool = False


class Row(msgspec.Struct, gc=False):
    """A row of the ledger; fields in the order of the statement's columns."""


class ClientRow(Row):
    """`m_client` with the labels it points to."""

    id: Annotated[int, column("c.id")]
    account_no: Annotated[str, column("c.account_no")]
    status: Annotated[int, column("c.status_enum")]
    display_name: Annotated[str | None, column("c.display_name")]
    firstname: Annotated[str | None, column("c.firstname")]
    middlename: Annotated[str | None, column("c.middlename")]
    lastname: Annotated[str | None, column("c.lastname")]
    fullname: Annotated[str | None, column("c.fullname")]
    mobile_no: Annotated[str | None, column("c.mobile_no")]
    email_address: Annotated[str | None, column("c.email_address", optional=True)]
    date_of_birth: Annotated[date | None, column("c.date_of_birth")]
    legal_form: Annotated[int | None, column("c.legal_form_enum", optional=True)]
    activation_date: Annotated[date | None, column("c.activation_date")]
    submittedon_date: Annotated[date | None, column("c.submittedon_date")]
    gender: Annotated[str | None, column("gender.code_value")]
    office: Annotated[str | None, column("o.name")]
    #: Where the core keeps the picture: used to find it, never sent.
    image_location: Annotated[str | None, column("i.location", optional=True)]
    image_storage: Annotated[int | None, column("i.storage_type_enum", optional=True)]


class ClientChargeRow(Row):
    """`m_client_charge` with the name and currency of its definition."""

    client_id: Annotated[int, column("cc.client_id")]
    id: Annotated[int, column("cc.id")]
    name: Annotated[str | None, column("ch.name")]
    currency_code: Annotated[str, column("ch.currency_code")]
    is_penalty: Annotated[bool, column("cc.is_penalty")]
    charge_time: Annotated[int, column("cc.charge_time_enum")]
    due_date: Annotated[date | None, column("cc.charge_due_date")]
    calculation: Annotated[int, column("cc.charge_calculation_enum")]
    amount: Annotated[Decimal, column("cc.amount")]
    paid: Annotated[Decimal | None, column("cc.amount_paid_derived")]
    waived: Annotated[Decimal | None, column("cc.amount_waived_derived")]
    written_off: Annotated[Decimal | None, column("cc.amount_writtenoff_derived")]
    outstanding: Annotated[Decimal, column("cc.amount_outstanding_derived")]
    is_active: Annotated[bool | None, column("cc.is_active")]
    inactivated_on: Annotated[date | None, column("cc.inactivated_on_date")]


class ClientTransactionRow(Row):
    """`m_client_transaction` with its payment details."""

    client_id: Annotated[int, column("t.client_id")]
    id: Annotated[int, column("t.id")]
    type: Annotated[int, column("t.transaction_type_enum")]
    on: Annotated[date, column("t.transaction_date")]
    submitted_on: Annotated[date | None, column("t.submitted_on_date", optional=True)]
    created_on: Annotated[datetime | None, column("t.created_on_utc", optional=True)]
    currency_code: Annotated[str, column("t.currency_code")]
    amount: Annotated[Decimal, column("t.amount")]
    is_reversed: Annotated[bool, column("t.is_reversed")]
    payment_type: Annotated[str | None, column("pt.value")]
    receipt_number: Annotated[str | None, column("pd.receipt_number")]


class LoanRow(Row):
    """`m_loan`: terms, dates and the totals that Fineract keeps in the row."""

    client_id: Annotated[int, column("l.client_id")]
    id: Annotated[int, column("l.id")]
    account_no: Annotated[str, column("l.account_no")]
    product: Annotated[str | None, column("p.name")]
    purpose: Annotated[str | None, column("purpose.code_value")]
    status: Annotated[int, column("l.loan_status_id")]
    sub_status: Annotated[int | None, column("l.loan_sub_status_id", optional=True)]
    loan_type: Annotated[int, column("l.loan_type_enum")]
    #: Tells the kind of a loan where `loan_type` does not: never sent.
    group_id: Annotated[int | None, column("l.group_id")]
    several_disbursals: Annotated[bool | None, column("p.allow_multiple_disbursals", optional=True)]
    currency_code: Annotated[str, column("l.currency_code")]
    currency_digits: Annotated[int, column("l.currency_digits")]
    principal_proposed: Annotated[Decimal | None, column("l.principal_amount_proposed", optional=True)]
    principal_approved: Annotated[Decimal, column("l.approved_principal")]
    principal: Annotated[Decimal, column("l.principal_amount")]
    net_disbursal: Annotated[Decimal | None, column("l.net_disbursal_amount", optional=True)]
    rate_per_period: Annotated[Decimal | None, column("l.nominal_interest_rate_per_period")]
    rate_period: Annotated[int | None, column("l.interest_period_frequency_enum")]
    annual_rate: Annotated[Decimal | None, column("l.annual_nominal_interest_rate")]
    interest_method: Annotated[int, column("l.interest_method_enum")]
    interest_calculated: Annotated[int, column("l.interest_calculated_in_period_enum")]
    amortization: Annotated[int, column("l.amortization_method_enum")]
    is_floating_rate: Annotated[bool | None, column("l.is_floating_interest_rate", optional=True)]
    interest_recalculation: Annotated[bool | None, column("l.interest_recalculation_enabled", optional=True)]
    term: Annotated[int, column("l.term_frequency")]
    term_unit: Annotated[int, column("l.term_period_frequency_enum")]
    number_of_repayments: Annotated[int, column("l.number_of_repayments")]
    repay_every: Annotated[int, column("l.repay_every")]
    repay_unit: Annotated[int, column("l.repayment_period_frequency_enum")]
    grace_principal: Annotated[int | None, column("l.grace_on_principal_periods")]
    grace_interest: Annotated[int | None, column("l.grace_on_interest_periods")]
    grace_interest_free: Annotated[int | None, column("l.grace_interest_free_periods")]
    fixed_instalment: Annotated[Decimal | None, column("l.fixed_emi_amount", optional=True)]
    days_in_month: Annotated[int | None, column("l.days_in_month_enum", optional=True)]
    days_in_year: Annotated[int | None, column("l.days_in_year_enum", optional=True)]
    schedule_type: Annotated[str | None, column("l.loan_schedule_type", optional=True)]
    is_topup: Annotated[bool | None, column("l.is_topup", optional=True)]
    submitted_on: Annotated[date | None, column("l.submittedon_date")]
    approved_on: Annotated[date | None, column("l.approvedon_date")]
    expected_disbursed_on: Annotated[date | None, column("l.expected_disbursedon_date")]
    disbursed_on: Annotated[date | None, column("l.disbursedon_date")]
    expected_first_repayment_on: Annotated[date | None, column("l.expected_firstrepaymenton_date")]
    interest_from: Annotated[date | None, column("l.interest_calculated_from_date")]
    expected_matured_on: Annotated[date | None, column("l.expected_maturedon_date")]
    matured_on: Annotated[date | None, column("l.maturedon_date")]
    closed_on: Annotated[date | None, column("l.closedon_date")]
    written_off_on: Annotated[date | None, column("l.writtenoffon_date")]
    rescheduled_on: Annotated[date | None, column("l.rescheduledon_date")]
    overpaid_on: Annotated[date | None, column("l.overpaidon_date", optional=True)]
    fees_at_disbursement: Annotated[Decimal | None, column("l.total_charges_due_at_disbursement_derived")]
    principal_disbursed: Annotated[Decimal, column("l.principal_disbursed_derived")]
    principal_adjustments: Annotated[Decimal | None, column("l.principal_adjustments_derived", optional=True)]
    principal_repaid: Annotated[Decimal, column("l.principal_repaid_derived")]
    principal_written_off: Annotated[Decimal, column("l.principal_writtenoff_derived")]
    principal_outstanding: Annotated[Decimal, column("l.principal_outstanding_derived")]
    interest_charged: Annotated[Decimal, column("l.interest_charged_derived")]
    interest_repaid: Annotated[Decimal, column("l.interest_repaid_derived")]
    interest_waived: Annotated[Decimal, column("l.interest_waived_derived")]
    interest_written_off: Annotated[Decimal, column("l.interest_writtenoff_derived")]
    interest_outstanding: Annotated[Decimal, column("l.interest_outstanding_derived")]
    fees_charged: Annotated[Decimal, column("l.fee_charges_charged_derived")]
    fees_adjustments: Annotated[Decimal | None, column("l.fee_adjustments_derived", optional=True)]
    fees_repaid: Annotated[Decimal, column("l.fee_charges_repaid_derived")]
    fees_waived: Annotated[Decimal, column("l.fee_charges_waived_derived")]
    fees_written_off: Annotated[Decimal, column("l.fee_charges_writtenoff_derived")]
    fees_outstanding: Annotated[Decimal, column("l.fee_charges_outstanding_derived")]
    penalties_charged: Annotated[Decimal, column("l.penalty_charges_charged_derived")]
    penalties_adjustments: Annotated[Decimal | None, column("l.penalty_adjustments_derived", optional=True)]
    penalties_repaid: Annotated[Decimal, column("l.penalty_charges_repaid_derived")]
    penalties_waived: Annotated[Decimal, column("l.penalty_charges_waived_derived")]
    penalties_written_off: Annotated[Decimal, column("l.penalty_charges_writtenoff_derived")]
    penalties_outstanding: Annotated[Decimal, column("l.penalty_charges_outstanding_derived")]
    total_expected: Annotated[Decimal, column("l.total_expected_repayment_derived")]
    total_repaid: Annotated[Decimal, column("l.total_repayment_derived")]
    total_expected_cost: Annotated[Decimal, column("l.total_expected_costofloan_derived")]
    total_cost: Annotated[Decimal, column("l.total_costofloan_derived")]
    total_waived: Annotated[Decimal, column("l.total_waived_derived")]
    total_written_off: Annotated[Decimal, column("l.total_writtenoff_derived")]
    total_outstanding: Annotated[Decimal, column("l.total_outstanding_derived")]
    total_overpaid: Annotated[Decimal | None, column("l.total_overpaid_derived")]


class DisbursementRow(Row):
    """`m_loan_disbursement_detail`: one tranche, reversed ones left out."""

    loan_id: Annotated[int, column("d.loan_id")]
    id: Annotated[int, column("d.id")]
    expected_on: Annotated[date | None, column("d.expected_disburse_date")]
    disbursed_on: Annotated[date | None, column("d.disbursedon_date")]
    principal: Annotated[Decimal, column("d.principal")]
    net_amount: Annotated[Decimal | None, column("d.net_disbursal_amount", optional=True)]
    is_reversed: Annotated[bool | None, column("d.is_reversed", optional=True)]


class InstalmentRow(Row):
    """`m_loan_repayment_schedule`: one instalment of the current schedule. Its row id is not stable."""

    loan_id: Annotated[int, column("s.loan_id")]
    number: Annotated[int, column("s.installment")]
    from_date: Annotated[date | None, column("s.fromdate")]
    due_date: Annotated[date, column("s.duedate")]
    principal: Annotated[Decimal | None, column("s.principal_amount")]
    principal_paid: Annotated[Decimal | None, column("s.principal_completed_derived")]
    principal_written_off: Annotated[Decimal | None, column("s.principal_writtenoff_derived")]
    interest: Annotated[Decimal | None, column("s.interest_amount")]
    interest_paid: Annotated[Decimal | None, column("s.interest_completed_derived")]
    interest_waived: Annotated[Decimal | None, column("s.interest_waived_derived")]
    interest_written_off: Annotated[Decimal | None, column("s.interest_writtenoff_derived")]
    fees: Annotated[Decimal | None, column("s.fee_charges_amount")]
    fees_paid: Annotated[Decimal | None, column("s.fee_charges_completed_derived")]
    fees_waived: Annotated[Decimal | None, column("s.fee_charges_waived_derived")]
    fees_written_off: Annotated[Decimal | None, column("s.fee_charges_writtenoff_derived")]
    penalties: Annotated[Decimal | None, column("s.penalty_charges_amount")]
    penalties_paid: Annotated[Decimal | None, column("s.penalty_charges_completed_derived")]
    penalties_waived: Annotated[Decimal | None, column("s.penalty_charges_waived_derived")]
    penalties_written_off: Annotated[Decimal | None, column("s.penalty_charges_writtenoff_derived")]
    paid_in_advance: Annotated[Decimal | None, column("s.total_paid_in_advance_derived")]
    paid_late: Annotated[Decimal | None, column("s.total_paid_late_derived")]
    is_complete: Annotated[bool, column("s.completed_derived")]
    completed_on: Annotated[date | None, column("s.obligations_met_on_date")]
    is_additional: Annotated[bool | None, column("s.is_additional", optional=True)]
    is_down_payment: Annotated[bool | None, column("s.is_down_payment", optional=True)]
    credits: Annotated[Decimal | None, column("s.credits_amount", optional=True)]
    credited_fees: Annotated[Decimal | None, column("s.credited_fee", optional=True)]
    credited_penalties: Annotated[Decimal | None, column("s.credited_penalty", optional=True)]


class LoanChargeRow(Row):
    """`m_loan_charge` with the name of its definition and, for a tranche charge, the tranche's date."""

    loan_id: Annotated[int, column("lc.loan_id")]
    id: Annotated[int, column("lc.id")]
    name: Annotated[str | None, column("ch.name")]
    is_penalty: Annotated[bool, column("lc.is_penalty")]
    charge_time: Annotated[int, column("lc.charge_time_enum")]
    calculation: Annotated[int, column("lc.charge_calculation_enum")]
    payment_mode: Annotated[int | None, column("lc.charge_payment_mode_enum", optional=True)]
    due_date: Annotated[date | None, column("lc.due_for_collection_as_of_date")]
    tranche_id: Annotated[int | None, column("td.disbursement_detail_id", optional=True)]
    tranche_expected_on: Annotated[date | None, column("d.expected_disburse_date", optional=True)]
    tranche_disbursed_on: Annotated[date | None, column("d.disbursedon_date", optional=True)]
    percentage: Annotated[Decimal | None, column("lc.calculation_percentage")]
    calculated_on: Annotated[Decimal | None, column("lc.calculation_on_amount")]
    amount: Annotated[Decimal, column("lc.amount")]
    paid: Annotated[Decimal | None, column("lc.amount_paid_derived")]
    waived: Annotated[Decimal | None, column("lc.amount_waived_derived")]
    written_off: Annotated[Decimal | None, column("lc.amount_writtenoff_derived")]
    outstanding: Annotated[Decimal, column("lc.amount_outstanding_derived")]
    is_active: Annotated[bool, column("lc.is_active")]
    submitted_on: Annotated[date | None, column("lc.submitted_on_date", optional=True)]


class InstalmentChargeRow(Row):
    """`m_loan_installment_charge`: the share of an instalment fee that falls on one instalment."""

    loan_id: Annotated[int, column("lc.loan_id")]
    charge_id: Annotated[int, column("ic.loan_charge_id")]
    number: Annotated[int, column("s.installment")]
    due_date: Annotated[date, column("s.duedate")]
    amount: Annotated[Decimal, column("ic.amount")]
    paid: Annotated[Decimal | None, column("ic.amount_paid_derived")]
    waived: Annotated[Decimal | None, column("ic.amount_waived_derived")]
    written_off: Annotated[Decimal | None, column("ic.amount_writtenoff_derived")]
    outstanding: Annotated[Decimal, column("ic.amount_outstanding_derived")]


class LoanTransactionRow(Row):
    """`m_loan_transaction` with its payment details."""

    loan_id: Annotated[int, column("t.loan_id")]
    id: Annotated[int, column("t.id")]
    type: Annotated[int, column("t.transaction_type_enum")]
    on: Annotated[date, column("t.transaction_date")]
    submitted_on: Annotated[date | None, column("t.submitted_on_date", optional=True)]
    created_on: Annotated[datetime | None, column("t.created_on_utc", optional=True)]
    amount: Annotated[Decimal, column("t.amount")]
    principal: Annotated[Decimal | None, column("t.principal_portion_derived")]
    interest: Annotated[Decimal | None, column("t.interest_portion_derived")]
    fees: Annotated[Decimal | None, column("t.fee_charges_portion_derived")]
    penalties: Annotated[Decimal | None, column("t.penalty_charges_portion_derived")]
    overpayment: Annotated[Decimal | None, column("t.overpayment_portion_derived")]
    balance_after: Annotated[Decimal | None, column("t.outstanding_loan_balance_derived")]
    is_reversed: Annotated[bool, column("t.is_reversed")]
    reversed_on: Annotated[date | None, column("t.reversed_on_date", optional=True)]
    is_adjusted: Annotated[bool | None, column("t.manually_adjusted_or_reversed", optional=True)]
    payment_type: Annotated[str | None, column("pt.value")]
    receipt_number: Annotated[str | None, column("pd.receipt_number")]


class SavingsRow(Row):
    """`m_savings_account` with the extra rows of fixed and recurring deposits."""

    client_id: Annotated[int, column("a.client_id")]
    id: Annotated[int, column("a.id")]
    account_no: Annotated[str, column("a.account_no")]
    product: Annotated[str | None, column("p.name")]
    status: Annotated[int, column("a.status_enum")]
    sub_status: Annotated[int | None, column("a.sub_status_enum", optional=True)]
    account_type: Annotated[int, column("a.account_type_enum")]
    deposit_type: Annotated[int, column("a.deposit_type_enum")]
    currency_code: Annotated[str, column("a.currency_code")]
    currency_digits: Annotated[int, column("a.currency_digits")]
    annual_rate: Annotated[Decimal, column("a.nominal_annual_interest_rate")]
    compounding: Annotated[int, column("a.interest_compounding_period_enum")]
    posting: Annotated[int, column("a.interest_posting_period_enum")]
    calculation: Annotated[int, column("a.interest_calculation_type_enum")]
    days_in_year: Annotated[int, column("a.interest_calculation_days_in_year_type_enum")]
    min_opening_balance: Annotated[Decimal | None, column("a.min_required_opening_balance")]
    lockin: Annotated[Decimal | None, column("a.lockin_period_frequency")]
    lockin_unit: Annotated[int | None, column("a.lockin_period_frequency_enum")]
    locked_in_until: Annotated[date | None, column("a.lockedin_until_date_derived")]
    allow_overdraft: Annotated[bool | None, column("a.allow_overdraft")]
    overdraft_limit: Annotated[Decimal | None, column("a.overdraft_limit")]
    overdraft_rate: Annotated[Decimal | None, column("a.nominal_annual_interest_rate_overdraft", optional=True)]
    min_balance: Annotated[Decimal | None, column("a.min_required_balance")]
    enforce_min_balance: Annotated[bool | None, column("a.enforce_min_required_balance")]
    min_balance_for_interest: Annotated[
        Decimal | None, column("a.min_balance_for_interest_calculation", optional=True)
    ]
    fee_for_transfer: Annotated[bool | None, column("a.withdrawal_fee_for_transfer")]
    submitted_on: Annotated[date | None, column("a.submittedon_date")]
    approved_on: Annotated[date | None, column("a.approvedon_date")]
    activated_on: Annotated[date | None, column("a.activatedon_date")]
    closed_on: Annotated[date | None, column("a.closedon_date")]
    balance: Annotated[Decimal, column("a.account_balance_derived")]
    held_as_guarantee: Annotated[Decimal | None, column("a.on_hold_funds_derived")]
    on_hold: Annotated[Decimal | None, column("a.total_savings_amount_on_hold", optional=True)]
    deposits: Annotated[Decimal | None, column("a.total_deposits_derived")]
    withdrawals: Annotated[Decimal | None, column("a.total_withdrawals_derived")]
    withdrawal_fees: Annotated[Decimal | None, column("a.total_withdrawal_fees_derived")]
    annual_fees: Annotated[Decimal | None, column("a.total_annual_fees_derived")]
    fees: Annotated[Decimal | None, column("a.total_fees_charge_derived")]
    penalties: Annotated[Decimal | None, column("a.total_penalty_charge_derived")]
    interest_earned: Annotated[Decimal | None, column("a.total_interest_earned_derived")]
    interest_posted: Annotated[Decimal | None, column("a.total_interest_posted_derived")]
    overdraft_interest: Annotated[Decimal | None, column("a.total_overdraft_interest_derived", optional=True)]
    withheld_tax: Annotated[Decimal | None, column("a.total_withhold_tax_derived", optional=True)]
    deposit_amount: Annotated[Decimal | None, column("dt.deposit_amount")]
    deposit_period: Annotated[int | None, column("dt.deposit_period")]
    deposit_period_unit: Annotated[int | None, column("dt.deposit_period_frequency_enum")]
    maturity_amount: Annotated[Decimal | None, column("dt.maturity_amount")]
    maturity_on: Annotated[date | None, column("dt.maturity_date")]
    on_closure: Annotated[int | None, column("dt.on_account_closure_enum")]
    preclosure_penalty: Annotated[bool | None, column("dt.pre_closure_penal_applicable")]
    preclosure_rate: Annotated[Decimal | None, column("dt.pre_closure_penal_interest")]
    preclosure_on: Annotated[int | None, column("dt.pre_closure_penal_interest_on_enum")]
    recurring_amount: Annotated[Decimal | None, column("dr.mandatory_recommended_deposit_amount")]
    recurring_mandatory: Annotated[bool | None, column("dr.is_mandatory")]
    recurring_withdrawal: Annotated[bool | None, column("dr.allow_withdrawal")]


class PlannedDepositRow(Row):
    """`m_mandatory_savings_schedule`: one instalment of a recurring deposit's plan."""

    savings_id: Annotated[int, column("ms.savings_account_id")]
    number: Annotated[int, column("ms.installment")]
    from_date: Annotated[date | None, column("ms.fromdate")]
    due_date: Annotated[date, column("ms.duedate")]
    amount: Annotated[Decimal | None, column("ms.deposit_amount")]
    paid: Annotated[Decimal | None, column("ms.deposit_amount_completed_derived")]
    is_complete: Annotated[bool, column("ms.completed_derived")]
    completed_on: Annotated[date | None, column("ms.obligations_met_on_date")]


class SavingsChargeRow(Row):
    """`m_savings_account_charge` with the name of its definition."""

    savings_id: Annotated[int, column("sc.savings_account_id")]
    id: Annotated[int, column("sc.id")]
    name: Annotated[str | None, column("ch.name")]
    is_penalty: Annotated[bool, column("sc.is_penalty")]
    charge_time: Annotated[int, column("sc.charge_time_enum")]
    calculation: Annotated[int, column("sc.charge_calculation_enum")]
    due_date: Annotated[date | None, column("sc.charge_due_date")]
    percentage: Annotated[Decimal | None, column("sc.calculation_percentage")]
    calculated_on: Annotated[Decimal | None, column("sc.calculation_on_amount")]
    amount: Annotated[Decimal, column("sc.amount")]
    paid: Annotated[Decimal | None, column("sc.amount_paid_derived")]
    waived: Annotated[Decimal | None, column("sc.amount_waived_derived")]
    written_off: Annotated[Decimal | None, column("sc.amount_writtenoff_derived")]
    outstanding: Annotated[Decimal, column("sc.amount_outstanding_derived")]
    is_active: Annotated[bool, column("sc.is_active")]
    inactivated_on: Annotated[date | None, column("sc.inactivated_on_date")]


class SavingsTransactionRow(Row):
    """`m_savings_account_transaction` with its payment details."""

    savings_id: Annotated[int, column("t.savings_account_id")]
    id: Annotated[int, column("t.id")]
    type: Annotated[int, column("t.transaction_type_enum")]
    on: Annotated[date, column("t.transaction_date")]
    submitted_on: Annotated[date | None, column("t.submitted_on_date", optional=True)]
    created_on: Annotated[datetime | None, column("t.created_on_utc", optional=True)]
    amount: Annotated[Decimal, column("t.amount")]
    overdraft: Annotated[Decimal | None, column("t.overdraft_amount_derived")]
    balance_after: Annotated[Decimal | None, column("t.running_balance_derived")]
    is_reversed: Annotated[bool, column("t.is_reversed")]
    is_reversal: Annotated[bool | None, column("t.is_reversal", optional=True)]
    original_id: Annotated[int | None, column("t.original_transaction_id", optional=True)]
    released_by: Annotated[int | None, column("t.release_id_of_hold_amount", optional=True)]
    payment_type: Annotated[str | None, column("pt.value")]
    receipt_number: Annotated[str | None, column("pd.receipt_number")]


class CurrencyRow(Row):
    """`m_currency`, or `m_organisation_currency`, whose digits count for what has no digits of its own."""

    code: Annotated[str, column("cur.code")]
    digits: Annotated[int, column("cur.decimal_places")]
    symbol: Annotated[str | None, column("cur.display_symbol")]


#: Table and column that stand in no row: the day the books are on, where the institution moves it itself.
BUSINESS_DATE = ("m_business_date", "date")


class Picture(msgspec.Struct, frozen=True):
    """A client's picture as found in the core's content store."""

    content_type: str
    data: bytes


class LoanAggregate(msgspec.Struct):
    """One loan with everything below it."""

    loan: LoanRow
    disbursements: list[DisbursementRow]
    instalments: list[InstalmentRow]
    charges: list[LoanChargeRow]
    instalment_charges: list[InstalmentChargeRow]
    transactions: list[LoanTransactionRow]


class SavingsAggregate(msgspec.Struct):
    """One savings or deposit account with everything below it."""

    account: SavingsRow
    plan: list[PlannedDepositRow]
    charges: list[SavingsChargeRow]
    transactions: list[SavingsTransactionRow]


class ClientAggregate(msgspec.Struct):
    """One client and everything that belongs to them, as of one snapshot of the ledger."""

    client: ClientRow
    picture: Picture | None
    charges: list[ClientChargeRow]
    transactions: list[ClientTransactionRow]
    loans: list[LoanAggregate]
    savings: list[SavingsAggregate]
