"""Fees put on loans and clients by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import Engine, insert, select

from passbook.errors import Refused
from sample_institution import loans
from sample_institution.loan_charges import Definition, charge_loan
from sample_institution.loan_moves import save_loan
from sample_institution.loan_replay import replay
from sample_institution.money import ZERO
from sample_institution.products import CLIENT, FLAT_AMOUNT, LOAN
from sample_institution.rows.clients import ClientChargeRow
from sample_institution.session import exact, session
from sample_institution.store import Store
from sample_institution.tables import table


@dataclass(frozen=True, slots=True)
class Charged:
    """A fee added to a loan (m_loan_charge) or a client (m_client_charge)."""

    charge_id: int
    client_id: int
    loan_id: int | None
    amount: Decimal
    due: date


def charge(engine: Engine, *, client_id: int | None = None, loan_id: int | None = None, amount: Decimal) -> Charged:
    """Put a fee on an active loan, or directly on a client, due on the business date."""
    if (client_id is None) == (loan_id is None):
        raise Refused("A charge is put either on a client or on a loan.")
    with session(engine) as store:
        if loan_id is not None:
            return _charge_loan(store, loan_id, amount)
        clients = table("m_client").c
        known = store.connection.execute(select(clients.id).where(clients.id == client_id)).scalar()
        if known is None:
            raise Refused(f"There is no client {client_id}.")
        return _charge_client(store, int(known), amount)


def _definition(store: Store, applies_to: int, currency: str | None) -> tuple[int, str]:
    """An active flat fee with a due date: its id and currency."""
    charges = table("m_charge").c
    wanted = select(charges.id, charges.currency_code).where(
        charges.charge_applies_to_enum == applies_to,
        charges.charge_time_enum == loans.ON_DUE_DATE,
        charges.charge_calculation_enum == FLAT_AMOUNT,
        charges.is_active.is_(True),
        charges.is_penalty.is_(False),
    )
    if currency is not None:
        wanted = wanted.where(charges.currency_code == currency)
    found = store.connection.execute(wanted.order_by(charges.id).limit(1)).first()
    if found is None:
        raise Refused("The ledger defines no such fee.", remedy="Fill it first.")
    return int(found[0]), str(found[1])


def _charge_loan(store: Store, loan_id: int, amount: Decimal) -> Charged:
    loan, today = store.loan(loan_id), store.desk.today
    row = loan.row
    if row.loan_status_id != loans.ACTIVE:
        raise Refused(f"Loan {loan_id} is not active (status {row.loan_status_id}).")
    definition_id, _ = _definition(store, LOAN, row.currency_code)
    stated = exact(amount, row.currency_digits)
    definition = Definition(definition_id, loans.ON_DUE_DATE, FLAT_AMOUNT, penalty=False, stated=stated)
    added = charge_loan(loan, definition, today, today)
    replay(loan, today)
    save_loan(store, loan, "charge", None, today)
    return Charged(added.id, row.client_id, loan_id, stated, today)


def _charge_client(store: Store, client_id: int, amount: Decimal) -> Charged:
    """No stamp moves anywhere: m_client_charge has none, and m_client is not touched."""
    enabled = table("m_organisation_currency").c
    charges, taken = table("m_charge").c, table("m_client_charge").c
    usual = store.connection.execute(
        select(charges.currency_code)
        .join_from(table("m_client_charge"), table("m_charge"), taken.charge_id == charges.id)
        .where(taken.client_id == client_id)
        .limit(1)
    ).scalar()
    definition_id, currency = _definition(store, CLIENT, usual)
    digits = store.connection.execute(
        select(enabled.decimal_places).where(enabled.code == currency).limit(1)
    ).scalar_one()
    stated, today = exact(amount, digits), store.desk.today
    number = store.desk.ids.new(ClientChargeRow.table)
    store.connection.execute(
        insert(table("m_client_charge")).values(
            id=number,
            client_id=client_id,
            charge_id=definition_id,
            is_penalty=False,
            charge_time_enum=loans.ON_DUE_DATE,
            charge_due_date=today,
            charge_calculation_enum=FLAT_AMOUNT,
            amount=stated,
            amount_paid_derived=ZERO,
            amount_waived_derived=ZERO,
            amount_writtenoff_derived=ZERO,
            amount_outstanding_derived=stated,
            is_paid_derived=False,
            waived=False,
            is_active=True,
        )
    )
    return Charged(number, client_id, None, stated, today)
