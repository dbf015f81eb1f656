"""Rows of a client and of what hangs on the client directly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import ClassVar

from sample_institution.money import ZERO
from sample_institution.rows.base import Audited, Row


@dataclass(slots=True, kw_only=True)
class ImageRow(Row):
    """m_image."""

    table: ClassVar[str] = "m_image"
    location: str
    storage_type_enum: int = 1


@dataclass(slots=True, kw_only=True)
class ClientRow(Audited):
    """m_client."""

    table: ClassVar[str] = "m_client"
    account_no: str
    external_id: str | None
    status_enum: int
    office_id: int
    staff_id: int | None
    display_name: str
    firstname: str | None
    middlename: str | None
    lastname: str | None
    fullname: str | None
    mobile_no: str | None
    email_address: str | None
    date_of_birth: date | None
    gender_cv_id: int | None
    legal_form_enum: int
    submittedon_date: date
    sub_status: int | None = None
    client_type_cv_id: int | None = None
    client_classification_cv_id: int | None = None
    image_id: int | None = None
    activation_date: date | None = None
    activatedon_userid: int | None = None
    office_joining_date: date | None = None
    transfer_to_office_id: int | None = None
    proposed_transfer_date: date | None = None
    closedon_date: date | None = None
    closedon_userid: int | None = None
    closure_reason_cv_id: int | None = None
    rejectedon_date: date | None = None
    rejectedon_userid: int | None = None
    reject_reason_cv_id: int | None = None
    withdrawn_on_date: date | None = None
    withdraw_on_userid: int | None = None
    withdraw_reason_cv_id: int | None = None


@dataclass(slots=True, kw_only=True)
class IdentifierRow(Audited):
    """m_client_identifier."""

    table: ClassVar[str] = "m_client_identifier"
    client_id: int
    document_type_id: int
    document_key: str
    description: str | None
    status: int = 200
    active: int | None = 200


@dataclass(slots=True, kw_only=True)
class ClientChargeRow(Row):
    """m_client_charge."""

    table: ClassVar[str] = "m_client_charge"
    client_id: int
    charge_id: int
    is_penalty: bool
    charge_due_date: date
    amount: Decimal
    amount_outstanding_derived: Decimal
    charge_time_enum: int = 2
    charge_calculation_enum: int = 1
    amount_paid_derived: Decimal = ZERO
    amount_waived_derived: Decimal = ZERO
    amount_writtenoff_derived: Decimal = ZERO
    is_paid_derived: bool = False
    waived: bool = False
    is_active: bool = True
    inactivated_on_date: date | None = None


@dataclass(slots=True, kw_only=True)
class ClientTransactionRow(Audited):
    """m_client_transaction: 1 pay charge, 2 waive charge."""

    table: ClassVar[str] = "m_client_transaction"
    client_id: int
    office_id: int
    currency_code: str
    transaction_date: date
    transaction_type_enum: int
    amount: Decimal
    submitted_on_date: date
    payment_detail_id: int | None = None
    is_reversed: bool = False
    external_id: str | None = None


@dataclass(slots=True, kw_only=True)
class ClientChargePaidByRow(Row):
    """m_client_charge_paid_by."""

    table: ClassVar[str] = "m_client_charge_paid_by"
    client_transaction_id: int
    client_charge_id: int
    amount: Decimal


@dataclass(slots=True, kw_only=True)
class NoteRow(Audited):
    """m_note: staff notes, confidential as a whole."""

    table: ClassVar[str] = "m_note"
    note_type_enum: int
    note: str
    client_id: int | None = None
    loan_id: int | None = None
    loan_transaction_id: int | None = None
    savings_account_id: int | None = None
    savings_account_transaction_id: int | None = None


@dataclass(slots=True, kw_only=True)
class PaymentDetailRow(Row):
    """m_payment_detail."""

    table: ClassVar[str] = "m_payment_detail"
    payment_type_id: int
    account_number: str | None
    check_number: str | None
    receipt_number: str | None
    bank_number: str | None
    routing_code: str | None = None


@dataclass(slots=True, kw_only=True)
class MappingRow(Row):
    """m_selfservice_user_client_mapping."""

    table: ClassVar[str] = "m_selfservice_user_client_mapping"
    appuser_id: int
    client_id: int
