"""The documents of savings and deposit accounts."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from projections.garbage import BadValue
from tests.projections import builders as make


def account_of(**changes: Any) -> dict[str, Any]:
    return make.documents(make.of_savings(make.savings(**changes)))["savings:31"]


def page_of(*rows: Any) -> dict[str, Any]:
    return make.documents(make.of_savings(transactions=rows))["savings:31:transactions:2026-01"]


def test_a_savings_account_in_full() -> None:
    found = make.documents(make.of_savings())
    assert found.keys() == {"client:7", "savings:31"}
    nothing = ("withdrawals", "interest_posted", "withdrawal_fees", "annual_fees", "fees", "penalties")
    assert found["savings:31"] == {
        "type": "savings",
        "schema": 1,
        "client_id": 7,
        "savings_id": 31,
        "account_no": "000000031",
        "status": "active",
        "kind": "savings",
        "holder": "individual",
        "currency": {"code": "USD", "digits": 2, "symbol": "$"},
        "product": "Passbook savings",
        "balance": "100.00",
        "held_as_guarantee": "0.00",
        "on_hold": "0.00",
        "available": "100.00",
        "summary": {"deposits": "100.00", "overdraft_interest": "0.00", "withheld_tax": "0.00"}
        | dict.fromkeys(nothing, "0.00"),
        "interest": {
            "annual_rate": "4.5",
            "compounding": "daily",
            "posting": "monthly",
            "calculation": "daily_balance",
            "days_in_year": 365,
        },
        "terms": {"overdraft": False},
        "dates": {},
    }


STATUSES = {
    200: "approved",
    300: "active",
    303: "in_transfer",
    304: "in_transfer",
    600: "closed",
    700: "closed_early",
    800: "matured",
}


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_statuses_from_approval_on_are_shown_in_the_customer_s_words(status: int) -> None:
    assert account_of(status=status)["status"] == STATUSES[status]


@pytest.mark.parametrize("status", [0, 100, 400, 500, 999])
def test_accounts_in_the_institution_s_own_cycle_are_not_shown(status: int) -> None:
    aggregate = make.of_savings(
        make.savings(status=status), charges=[make.savings_charge()], transactions=[make.savings_transaction()]
    )
    assert make.documents(aggregate).keys() == {"client:7"}


def test_holds_lower_what_is_available_and_not_the_balance() -> None:
    row = account_of(**make.amounts(balance=100, held_as_guarantee=30, on_hold=25))
    assert [row[name] for name in ("balance", "held_as_guarantee", "on_hold", "available")] == [
        "100.00",
        "30.00",
        "25.00",
        "45.00",
    ]


def test_every_column_of_the_summary_goes_to_its_own_place() -> None:
    columns = (
        "deposits",
        "withdrawals",
        "interest_posted",
        "withdrawal_fees",
        "annual_fees",
        "fees",
        "penalties",
        "overdraft_interest",
        "withheld_tax",
        "interest_earned",
    )
    values = {column: number for number, column in enumerate(columns, 101)}
    summary = account_of(**make.amounts(**values))["summary"]
    # earned 110 less posted 103 plus interest on overdraft 108
    assert summary == {column: f"{number}.00" for column, number in values.items()} | {
        "interest_not_posted": "115.00"
    }


def test_interest_not_posted_needs_interest_earned() -> None:
    assert "interest_not_posted" not in account_of(**make.amounts(interest_posted=3))["summary"]
    summary = account_of(**make.amounts(interest_earned=5, interest_posted=3))["summary"]
    assert (summary["interest_earned"], summary["interest_not_posted"]) == ("5.00", "2.00")


def test_terms_of_an_account_with_overdraft_and_lock_in() -> None:
    changes: dict[str, Any] = {
        "allow_overdraft": True,
        "overdraft_rate": Decimal("21.500000"),
        "lockin": Decimal("6.000000"),
        "lockin_unit": 2,
        "locked_in_until": date(2026, 7, 1),
        "enforce_min_balance": True,
        "fee_for_transfer": False,
        **make.amounts(overdraft_limit=500, min_opening_balance=10, min_balance=5, min_balance_for_interest=50),
    }
    row = account_of(**changes)
    assert row["terms"] == {
        "overdraft": True,
        "min_opening_balance": "10.00",
        "min_balance": "5.00",
        "enforce_min_balance": True,
        "overdraft_limit": "500.00",
        "overdraft_rate": "21.5",
        "lock_in": 6,
        "lock_in_unit": "months",
        "locked_in_until": "2026-07-01",
        "fee_for_transfer": False,
    }
    assert row["interest"]["min_balance"] == "50.00"
    terms = account_of(**(changes | {"allow_overdraft": False}))["terms"]
    assert not {"overdraft_limit", "overdraft_rate"} & terms.keys()
    terms = account_of(lockin=Decimal(0), lockin_unit=2)["terms"]
    assert not {"lock_in", "lock_in_unit"} & terms.keys()


def test_an_overdrawn_balance_is_negative() -> None:
    row = account_of(allow_overdraft=True, balance=Decimal("-40.250000"))
    assert (row["balance"], row["available"]) == ("-40.25", "-40.25")


@pytest.mark.parametrize(
    ("sub_status", "word"),
    [
        (None, None),
        (0, None),
        (100, "inactive"),
        (200, "dormant"),
        (300, "escheat"),
        (400, "blocked"),
        (500, "credits_blocked"),
        (600, "debits_blocked"),
    ],
)
def test_blocks_and_dormancy_are_told(sub_status: int | None, word: str | None) -> None:
    assert account_of(sub_status=sub_status).get("sub_status") == word


DEPOSIT: dict[str, Any] = {
    "deposit_period": 12,
    "deposit_period_unit": 2,
    "maturity_on": date(2027, 1, 10),
    "on_closure": 200,
    "preclosure_penalty": True,
    "preclosure_rate": Decimal("1.250000"),
    "preclosure_on": 1,
    **make.amounts(deposit_amount=1000, maturity_amount=1060),
}
SHOWN = {
    "amount": "1000.00",
    "period": 12,
    "period_unit": "months",
    "maturity_amount": "1060.00",
    "matures_on": "2027-01-10",
    "on_closure": "transfer_to_savings",
    "early_penalty": True,
    "early_penalty_rate": "1.25",
    "early_penalty_on": "whole_term",
}


def test_a_fixed_deposit_tells_its_term() -> None:
    row = account_of(deposit_type=200, **DEPOSIT)
    assert (row["kind"], row["deposit"]) == ("fixed_deposit", SHOWN)
    assert "recurring" not in row


@pytest.mark.parametrize(("kind", "word"), [(100, "savings"), (400, "current"), (999, "unknown")])
def test_other_accounts_have_no_term(kind: int, word: str) -> None:
    row = account_of(deposit_type=kind)
    assert row["kind"] == word
    assert not {"deposit", "recurring"} & row.keys()


def test_a_deposit_whose_term_the_ledger_does_not_know_tells_none() -> None:
    assert "deposit" not in account_of(deposit_type=200)


def test_a_recurring_deposit_tells_its_plan() -> None:
    row = make.savings(
        deposit_type=300,
        recurring_amount=Decimal(50),
        recurring_mandatory=True,
        recurring_withdrawal=None,
        **DEPOSIT,
    )
    plan = [
        make.planned_deposit(2, **make.amounts(amount=50, paid=20)),
        make.planned_deposit(
            1, is_complete=True, completed_on=date(2026, 1, 19), from_date=date(2026, 1, 1), **make.amounts(paid=50)
        ),
        make.planned_deposit(3, amount=None, paid=None),
    ]
    document = make.documents(make.of_savings(row, plan=plan))["savings:31"]
    assert (document["kind"], document["deposit"]) == ("recurring_deposit", SHOWN)
    assert document["recurring"] == {
        "mandatory": True,
        "withdrawals": False,
        "amount": "50.00",
        "plan": [
            {
                "number": 1,
                "from_on": "2026-01-01",
                "due_on": "2026-01-20",
                "amount": "50.00",
                "paid": "50.00",
                "complete": True,
                "completed_on": "2026-01-19",
            },
            {"number": 2, "due_on": "2026-02-20", "amount": "50.00", "paid": "20.00", "complete": False},
            {"number": 3, "due_on": "2026-03-20", "amount": "0.00", "paid": "0.00", "complete": False},
        ],
    }


def test_charges_tell_which_were_taken_back() -> None:
    rows = [
        make.savings_charge(2, is_active=False, inactivated_on=date(2026, 3, 3), is_penalty=True),
        make.savings_charge(
            1,
            due_date=date(2026, 2, 1),
            calculation=2,
            percentage=Decimal("0.500000"),
            calculated_on=Decimal(400),
            **make.amounts(amount=2, paid=1, waived=0, written_off=0, outstanding=1),
        ),
    ]
    first, second = make.documents(make.of_savings(charges=rows))["savings:31:charges"]["charges"]
    assert first == {
        "id": 1,
        "name": "Monthly fee",
        "penalty": False,
        "when": "monthly",
        "calculation": "percent_of_amount",
        "amount": "2.00",
        "paid": "1.00",
        "waived": "0.00",
        "written_off": "0.00",
        "outstanding": "1.00",
        "active": True,
        "due_on": "2026-02-01",
        "percentage": "0.5",
        "calculated_on": "400.00",
    }
    assert (second["active"], second["inactivated_on"], second["penalty"]) == (False, "2026-03-03", True)


MOVEMENTS = {
    1: ("deposit", "credit"),
    2: ("withdrawal", "debit"),
    3: ("interest", "credit"),
    4: ("withdrawal_fee", "debit"),
    5: ("annual_fee", "debit"),
    6: ("charge_waiver", "none"),
    7: ("charge_payment", "debit"),
    8: ("dividend", "credit"),
    16: ("written_off", "none"),
    17: ("overdraft_interest", "debit"),
    18: ("withholding_tax", "debit"),
    19: ("escheat", "none"),
    20: ("hold", "none"),
    21: ("release", "none"),
    99: ("unknown", "none"),
}


@pytest.mark.parametrize("kind", sorted(MOVEMENTS))
def test_each_kind_of_movement_and_what_it_does_to_the_balance(kind: int) -> None:
    page = page_of(make.savings_transaction(type=kind))
    (line,) = page["transactions"]
    word, effect = MOVEMENTS[kind]
    assert (line["type"], line["effect"], line["amount"]) == (word, effect, "100.00")
    assert page["totals"] == {
        "credits": "100.00" if effect == "credit" else "0.00",
        "debits": "100.00" if effect == "debit" else "0.00",
    }


@pytest.mark.parametrize("kind", [10, 12, 13, 14, 15])
def test_accruals_and_transfers_are_the_institution_s_own(kind: int) -> None:
    found = make.documents(make.of_savings(transactions=[make.savings_transaction(type=kind)]))
    assert found.keys() == {"client:7", "savings:31"}


def test_counter_entries_have_no_balance_and_count_for_nothing() -> None:
    undone = make.savings_transaction(2, is_reversed=True, **make.amounts(balance_after=0))
    contra = make.savings_transaction(3, type=2, is_reversal=True, original_id=2, **make.amounts(balance_after=0))
    page = page_of(make.savings_transaction(1), undone, contra)
    first, second, third = page["transactions"]
    assert (first["reversed"], first["balance_after"], "reversal" in first) == (False, "100.00", False)
    assert (second["reversed"], "balance_after" in second) == (True, False)
    assert (third["reversed"], third["reversal"], third["original_id"]) == (False, True, 2)
    assert "balance_after" not in third
    assert page["totals"] == {"credits": "100.00", "debits": "0.00"}


def test_a_hold_names_its_release_and_an_overdraft_its_part() -> None:
    rows = [
        make.savings_transaction(1, type=20, released_by=9, **make.amounts(balance_after=0)),
        make.savings_transaction(
            2, type=2, overdraft=Decimal(30), payment_type="Cash", submitted_on=date(2026, 1, 11)
        ),
    ]
    hold, withdrawal = page_of(*rows)["transactions"]
    assert (hold["type"], hold["released_by"], hold["balance_after"]) == ("hold", 9, "0.00")
    assert (withdrawal["overdraft"], withdrawal["payment"]) == ("30.00", {"type": "Cash"})
    assert withdrawal["submitted_on"] == "2026-01-11"
    assert "overdraft" not in hold


def test_an_account_s_digits_are_its_own() -> None:
    row = make.savings(currency_digits=3)
    found = make.documents(
        make.of_savings(row, charges=[make.savings_charge()], transactions=[make.savings_transaction()])
    )
    assert found["savings:31"]["balance"] == "100.000"
    assert found["savings:31:charges"]["charges"][0]["amount"] == "2.000"
    assert found["savings:31:transactions:2026-01"]["totals"] == {"credits": "100.000", "debits": "0.000"}


def test_unknown_codes_become_unknown_and_are_noted() -> None:
    context = make.context()
    codes: dict[str, Any] = {
        "sub_status": 901,
        "account_type": 902,
        "compounding": 903,
        "posting": 904,
        "calculation": 905,
        "lockin": Decimal(1),
        "lockin_unit": 906,
        "deposit_period_unit": 907,
        "on_closure": 908,
        "preclosure_on": 909,
    }
    row = make.savings(deposit_type=200, **codes)
    charges = [make.savings_charge(charge_time=910, calculation=911)]
    transactions = [make.savings_transaction(type=912)]
    found = make.documents(make.of_savings(row, charges=charges, transactions=transactions), using=context)
    account = found["savings:31"]
    words = [account["sub_status"], account["holder"], account["terms"]["lock_in_unit"]]
    words += [account["interest"][name] for name in ("compounding", "posting", "calculation")]
    words += [account["deposit"][name] for name in ("period_unit", "on_closure", "early_penalty_on")]
    assert set(words) == {"unknown"}
    assert {code for _, code in context.unknown} == set(range(901, 913))


@pytest.mark.parametrize(
    "changes",
    [
        {"balance": Decimal("NaN")},
        {"lockin": Decimal("NaN")},
        {"lockin": Decimal("Infinity")},
        {"annual_rate": Decimal("NaN")},
        {"preclosure_rate": Decimal("Infinity"), "deposit_type": 200},
    ],
)
def test_garbage_stops_the_client_and_names_the_row(changes: dict[str, Any]) -> None:
    with pytest.raises(BadValue) as caught:
        account_of(**changes)
    assert caught.value.where == "m_savings_account 31"
