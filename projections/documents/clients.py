"""Documents about the client: personal details, picture, charges, transactions."""

from __future__ import annotations

from typing import Annotated

from projections import words
from projections.documents.base import Amount, ClientPart, Currency, Day, Part, Payment, about


class Client(ClientPart, tag="client"):
    """Personal details. Id `client:{client}`."""

    account_no: Annotated[str, about("Client number shown to the customer", "m_client.account_no")]
    status: Annotated[str, about("Where the client stands", "m_client.status_enum", words=words.CLIENT_STATUS)]
    display_name: Annotated[str, about("Name to show", "m_client.display_name")]
    first_name: Annotated[str | None, about("First name of a person", "m_client.firstname")] = None
    middle_name: Annotated[str | None, about("Middle name", "m_client.middlename")] = None
    last_name: Annotated[str | None, about("Last name", "m_client.lastname")] = None
    full_name: Annotated[
        str | None, about("Name in one piece: entities, and persons with one name", "m_client.fullname")
    ] = None
    legal_form: Annotated[
        str | None, about("What the client is", "m_client.legal_form_enum", words=words.LEGAL_FORM)
    ] = None
    gender: Annotated[str | None, about("In the institution's words", "m_code_value.code_value")] = None
    date_of_birth: Annotated[Day | None, about("Date of birth", "m_client.date_of_birth")] = None
    mobile_no: Annotated[str | None, about("Own phone number", "m_client.mobile_no")] = None
    email: Annotated[str | None, about("Own e-mail address", "m_client.email_address")] = None
    office: Annotated[str | None, about("Branch", "m_office.name")] = None
    submitted_on: Annotated[Day | None, about("Date of application", "m_client.submittedon_date")] = None
    activated_on: Annotated[Day | None, about("Date the client became active", "m_client.activation_date")] = None


class ClientImage(ClientPart, tag="client_image"):
    """The client's picture, as the attachment `picture`. Id `client:{client}:image`."""

    content_type: Annotated[str, about("Media type of the attachment, found from its first bytes")]
    bytes: Annotated[int, about("Size of the attachment", unit="bytes")]
    sha256: Annotated[str, about("SHA-256 of the attachment, hexadecimal")]


class ClientCharge(Part):
    """A fee or penalty put on the client, not on an account."""

    id: Annotated[int, about("Key of the charge", "m_client_charge.id")]
    name: Annotated[str, about("Name of the charge", "m_charge.name")]
    penalty: Annotated[bool, about("Penalty (true) or fee", "m_client_charge.is_penalty")]
    when: Annotated[str, about("What makes it due", "m_client_charge.charge_time_enum", words=words.CHARGE_TIME)]
    calculation: Annotated[
        str,
        about("How it is calculated", "m_client_charge.charge_calculation_enum", words=words.CHARGE_CALCULATION),
    ]
    currency: Annotated[Currency, about("Currency of this charge", "m_charge.currency_code")]
    amount: Annotated[Amount, about("Charged", "m_client_charge.amount")]
    paid: Annotated[Amount, about("Paid so far", "m_client_charge.amount_paid_derived")]
    waived: Annotated[Amount, about("Waived", "m_client_charge.amount_waived_derived")]
    written_off: Annotated[Amount, about("Written off", "m_client_charge.amount_writtenoff_derived")]
    outstanding: Annotated[Amount, about("Still to pay", "m_client_charge.amount_outstanding_derived")]
    active: Annotated[bool, about("false when taken back", "m_client_charge.is_active")]
    due_on: Annotated[Day | None, about("Due date", "m_client_charge.charge_due_date")] = None
    inactivated_on: Annotated[Day | None, about("Date taken back", "m_client_charge.inactivated_on_date")] = None


class ClientCharges(ClientPart, tag="client_charges"):
    """All charges on the client. Id `client:{client}:charges`."""

    charges: Annotated[list[ClientCharge], about("By key")]


class ClientTransaction(Part):
    """A payment or waiver of a client charge."""

    id: Annotated[int, about("Key of the transaction", "m_client_transaction.id")]
    type: Annotated[
        str, about("Kind of movement", "m_client_transaction.transaction_type_enum", words=words.CLIENT_TRANSACTION)
    ]
    on: Annotated[Day, about("Value date", "m_client_transaction.transaction_date")]
    currency: Annotated[Currency, about("Currency of this transaction", "m_client_transaction.currency_code")]
    amount: Annotated[Amount, about("Amount, always positive", "m_client_transaction.amount")]
    reversed: Annotated[bool, about("true when undone", "m_client_transaction.is_reversed")]
    submitted_on: Annotated[
        Day | None, about("Business date of booking", "m_client_transaction.submitted_on_date")
    ] = None
    payment: Annotated[Payment | None, about("How it was paid")] = None


class ClientTransactions(ClientPart, tag="client_transactions"):
    """The client's transactions of one calendar year. Id `client:{client}:transactions:{yyyy}`."""

    period: Annotated[str, about("Calendar year", unit="yyyy")]
    transactions: Annotated[list[ClientTransaction], about("In order of value date, booking, key")]
