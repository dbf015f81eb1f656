"""Rows of a sound ledger by hand: every field has a sensible value, and each test says what is special."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from projections import rows
from projections.context import Context
from projections.project import Projected, project

R = TypeVar("R", bound=rows.Row)

CLIENT, LOAN, SAVINGS = 7, 12, 31

DOLLAR = rows.CurrencyRow(code="USD", digits=2, symbol="$")
YEN = rows.CurrencyRow(code="JPY", digits=0, symbol="¥")
DINAR = rows.CurrencyRow(code="BHD", digits=3, symbol=None)


@functools.cache
def _nullable(kind: type[rows.Row]) -> dict[str, bool]:
    hints = typing.get_type_hints(kind)
    return {one.name: types.NoneType in typing.get_args(hints[one.name]) for one in msgspec.structs.fields(kind)}


def _row(kind: type[R], sound: dict[str, Any], changes: dict[str, Any]) -> R:
    """A row with `changes` to what is sound; what neither names is NULL, if it may be."""
    values = sound | changes
    for name, nullable in _nullable(kind).items():
        if name not in values:
            assert nullable, f"{kind.__name__}.{name} needs a value"
            values[name] = None
    return kind(**values)


def amounts(**values: str | int | None) -> dict[str, Any]:
    """Amounts as the ledger stores them: with six decimals."""
    return {
        name: None if value is None else Decimal(value).quantize(Decimal("0.000001"))
        for name, value in values.items()
    }


def stamp(day: date, hour: int = 9) -> datetime:
    """A booking stamp of that day."""
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def client(**changes: Any) -> rows.ClientRow:
    sound = {
        "id": CLIENT,
        "account_no": "000000007",
        "status": 300,
        "display_name": "Asha Okafor",
        "firstname": "Asha",
        "lastname": "Okafor",
        "legal_form": 1,
        "activation_date": date(2024, 1, 15),
        "submittedon_date": date(2024, 1, 10),
        "office": "Head office",
    }
    return _row(rows.ClientRow, sound, changes)


def client_charge(number: int = 1, /, **changes: Any) -> rows.ClientChargeRow:
    sound = {
        "client_id": CLIENT,
        "id": number,
        "name": "Card fee",
        "currency_code": "USD",
        "is_penalty": False,
        "charge_time": 2,
        "due_date": date(2026, 2, 1),
        "calculation": 1,
        **amounts(amount=10, outstanding=10),
        "is_active": True,
    }
    return _row(rows.ClientChargeRow, sound, changes)


def client_transaction(number: int = 1, /, **changes: Any) -> rows.ClientTransactionRow:
    sound = {
        "client_id": CLIENT,
        "id": number,
        "type": 1,
        "on": date(2026, 2, 1),
        "currency_code": "USD",
        "amount": Decimal("10.000000"),
        "is_reversed": False,
    }
    return _row(rows.ClientTransactionRow, sound, changes)


def loan(**changes: Any) -> rows.LoanRow:
    """1,200 over three months at 10 a month, paid out on 2026-01-05; nothing repaid."""
    zero = Decimal("0.000000")
    sound: dict[str, Any] = {
        "client_id": CLIENT,
        "id": LOAN,
        "account_no": "000000012",
        "product": "Small business",
        "status": 300,
        "loan_type": 1,
        "currency_code": "USD",
        "currency_digits": 2,
        "rate_per_period": Decimal("1.500000"),
        "rate_period": 2,
        "annual_rate": Decimal("18.000000"),
        "interest_method": 0,
        "interest_calculated": 1,
        "amortization": 1,
        "term": 3,
        "term_unit": 2,
        "number_of_repayments": 3,
        "repay_every": 1,
        "repay_unit": 2,
        "schedule_type": "CUMULATIVE",
        "submitted_on": date(2026, 1, 2),
        "approved_on": date(2026, 1, 3),
        "expected_disbursed_on": date(2026, 1, 5),
        "disbursed_on": date(2026, 1, 5),
        **amounts(
            principal_approved=1200,
            principal=1200,
            principal_disbursed=1200,
            principal_outstanding=1200,
            interest_charged=30,
            interest_outstanding=30,
            total_expected=1230,
            total_expected_cost=30,
            total_outstanding=1230,
        ),
    }
    for name, nullable in _nullable(rows.LoanRow).items():
        if not nullable:
            sound.setdefault(name, zero)
    return _row(rows.LoanRow, sound, changes)


def tranche(number: int = 1, /, **changes: Any) -> rows.DisbursementRow:
    sound = {
        "loan_id": LOAN,
        "id": number,
        "expected_on": date(2026, 1, 5),
        "principal": Decimal("1200.000000"),
        "is_reversed": False,
    }
    return _row(rows.DisbursementRow, sound, changes)


def instalment(number: int = 1, /, **changes: Any) -> rows.InstalmentRow:
    """Number 1 runs from 2026-01-05 to 2026-02-05, and so on: 400 of principal and 10 of interest."""
    sound = {
        "loan_id": LOAN,
        "number": number,
        "from_date": date(2026, number, 5),
        "due_date": date(2026, number + 1, 5),
        **amounts(principal=400, interest=10),
        "is_complete": False,
    }
    return _row(rows.InstalmentRow, sound, changes)


def loan_charge(number: int = 1, /, **changes: Any) -> rows.LoanChargeRow:
    sound = {
        "loan_id": LOAN,
        "id": number,
        "name": "Processing fee",
        "is_penalty": False,
        "charge_time": 2,
        "calculation": 1,
        "payment_mode": 0,
        "due_date": date(2026, 2, 1),
        **amounts(amount=25, outstanding=25),
        "is_active": True,
    }
    return _row(rows.LoanChargeRow, sound, changes)


def instalment_charge(number: int, /, **changes: Any) -> rows.InstalmentChargeRow:
    sound = {
        "loan_id": LOAN,
        "charge_id": 1,
        "number": number,
        "due_date": date(2026, number + 1, 5),
        **amounts(amount=5, outstanding=5),
    }
    return _row(rows.InstalmentChargeRow, sound, changes)


def loan_transaction(number: int = 1, /, **changes: Any) -> rows.LoanTransactionRow:
    """A repayment of 410."""
    sound = {
        "loan_id": LOAN,
        "id": number,
        "type": 2,
        "on": date(2026, 2, 5),
        **amounts(amount=410, principal=400, interest=10, balance_after=800),
        "is_reversed": False,
    }
    return _row(rows.LoanTransactionRow, sound, changes)


def savings(**changes: Any) -> rows.SavingsRow:
    sound = {
        "client_id": CLIENT,
        "id": SAVINGS,
        "account_no": "000000031",
        "product": "Passbook savings",
        "status": 300,
        "sub_status": 0,
        "account_type": 1,
        "deposit_type": 100,
        "currency_code": "USD",
        "currency_digits": 2,
        "annual_rate": Decimal("4.500000"),
        "compounding": 1,
        "posting": 4,
        "calculation": 1,
        "days_in_year": 365,
        "allow_overdraft": False,
        "balance": Decimal("100.000000"),
        "deposits": Decimal("100.000000"),
    }
    return _row(rows.SavingsRow, sound, changes)


def planned_deposit(number: int = 1, /, **changes: Any) -> rows.PlannedDepositRow:
    sound = {
        "savings_id": SAVINGS,
        "number": number,
        "due_date": date(2026, number, 20),
        **amounts(amount=50, paid=0),
        "is_complete": False,
    }
    return _row(rows.PlannedDepositRow, sound, changes)


def savings_charge(number: int = 1, /, **changes: Any) -> rows.SavingsChargeRow:
    sound = {
        "savings_id": SAVINGS,
        "id": number,
        "name": "Monthly fee",
        "is_penalty": False,
        "charge_time": 7,
        "calculation": 1,
        **amounts(amount=2, outstanding=2),
        "is_active": True,
    }
    return _row(rows.SavingsChargeRow, sound, changes)


def savings_transaction(number: int = 1, /, **changes: Any) -> rows.SavingsTransactionRow:
    sound = {
        "savings_id": SAVINGS,
        "id": number,
        "type": 1,
        "on": date(2026, 1, 10),
        **amounts(amount=100, balance_after=100),
        "is_reversed": False,
    }
    return _row(rows.SavingsTransactionRow, sound, changes)


def of_loan(
    row: rows.LoanRow | None = None,
    *,
    disbursements: Sequence[rows.DisbursementRow] = (),
    instalments: Sequence[rows.InstalmentRow] | None = None,
    charges: Sequence[rows.LoanChargeRow] = (),
    instalment_charges: Sequence[rows.InstalmentChargeRow] = (),
    transactions: Sequence[rows.LoanTransactionRow] = (),
) -> rows.ClientAggregate:
    """A client with this loan; three plain instalments unless told otherwise."""
    schedule = [instalment(number) for number in (1, 2, 3)] if instalments is None else list(instalments)
    return of_client(
        loans=[
            rows.LoanAggregate(
                loan=row or loan(),
                disbursements=list(disbursements),
                instalments=schedule,
                charges=list(charges),
                instalment_charges=list(instalment_charges),
                transactions=list(transactions),
            )
        ]
    )


def of_savings(
    row: rows.SavingsRow | None = None,
    *,
    plan: Sequence[rows.PlannedDepositRow] = (),
    charges: Sequence[rows.SavingsChargeRow] = (),
    transactions: Sequence[rows.SavingsTransactionRow] = (),
) -> rows.ClientAggregate:
    """A client with this savings account."""
    return of_client(
        savings_accounts=[
            rows.SavingsAggregate(
                account=row or savings(), plan=list(plan), charges=list(charges), transactions=list(transactions)
            )
        ]
    )


def of_client(
    row: rows.ClientRow | None = None,
    *,
    picture: rows.Picture | None = None,
    charges: Sequence[rows.ClientChargeRow] = (),
    transactions: Sequence[rows.ClientTransactionRow] = (),
    loans: Sequence[rows.LoanAggregate] = (),
    savings_accounts: Sequence[rows.SavingsAggregate] = (),
) -> rows.ClientAggregate:
    return rows.ClientAggregate(
        client=row or client(),
        picture=picture,
        charges=list(charges),
        transactions=list(transactions),
        loans=list(loans),
        savings=list(savings_accounts),
    )


def context(**changes: Any) -> Context:
    """Currencies of 2, 0 and 3 digits."""
    currencies = {row.code: row for row in (DOLLAR, YEN, DINAR)}
    return Context(**({"currencies": currencies} | changes))


def projected(
    aggregate: rows.ClientAggregate, since: date | None = None, using: Context | None = None
) -> dict[str, Projected]:
    """What is projected of the client, by document id."""
    found = project(aggregate, since, using or context())
    assert len({one.id for one in found}) == len(found), "two documents have the same id"
    return {one.id: one for one in found}


def documents(
    aggregate: rows.ClientAggregate, since: date | None = None, using: Context | None = None
) -> dict[str, dict[str, Any]]:
    """The documents of the client as a device reads them, by id."""
    return {key: json.loads(one.body) for key, one in projected(aggregate, since, using).items()}
