"""What people at the institution do: each move is one ledger transaction with all its consequences.

A move writes what Fineract would write: new rows, portions, totals, running balances, status and audit stamps.
It is refused (`passbook.errors.Refused`) where Fineract would refuse it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, Select, select

from passbook.errors import Refused
from sample_institution import loans, savings
from sample_institution.charge_moves import Charged, charge
from sample_institution.client_moves import ClientMove, Unmapped, close, reactivate, unmap
from sample_institution.loan_moves import LoanMove, Rescheduled, repay, reschedule, reverse
from sample_institution.savings_moves import SavingsMove, deposit, withdraw
from sample_institution.tables import table

__all__ = [
    "Charged",
    "ClientMove",
    "LoanMove",
    "Rescheduled",
    "SavingsMove",
    "Unmapped",
    "active_savings_of",
    "charge",
    "close",
    "deposit",
    "open_loan_of",
    "reactivate",
    "repay",
    "reschedule",
    "reverse",
    "unmap",
    "withdraw",
]


def open_loan_of(engine: Engine, client_id: int) -> int:
    """The id of an active loan of the client on which something is still to pay."""
    one = table("m_loan").c
    found = select(one.id).where(
        one.client_id == client_id, one.loan_status_id == loans.ACTIVE, one.total_outstanding_derived > 0
    )
    return _first(engine, found.order_by(one.id), f"Client {client_id} has no open loan.")


def active_savings_of(engine: Engine, client_id: int) -> int:
    """The id of an active, unblocked savings account (no term deposit) of the client."""
    one = table("m_savings_account").c
    found = select(one.id).where(
        one.client_id == client_id,
        one.status_enum == savings.ACTIVE,
        one.deposit_type_enum == savings.SAVINGS,
        one.sub_status_enum.not_in((400, 500, 600)),
    )
    return _first(engine, found.order_by(one.id), f"Client {client_id} has no active savings account.")


def _first(engine: Engine, statement: Select[Any], otherwise: str) -> int:
    with engine.connect() as connection:
        found = connection.execute(statement.limit(1)).scalar()
    if found is None:
        raise Refused(otherwise)
    return int(found)
