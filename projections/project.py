"""One client in, all documents out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import msgspec

from projections import canonical, clients, loans, savings, schedules, vocabulary
from projections.context import Context
from projections.documents import Document
from projections.rows import ClientAggregate, LoanAggregate, Picture, SavingsAggregate

PICTURE_ATTACHMENT = "picture"


class Projected(msgspec.Struct, frozen=True, gc=False):
    """A document ready to be written: `body` is canonical, `picture` its attachment if it has one."""

    id: str
    type: str
    client_id: int | None
    body: bytes
    digest: bytes
    picture: Picture | None = None


def visible(aggregate: ClientAggregate) -> bool:
    """Whether this client's data may be on devices at all."""
    return aggregate.client.status in vocabulary.VISIBLE_CLIENT_STATUSES


def project(aggregate: ClientAggregate, since: date | None, context: Context) -> list[Projected]:
    """All documents of one client; none for a client who is not active.

    `since` is the first day of the transactions wanted, None for all. Raises `BadValue` for a row that cannot be
    believed; then nothing of the client is projected.
    """
    if not visible(aggregate):
        return []
    client_id = aggregate.client.id
    return [
        _projected(document_id, document, client_id, aggregate.picture)
        for document_id, document in _documents(aggregate, since, context)
    ]


def _projected(document_id: str, document: Document, client_id: int, picture: Picture | None) -> Projected:
    body = canonical.encode(document)
    kind = str(document.__struct_config__.tag)
    attached = picture if kind == "client_image" else None
    return Projected(document_id, kind, client_id, body, canonical.digest(body), attached)


def _documents(aggregate: ClientAggregate, since: date | None, context: Context) -> Iterator[tuple[str, Document]]:
    prefix = f"client:{aggregate.client.id}"
    yield prefix, clients.details(aggregate.client, context)
    if aggregate.picture:
        yield f"{prefix}:image", clients.image(aggregate.client.id, aggregate.picture)
    charges = clients.charges(aggregate, context)
    if charges:
        yield f"{prefix}:charges", charges
    for page in clients.transactions(aggregate, since, context):
        yield f"{prefix}:transactions:{page.period}", page
    for loan in aggregate.loans:
        if loan.loan.status in vocabulary.VISIBLE_LOAN_STATUSES:
            yield from _loan(loan, since, context)
    for account in aggregate.savings:
        if account.account.status in vocabulary.VISIBLE_SAVINGS_STATUSES:
            yield from _savings(account, since, context)


def _loan(aggregate: LoanAggregate, since: date | None, context: Context) -> Iterator[tuple[str, Document]]:
    row = aggregate.loan
    prefix = f"loan:{row.id}"
    currency, digits = context.account_currency(row.currency_code, row.currency_digits, f"m_loan {row.id}")
    yield prefix, loans.account(row, currency, digits, context, schedules.next_due(aggregate, digits))
    schedule = schedules.schedule(aggregate, currency, digits)
    if schedule:
        yield f"{prefix}:schedule", schedule
    charges = loans.charges(aggregate, currency, digits, context)
    if charges:
        yield f"{prefix}:charges", charges
    for page in loans.transactions(aggregate, since, currency, digits, context):
        yield f"{prefix}:transactions:{page.period}", page


def _savings(aggregate: SavingsAggregate, since: date | None, context: Context) -> Iterator[tuple[str, Document]]:
    row = aggregate.account
    prefix = f"savings:{row.id}"
    where = f"m_savings_account {row.id}"
    currency, digits = context.account_currency(row.currency_code, row.currency_digits, where)
    yield prefix, savings.account(aggregate, currency, digits, context)
    charges = savings.charges(aggregate, currency, digits, context)
    if charges:
        yield f"{prefix}:charges", charges
    for page in savings.transactions(aggregate, since, currency, digits, context):
        yield f"{prefix}:transactions:{page.period}", page
