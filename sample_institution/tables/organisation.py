"""The institution itself: offices, staff, users, currencies, code lists, settings."""

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
    refs,
    smallints,
    texts,
)

# World list of currencies (164 rows after install).
m_currency = Table(
    "m_currency",
    metadata,
    key(),
    *texts(3, "code", null=False),
    *smallints("decimal_places", null=False),
    *smallints("currency_multiplesof"),
    *texts(10, "display_symbol"),
    *texts(50, "name", "internationalized_name_code", null=False),
    UniqueConstraint("code"),
)

# Currencies enabled for the institution (1 row, USD, after install). Rewritten completely on every change.
m_organisation_currency = Table(
    "m_organisation_currency",
    metadata,
    key(),
    *texts(3, "code", null=False),
    *smallints("decimal_places", null=False),
    *smallints("currency_multiplesof"),
    *texts(50, "name", null=False),
    *texts(10, "display_symbol"),
    *texts(50, "internationalized_name_code", null=False),
)

# Code list header.
m_code = Table(
    "m_code",
    metadata,
    key(Integer),
    *texts(100, "code_name"),
    *flags("is_system_defined", null=False, default=False),
    UniqueConstraint("code_name"),
)

# Code list value (gender, loan purpose, relationship ...).
m_code_value = Table(
    "m_code_value",
    metadata,
    key(Integer),
    *refs("m_code", "code_id", kind=Integer, null=False),
    *texts(100, "code_value"),
    *texts(500, "code_description"),
    *integers("order_position", null=False, default=0),
    *integers("code_score"),
    *flags("is_active", null=False, default=True),
    *flags("is_mandatory", null=False, default=False),
    UniqueConstraint("code_id", "code_value"),
)

# Branch tree.
m_office = Table(
    "m_office",
    metadata,
    key(),
    *refs("m_office", "parent_id"),
    *texts(100, "hierarchy", "external_id"),
    *texts(50, "name", null=False),
    *dates("opening_date", null=False),
    UniqueConstraint("external_id"),
    UniqueConstraint("name"),
    Index("m_office_parent_id", "parent_id"),
)

# Employees.
m_staff = Table(
    "m_staff",
    metadata,
    key(),
    *flags("is_loan_officer", null=False, default=False),
    *refs("m_office", "office_id"),
    *texts(50, "firstname", "lastname"),
    *texts(102, "display_name", null=False),
    *texts(50, "mobile_no"),
    *texts(100, "external_id"),
    *smallints("organisational_role_enum"),
    *bigints("organisational_role_parent_staff_id"),
    *flags("is_active", null=False, default=True),
    *dates("joining_date"),
    *refs("m_image", "image_id"),
    *texts(150, "email_address"),
    UniqueConstraint("display_name"),
    UniqueConstraint("external_id"),
    UniqueConstraint("mobile_no"),
)

# Cash, transfer, ... (3 rows after install).
m_payment_type = Table(
    "m_payment_type",
    metadata,
    key(Integer),
    *texts(100, "value"),
    *texts(500, "description"),
    *flags("is_cash_payment", default=False),
    *integers("order_position", null=False, default=0),
    *texts(100, "code_name"),
    *flags("is_system_defined", null=False, default=False),
)

# How a payment was made. Written once, never updated.
m_payment_detail = Table(
    "m_payment_detail",
    metadata,
    key(),
    *refs("m_payment_type", "payment_type_id", kind=Integer),
    *texts(100, "account_number", "check_number", "receipt_number", "bank_number", "routing_code"),
)

# Login users, staff and self-service alike (self-service ones have is_self_service_user = true).
m_appuser = Table(
    "m_appuser",
    metadata,
    key(),
    *flags("is_deleted", null=False, default=False),
    *refs("m_office", "office_id"),
    *refs("m_staff", "staff_id"),
    *texts(100, "username", "firstname", "lastname", null=False),
    *texts(255, "password", null=False),
    *texts(100, "email", null=False),
    *flags(
        "firsttime_login_remaining",
        "nonexpired",
        "nonlocked",
        "nonexpired_credentials",
        "enabled",
        null=False,
    ),
    *dates("last_time_password_updated", null=False, default="1970-01-01"),
    *flags("password_never_expires", "is_self_service_user", null=False, default=False),
    *flags("cannot_change_password", default=False),
    UniqueConstraint("username"),
)

# Which clients a self-service user may see. THE scoping table.
m_selfservice_user_client_mapping = Table(
    "m_selfservice_user_client_mapping",
    metadata,
    key(),
    *refs("m_appuser", "appuser_id", null=False),
    *refs("m_client", "client_id", null=False),
    UniqueConstraint("appuser_id", "client_id"),
    UniqueConstraint("client_id"),
)

# Global settings (name, enabled, value).
c_configuration = Table(
    "c_configuration",
    metadata,
    key(),
    *texts(100, "name"),
    *integers("value"),
    *dates("date_value"),
    *texts(100, "string_value"),
    *flags("enabled", "is_trap_door", null=False, default=False),
    *texts(300, "description"),
    UniqueConstraint("name"),
)

# Business dates when the feature is on.
m_business_date = Table(
    "m_business_date",
    metadata,
    key(),
    *texts(100, "type", null=False),
    *dates("date", null=False),
    *refs("m_appuser", "created_by", null=False),
    *local_times("created_date"),
    *bigints("version", null=False),
    *refs("m_appuser", "last_modified_by", null=False),
    *local_times("lastmodified_date"),
    *instants("created_on_utc", "last_modified_on_utc", null=STRICT_ON_POSTGRESQL),
    UniqueConstraint("type"),
)
