"""Clients, their charges and transactions, photos and identity documents."""

from __future__ import annotations

from sqlalchemy import Index, Integer, Table, UniqueConstraint

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

# Pointer to a photo file (client or staff).
m_image = Table(
    "m_image",
    metadata,
    key(),
    *texts(500, "location"),
    *smallints("storage_type_enum"),
)

# The customer (person or legal entity). One row per client.
m_client = Table(
    "m_client",
    metadata,
    key(),
    *texts(20, "account_no", null=False),
    *texts(100, "external_id"),
    *integers("status_enum", null=False, default=300),
    *refs("m_code_value", "sub_status", kind=Integer),
    *dates("activation_date", "office_joining_date"),
    *refs("m_office", "office_id", null=False),
    *refs("m_office", "transfer_to_office_id"),
    *refs("m_staff", "staff_id"),
    *texts(50, "firstname", "middlename", "lastname"),
    *texts(160, "fullname"),
    *texts(160, "display_name", null=STRICT_ON_POSTGRESQL),
    *texts(50, "mobile_no"),
    *flags("is_staff", null=False, default=False),
    *refs("m_code_value", "gender_cv_id", kind=Integer),
    *dates("date_of_birth"),
    *refs("m_image", "image_id"),
    *refs("m_code_value", "closure_reason_cv_id", kind=Integer),
    *dates("closedon_date"),
    *bigints("updated_by"),
    *dates("updated_on", "submittedon_date"),
    *bigints("activatedon_userid", "closedon_userid"),
    *refs("m_savings_product", "default_savings_product"),
    *refs("m_savings_account", "default_savings_account", late=True),
    *refs(
        "m_code_value",
        "client_type_cv_id",
        "client_classification_cv_id",
        "reject_reason_cv_id",
        kind=Integer,
    ),
    *dates("rejectedon_date"),
    *bigints("rejectedon_userid"),
    *refs("m_code_value", "withdraw_reason_cv_id", kind=Integer),
    *dates("withdrawn_on_date"),
    *bigints("withdraw_on_userid"),
    *dates("reactivated_on_date"),
    *bigints("reactivated_on_userid"),
    *integers("legal_form_enum"),
    *dates("reopened_on_date"),
    *bigints("reopened_by_userid"),
    *texts(150, "email_address"),
    *dates("proposed_transfer_date"),
    *instants("created_on_utc", null=STRICT_ON_POSTGRESQL),
    *refs("m_appuser", "created_by", "last_modified_by", null=False),
    *instants("last_modified_on_utc", null=STRICT_ON_POSTGRESQL),
    UniqueConstraint("account_no"),
    UniqueConstraint("external_id"),
    UniqueConstraint("mobile_no"),
)

# Identity documents (passport, national id ...). `document_key` is the number itself, in clear.
m_client_identifier = Table(
    "m_client_identifier",
    metadata,
    key(),
    *refs("m_client", "client_id", null=False),
    *refs("m_code_value", "document_type_id", kind=Integer, null=False),
    *texts(50, "document_key", null=False),
    *integers("status", null=False, default=300),
    *integers("active"),
    *texts(500, "description"),
    *refs("m_appuser", "created_by", "last_modified_by", null=False),
    *local_times("created_date", "lastmodified_date"),
    *instants("created_on_utc", "last_modified_on_utc", null=STRICT_ON_POSTGRESQL),
    UniqueConstraint("client_id", "document_type_id", "active"),
    UniqueConstraint("document_type_id", "document_key"),
    Index("m_client_identifier_client_id", "client_id"),
)

# A fee or penalty put directly on a client (not on an account).
m_client_charge = Table(
    "m_client_charge",
    metadata,
    key(),
    *refs("m_client", "client_id", null=False),
    *refs("m_charge", "charge_id", null=False),
    *flags("is_penalty", null=False),
    *smallints("charge_time_enum", null=False),
    *dates("charge_due_date"),
    *smallints("charge_calculation_enum", null=False),
    *moneys("amount", null=False),
    *moneys("amount_paid_derived", "amount_waived_derived", "amount_writtenoff_derived"),
    *moneys("amount_outstanding_derived", null=False),
    *flags("is_paid_derived", "waived", "is_active"),
    *dates("inactivated_on_date"),
    Index("m_client_charge_charge_id", "charge_id"),
    Index("m_client_charge_client_id", "client_id"),
)

# Payment or waiver of a client charge.
m_client_transaction = Table(
    "m_client_transaction",
    metadata,
    key(),
    *refs("m_client", "client_id", null=False),
    *bigints("office_id", null=False),
    *texts(3, "currency_code", null=False),
    *bigints("payment_detail_id"),
    *flags("is_reversed", null=False),
    *texts(50, "external_id"),
    *dates("transaction_date", null=False),
    *smallints("transaction_type_enum", null=False),
    *moneys("amount", null=False),
    *local_times("created_date"),
    *instants("created_on_utc", null=STRICT_ON_POSTGRESQL),
    *refs("m_appuser", "created_by", "last_modified_by", null=False),
    *instants("last_modified_on_utc", null=STRICT_ON_POSTGRESQL),
    *dates("submitted_on_date", null=False),
    UniqueConstraint("external_id"),
    Index("m_client_transaction_submitted_on_date", "submitted_on_date"),
    Index("m_client_transaction_client_id", "client_id"),
)

# Links a client transaction to the client charge it settles.
m_client_charge_paid_by = Table(
    "m_client_charge_paid_by",
    metadata,
    key(),
    *refs("m_client_transaction", "client_transaction_id", null=False),
    *refs("m_client_charge", "client_charge_id", null=False),
    *moneys("amount", null=False),
    Index("m_client_charge_paid_by_client_charge_id", "client_charge_id"),
    Index("m_client_charge_paid_by_client_transaction_id", "client_transaction_id"),
)

# Free-text notes of staff on anything. CONFIDENTIAL as a whole.
m_note = Table(
    "m_note",
    metadata,
    key(),
    *refs("m_client", "client_id"),
    *bigints("group_id"),
    *refs("m_loan", "loan_id"),
    *refs("m_loan_transaction", "loan_transaction_id"),
    *refs("m_savings_account", "savings_account_id"),
    *bigints("savings_account_transaction_id", "share_account_id"),
    *smallints("note_type_enum", null=False),
    *texts(1000, "note"),
    *local_times("created_date"),
    *refs("m_appuser", "created_by", null=False),
    *local_times("lastmodified_date"),
    *refs("m_appuser", "last_modified_by", null=False),
    *instants("created_on_utc", "last_modified_on_utc", null=STRICT_ON_POSTGRESQL),
    Index("m_note_group_id", "group_id"),
    Index("m_note_savings_account_id", "savings_account_id"),
    Index("m_note_loan_transaction_id", "loan_transaction_id"),
    Index("m_note_loan_id", "loan_id"),
    Index("m_note_client_id", "client_id"),
    Index("m_note_savings_account_transaction_id", "savings_account_transaction_id"),
)
