"""What happens on a loan: transactions and charges."""

from __future__ import annotations

from sqlalchemy import Index, Table, UniqueConstraint

from sample_institution.tables.columns import (
    STRICT_ON_POSTGRESQL,
    bigints,
    dates,
    flags,
    instants,
    integers,
    key,
    local_times,
    metadata,
    moneys,
    refs,
    smallints,
    texts,
)

# Every money movement or accounting event on a loan.
m_loan_transaction = Table(
    "m_loan_transaction",
    metadata,
    key(),
    *refs("m_loan", "loan_id", null=False),
    *refs("m_office", "office_id", null=False),
    *refs("m_payment_detail", "payment_detail_id"),
    *flags("is_reversed", null=False),
    *texts(100, "external_id"),
    *smallints("transaction_type_enum", null=False),
    *dates("transaction_date", null=False),
    *moneys("amount", null=False),
    *moneys(
        "principal_portion_derived",
        "interest_portion_derived",
        "fee_charges_portion_derived",
        "penalty_charges_portion_derived",
        "overpayment_portion_derived",
        "unrecognized_income_portion",
        "outstanding_loan_balance_derived",
    ),
    *dates("submitted_on_date", null=False),
    *flags("manually_adjusted_or_reversed", default=False),
    *local_times("created_date"),
    *refs("m_appuser", "created_by", "last_modified_by", null=False),
    *instants("created_on_utc", "last_modified_on_utc", null=STRICT_ON_POSTGRESQL),
    *texts(1, "charge_refund_charge_type"),
    *texts(100, "reversal_external_id"),
    *dates("reversed_on_date"),
    UniqueConstraint("external_id"),
    UniqueConstraint("reversal_external_id"),
    Index("m_loan_transaction_loan_id", "loan_id"),
)

# Fee or penalty on a loan.
m_loan_charge = Table(
    "m_loan_charge",
    metadata,
    key(),
    *refs("m_loan", "loan_id", null=False),
    *refs("m_charge", "charge_id", null=False),
    *flags("is_penalty", null=False, default=False),
    *smallints("charge_time_enum", null=False),
    *dates("due_for_collection_as_of_date"),
    *smallints("charge_calculation_enum", null=False),
    *smallints("charge_payment_mode_enum", null=False, default=0),
    *moneys("calculation_percentage", "calculation_on_amount", "charge_amount_or_percentage"),
    *moneys("amount", null=False),
    *moneys("amount_paid_derived", "amount_waived_derived", "amount_writtenoff_derived"),
    *moneys("amount_outstanding_derived", null=False, default=0),
    *flags("is_paid_derived", "waived", null=False, default=False),
    *moneys("min_cap", "max_cap"),
    *flags("is_active", null=False, default=True),
    *texts(100, "external_id"),
    *dates("submitted_on_date"),
    *instants("created_on_utc", "last_modified_on_utc", null=False),
    *refs("m_appuser", "created_by", "last_modified_by", null=False),
    UniqueConstraint("external_id"),
    Index("m_loan_charge_charge_id", "charge_id"),
    Index("m_loan_charge_loan_id", "loan_id"),
)

# Link between two loan transactions or a transaction and a charge (chargeback of, replay of, adjustment of).
m_loan_transaction_relation = Table(
    "m_loan_transaction_relation",
    metadata,
    key(),
    *refs("m_loan_transaction", "from_loan_transaction_id", null=False),
    *refs("m_loan_transaction", "to_loan_transaction_id"),
    *integers("relation_type_enum", null=False),
    *bigints("created_by", null=False),
    *instants("created_on_utc", null=STRICT_ON_POSTGRESQL),
    *bigints("last_modified_by", null=False),
    *instants("last_modified_on_utc", null=STRICT_ON_POSTGRESQL),
    *refs("m_loan_charge", "to_loan_charge_id"),
    Index("m_loan_transaction_relation_from_loan_transaction_id", "from_loan_transaction_id"),
)

# Part of a transaction that paid a loan charge.
m_loan_charge_paid_by = Table(
    "m_loan_charge_paid_by",
    metadata,
    key(),
    *refs("m_loan_transaction", "loan_transaction_id", null=False),
    *refs("m_loan_charge", "loan_charge_id", null=False),
    *moneys("amount", null=False),
    *smallints("installment_number"),
    Index("m_loan_charge_paid_by_loan_charge_id", "loan_charge_id"),
    Index("m_loan_charge_paid_by_loan_transaction_id", "loan_transaction_id"),
)

# Per-instalment split of an instalment fee.
m_loan_installment_charge = Table(
    "m_loan_installment_charge",
    metadata,
    key(),
    *refs("m_loan_charge", "loan_charge_id", null=False),
    *refs("m_loan_repayment_schedule", "loan_schedule_id", null=False),
    *dates("due_date"),
    *moneys("amount", null=False),
    *moneys("amount_paid_derived", "amount_waived_derived", "amount_writtenoff_derived"),
    *moneys("amount_outstanding_derived", null=False, default=0),
    *flags("is_paid_derived", "waived", null=False, default=False),
    *moneys("amount_through_charge_payment"),
    Index("m_loan_installment_charge_loan_charge_id", "loan_charge_id"),
    Index("m_loan_installment_charge_loan_schedule_id", "loan_schedule_id"),
)

# Ties a charge to a tranche.
m_loan_tranche_disbursement_charge = Table(
    "m_loan_tranche_disbursement_charge",
    metadata,
    key(),
    *refs("m_loan_charge", "loan_charge_id", null=False),
    *refs("m_loan_disbursement_detail", "disbursement_detail_id"),
    Index("m_loan_tranche_disbursement_charge_loan_charge_id", "loan_charge_id"),
)

# Marks a penalty as caused by an overdue instalment.
m_loan_overdue_installment_charge = Table(
    "m_loan_overdue_installment_charge",
    metadata,
    key(),
    *refs("m_loan_charge", "loan_charge_id", null=False),
    *refs("m_loan_repayment_schedule", "loan_schedule_id", null=False),
    *integers("frequency_number", null=False),
    Index("m_loan_overdue_installment_charge_loan_charge_id", "loan_charge_id"),
    Index("m_loan_overdue_installment_charge_loan_schedule_id", "loan_schedule_id"),
)
