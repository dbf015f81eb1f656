"""Projection of a client: personal details, picture, charges, transactions."""

from __future__ import annotations

import hashlib
from datetime import date

from projections import vocabulary, words
from projections.common import UNNAMED_CHARGE, pages, payment, year
from projections.context import Context
from projections.documents import SCHEMA, Client, ClientCharges, ClientImage, ClientTransactions
from projections.documents.clients import ClientCharge, ClientTransaction
from projections.rows import ClientAggregate, ClientChargeRow, ClientRow, ClientTransactionRow, Picture


def display_name(row: ClientRow) -> str:
    """The name to show; old rows without `display_name` are named by their parts, as the core does."""
    if row.display_name:
        return row.display_name
    parts = [part for part in (row.firstname, row.middlename, row.lastname) if part]
    return row.fullname or " ".join(parts) or row.account_no


def details(row: ClientRow, context: Context) -> Client:
    """Document `client:{id}`."""
    return Client(
        schema=SCHEMA,
        client_id=row.id,
        account_no=row.account_no,
        status=vocabulary.CLIENT_STATUS(row.status, context.unknown) or words.UNKNOWN,
        display_name=display_name(row),
        first_name=row.firstname or None,
        middle_name=row.middlename or None,
        last_name=row.lastname or None,
        full_name=row.fullname or None,
        legal_form=vocabulary.LEGAL_FORM(row.legal_form, context.unknown),
        gender=row.gender or None,
        date_of_birth=row.date_of_birth,
        mobile_no=row.mobile_no or None,
        email=row.email_address or None,
        office=row.office or None,
        submitted_on=row.submittedon_date,
        activated_on=row.activation_date,
    )


def image(client_id: int, picture: Picture) -> ClientImage:
    """Document `client:{id}:image`; the bytes travel beside it as its attachment."""
    return ClientImage(
        schema=SCHEMA,
        client_id=client_id,
        content_type=picture.content_type,
        bytes=len(picture.data),
        sha256=hashlib.sha256(picture.data).hexdigest(),
    )


def charges(aggregate: ClientAggregate, context: Context) -> ClientCharges | None:
    """Document `client:{id}:charges`, or None for a client without charges."""
    if not aggregate.charges:
        return None
    rows = sorted(aggregate.charges, key=lambda row: row.id)
    return ClientCharges(
        schema=SCHEMA, client_id=aggregate.client.id, charges=[_charge(row, context) for row in rows]
    )


def transactions(aggregate: ClientAggregate, since: date | None, context: Context) -> list[ClientTransactions]:
    """Documents `client:{id}:transactions:{yyyy}`."""
    return [
        ClientTransactions(
            schema=SCHEMA,
            client_id=aggregate.client.id,
            period=period,
            transactions=[_transaction(row, context) for row in rows],
        )
        for period, rows in pages(aggregate.transactions, year, since).items()
    ]


def _charge(row: ClientChargeRow, context: Context) -> ClientCharge:
    currency, digits = context.plain_currency(row.currency_code, f"m_client_charge {row.id}")
    return ClientCharge(
        id=row.id,
        name=row.name or UNNAMED_CHARGE,
        penalty=row.is_penalty,
        when=vocabulary.CLIENT_CHARGE_TIME(row.charge_time, context.unknown) or words.UNKNOWN,
        calculation=vocabulary.CLIENT_CHARGE_CALCULATION(row.calculation, context.unknown) or words.UNKNOWN,
        currency=currency,
        amount=digits(row.amount),
        paid=digits(row.paid),
        waived=digits(row.waived),
        written_off=digits(row.written_off),
        outstanding=digits(row.outstanding),
        # NULL is the state of rows older than the column: they were never taken back.
        active=row.is_active is not False,
        due_on=row.due_date,
        inactivated_on=row.inactivated_on,
    )


def _transaction(row: ClientTransactionRow, context: Context) -> ClientTransaction:
    currency, digits = context.plain_currency(row.currency_code, f"m_client_transaction {row.id}")
    return ClientTransaction(
        id=row.id,
        type=vocabulary.CLIENT_TRANSACTION(row.type, context.unknown) or words.UNKNOWN,
        on=row.on,
        currency=currency,
        amount=digits(row.amount),
        reversed=row.is_reversed,
        submitted_on=row.submitted_on,
        payment=payment(row.payment_type, row.receipt_number),
    )
