"""What all moves share: one ledger transaction, value dates and amounts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal

from sqlalchemy import Engine

from passbook.errors import Refused
from sample_institution.money import rounded
from sample_institution.store import Store


@contextmanager
def session(engine: Engine) -> Iterator[Store]:
    """One ledger transaction."""
    with engine.connect() as connection:
        with connection.begin():
            store = Store(connection)
            yield store
        store.desk.ids.release()


def value_date(store: Store, on: date | None, earliest: date | None) -> date:
    """The value date: the business date unless an earlier one is given."""
    day = on or store.desk.today
    if day > store.desk.today or (earliest is not None and day < earliest):
        raise Refused(f"{day} lies after the business date or before the account was opened.")
    return day


def exact(amount: Decimal, digits: int) -> Decimal:
    """A positive amount in the account's digits."""
    payable = rounded(Decimal(amount), digits)
    if payable <= 0:
        raise Refused("The amount must be more than nothing.")
    return payable
