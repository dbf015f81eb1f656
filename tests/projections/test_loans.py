"""The documents of a loan but its schedule: terms, totals, charges, transactions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from projections.garbage import BadValue
from tests.projections import builders as make


def loan_of(**changes: Any) -> dict[str, Any]:
    return make.documents(make.of_loan(make.loan(**changes)))["loan:12"]


def page_of(*rows: Any) -> dict[str, Any]:
    return make.documents(make.of_loan(transactions=rows))["loan:12:transactions:2026"]


def transactions_of(*rows: Any) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = page_of(*rows)["transactions"]
    return lines


def totals_of(*rows: Any) -> dict[str, str]:
    totals: dict[str, str] = page_of(*rows)["totals"]
    return totals


def test_an_active_loan_in_full() -> None:
    found = make.documents(make.of_loan())
    assert found.keys() == {"client:7", "loan:12", "loan:12:schedule"}
    nothing = {"charged": "0.00", "repaid": "0.00", "waived": "0.00", "written_off": "0.00", "outstanding": "0.00"}
    assert found["loan:12"] == {
        "type": "loan",
        "schema": 1,
        "client_id": 7,
        "loan_id": 12,
        "account_no": "000000012",
        "status": "active",
        "kind": "individual",
        "currency": {"code": "USD", "digits": 2, "symbol": "$"},
        "product": "Small business",
        "principal": {"current": "1200.00", "approved": "1200.00"},
        "interest": {
            "method": "declining_balance",
            "calculated": "per_repayment_period",
            "rate": "1.5",
            "rate_period": "month",
            "annual_rate": "18",
        },
        "terms": {
            "length": 3,
            "length_unit": "months",
            "repayments": 3,
            "every": 1,
            "every_unit": "months",
            "amortization": "equal_instalments",
            "schedule_type": "cumulative",
        },
        "summary": {
            "principal": {
                "disbursed": "1200.00",
                "adjustments": "0.00",
                "repaid": "0.00",
                "written_off": "0.00",
                "outstanding": "1200.00",
            },
            "interest": nothing | {"charged": "30.00", "outstanding": "30.00"},
            "fees": nothing,
            "penalties": nothing,
            "total_expected": "1230.00",
            "total_repaid": "0.00",
            "total_expected_cost": "30.00",
            "total_cost": "0.00",
            "total_waived": "0.00",
            "total_written_off": "0.00",
            "total_outstanding": "1230.00",
        },
        "next_due": {"on": "2026-02-05", "amount": "410.00"},
        "dates": {
            "submitted": "2026-01-02",
            "approved": "2026-01-03",
            "expected_disbursed": "2026-01-05",
            "disbursed": "2026-01-05",
        },
    }


STATUSES = {
    200: "approved",
    300: "active",
    303: "in_transfer",
    304: "in_transfer",
    600: "repaid",
    601: "written_off",
    602: "rescheduled",
    700: "overpaid",
}


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_statuses_from_approval_on_are_shown_in_the_customer_s_words(status: int) -> None:
    assert loan_of(status=status)["status"] == STATUSES[status]


@pytest.mark.parametrize("status", [0, 100, 400, 500, 301, 999])
def test_loans_in_the_institution_s_own_cycle_are_not_shown(status: int) -> None:
    aggregate = make.of_loan(
        make.loan(status=status), charges=[make.loan_charge()], transactions=[make.loan_transaction()]
    )
    assert make.documents(aggregate).keys() == {"client:7"}


def test_every_column_of_the_summary_goes_to_its_own_place() -> None:
    names = {
        "principal": ("disbursed", "adjustments", "repaid", "written_off", "outstanding"),
        **dict.fromkeys(("interest", "fees"), ("charged", "repaid", "waived", "written_off", "outstanding")),
        "penalties": ("charged", "repaid", "waived", "written_off", "outstanding"),
    }
    totals = ("expected", "repaid", "expected_cost", "cost", "waived", "written_off", "outstanding")
    columns = [f"{part}_{name}" for part, parts in names.items() for name in parts]
    columns += [f"total_{name}" for name in totals]
    values = {column: number for number, column in enumerate(columns, 101)}
    summary = loan_of(**make.amounts(**values))["summary"]
    shown = {f"{part}_{name}": summary[part][name] for part, parts in names.items() for name in parts}
    shown |= {f"total_{name}": summary[f"total_{name}"] for name in totals}
    assert shown == {column: f"{number}.00" for column, number in values.items()}


def test_every_date_goes_to_its_own_place() -> None:
    names = {
        "submitted": "submitted_on",
        "approved": "approved_on",
        "expected_disbursed": "expected_disbursed_on",
        "disbursed": "disbursed_on",
        "expected_first_repayment": "expected_first_repayment_on",
        "expected_matured": "expected_matured_on",
        "matured": "matured_on",
        "closed": "closed_on",
        "written_off": "written_off_on",
        "rescheduled": "rescheduled_on",
        "overpaid": "overpaid_on",
    }
    days = {field: date(2026, 5, number) for number, field in enumerate(names.values(), 1)}
    dates = loan_of(**days)["dates"]
    assert dates == {name: days[field].isoformat() for name, field in names.items()}


def test_an_approved_loan_may_still_be_drawn() -> None:
    nothing = make.amounts(
        principal_disbursed=0,
        principal_outstanding=0,
        interest_charged=0,
        interest_outstanding=0,
        total_expected=0,
        total_expected_cost=0,
        total_outstanding=0,
    )
    row = loan_of(status=200, disbursed_on=None, principal_proposed=Decimal(1500), **nothing)
    assert row["principal"] == {
        "current": "1200.00",
        "approved": "1200.00",
        "available": "1200.00",
        "proposed": "1500.00",
    }
    assert row["summary"]["total_outstanding"] == "0.00"
    assert "disbursed" not in row["dates"]


def test_more_disbursed_than_approved_leaves_nothing_to_draw() -> None:
    row = loan_of(several_disbursals=True, **make.amounts(principal_disbursed=1300))
    assert row["principal"]["available"] == "0.00"


@pytest.mark.parametrize(
    ("status", "several", "available"),
    [
        (200, False, "500.00"),
        (300, True, "500.00"),
        (300, False, None),
        (300, None, None),
        (303, True, None),
        (600, True, None),
        (601, True, None),
        (700, True, None),
    ],
)
def test_what_is_available_is_told_where_it_can_be_drawn(
    status: int, several: bool | None, available: str | None
) -> None:
    row = loan_of(status=status, several_disbursals=several, **make.amounts(principal_disbursed=700))
    assert row["principal"].get("available") == available


@pytest.mark.parametrize(("group", "kind"), [(None, "individual"), (4, "joint_liability_group")])
def test_the_kind_of_an_old_loan_follows_from_its_client_and_group(group: int | None, kind: str) -> None:
    context = make.context()
    row = make.loan(loan_type=0, group_id=group)
    assert make.documents(make.of_loan(row), using=context)["loan:12"]["kind"] == kind
    assert not context.unknown, "nothing to warn of in every pass"


def test_an_overpaid_loan_has_a_credit() -> None:
    row = loan_of(status=700, overpaid_on=date(2026, 4, 1), **make.amounts(total_overpaid=15))
    assert (row["status"], row["summary"]["overpaid"]) == ("overpaid", "15.00")
    assert row["dates"]["overpaid"] == "2026-04-01"
    assert "overpaid" not in loan_of(total_overpaid=Decimal(0))["summary"]


def test_a_written_off_loan() -> None:
    row = loan_of(
        status=601,
        written_off_on=date(2026, 6, 1),
        closed_on=date(2026, 6, 1),
        **make.amounts(
            principal_written_off=1200,
            principal_outstanding=0,
            interest_written_off=30,
            interest_outstanding=0,
            total_written_off=1230,
            total_outstanding=0,
        ),
    )
    assert row["status"] == "written_off"
    assert row["summary"]["principal"]["written_off"] == "1200.00"
    assert (row["summary"]["total_written_off"], row["summary"]["total_outstanding"]) == ("1230.00", "0.00")


def test_a_flat_loan_for_the_whole_term_with_grace() -> None:
    row = loan_of(
        interest_method=1,
        interest_calculated=0,
        amortization=0,
        rate_period=4,
        rate_per_period=Decimal("12.345000"),
        annual_rate=None,
        term_unit=1,
        repay_unit=0,
        grace_principal=1,
        grace_interest=2,
        grace_interest_free=3,
        fixed_instalment=Decimal("410.000000"),
        is_floating_rate=False,
        interest_recalculation=True,
        interest_from=date(2026, 1, 20),
        days_in_month=30,
        days_in_year=360,
        is_topup=True,
        sub_status=100,
        schedule_type="PROGRESSIVE",
        loan_type=3,
        purpose="Working capital",
    )
    assert row["interest"] == {
        "method": "flat",
        "calculated": "daily",
        "rate": "12.345",
        "rate_period": "whole_term",
        "floating": False,
        "recalculated": True,
        "starts_on": "2026-01-20",
        "days_in_month": 30,
        "days_in_year": 360,
    }
    assert row["terms"]["amortization"] == "equal_principal"
    assert (row["terms"]["length_unit"], row["terms"]["every_unit"]) == ("weeks", "days")
    assert [row["terms"][name] for name in ("grace_principal", "grace_interest", "interest_free")] == [1, 2, 3]
    assert (row["terms"]["fixed_instalment"], row["terms"]["schedule_type"]) == ("410.00", "progressive")
    assert (row["topup"], row["sub_status"], row["kind"]) == (True, "foreclosed", "joint_liability_group")
    assert row["purpose"] == "Working capital"


@pytest.mark.parametrize(
    ("code", "digits", "shown", "symbol"),
    [
        ("USD", 0, "1200", "$"),
        ("JPY", 2, "1200.00", "¥"),
        ("BHD", 3, "1200.000", "BHD"),
        ("USD", 2, "1200.00", "$"),
    ],
)
def test_a_loan_s_digits_are_its_own(code: str, digits: int, shown: str, symbol: str | None) -> None:
    found = make.documents(
        make.of_loan(
            make.loan(currency_code=code, currency_digits=digits),
            charges=[make.loan_charge()],
            transactions=[make.loan_transaction()],
        )
    )
    assert found["loan:12"]["principal"]["approved"] == shown
    for document in (one for key, one in found.items() if key.startswith("loan:")):
        assert document["currency"] == {"code": code, "digits": digits, "symbol": symbol}
    assert found["loan:12:charges"]["charges"][0]["amount"] == shown.replace("1200", "25")
    assert found["loan:12:transactions:2026"]["transactions"][0]["amount"] == shown.replace("1200", "410")


def test_unknown_codes_become_unknown_and_are_noted() -> None:
    context = make.context()
    row = make.loan(
        sub_status=901,
        loan_type=6,
        rate_period=5,
        interest_method=7,
        interest_calculated=8,
        amortization=9,
        term_unit=5,
        repay_unit=6,
    )
    aggregate = make.of_loan(
        row,
        charges=[make.loan_charge(charge_time=90, calculation=91, payment_mode=92)],
        transactions=[make.loan_transaction(type=93)],
    )
    found = make.documents(aggregate, using=context)
    loan = found["loan:12"]
    assert {loan["sub_status"], loan["kind"], loan["interest"]["rate_period"], loan["interest"]["method"]} == {
        "unknown"
    }
    assert {loan["interest"]["calculated"], loan["terms"]["amortization"], loan["terms"]["length_unit"]} == {
        "unknown"
    }
    assert loan["terms"]["every_unit"] == "unknown"
    (charge,) = found["loan:12:charges"]["charges"]
    assert (charge["when"], charge["calculation"], charge["payment_mode"]) == ("unknown",) * 3
    assert found["loan:12:transactions:2026"]["transactions"][0]["type"] == "unknown"
    assert {code for _, code in context.unknown} == {901, 5, 7, 8, 9, 6, 90, 91, 92, 93}
    assert all(
        source.startswith(("m_loan.", "m_loan_charge.", "m_loan_transaction.")) for source, _ in context.unknown
    )


def test_charges_taken_back_are_hidden_as_in_the_core_s_list() -> None:
    rows = [make.loan_charge(3), make.loan_charge(1, is_penalty=True), make.loan_charge(2, is_active=False)]
    charges = make.documents(make.of_loan(charges=rows))["loan:12:charges"]["charges"]
    assert [(one["id"], one["penalty"]) for one in charges] == [(1, True), (3, False)]
    gone = make.documents(make.of_loan(charges=[make.loan_charge(is_active=False)]))
    assert "loan:12:charges" not in gone


def test_a_tranche_s_charge_is_due_with_its_tranche() -> None:
    rows = [
        make.loan_charge(1, charge_time=12, due_date=None, tranche_expected_on=date(2026, 3, 9)),
        make.loan_charge(2, due_date=date(2026, 4, 1), tranche_expected_on=date(2026, 3, 9)),
        make.loan_charge(3, charge_time=1, due_date=None),
    ]
    first, second, third = make.documents(make.of_loan(charges=rows))["loan:12:charges"]["charges"]
    assert (first["when"], first["due_on"]) == ("tranche_disbursement", "2026-03-09")
    assert second["due_on"] == "2026-04-01"
    assert (third["when"], "due_on" in third) == ("disbursement", False)


def test_a_paid_out_tranche_s_charge_was_due_on_the_day_of_the_pay_out() -> None:
    days = {"tranche_expected_on": date(2026, 3, 9), "tranche_disbursed_on": date(2026, 3, 12)}
    row = make.loan_charge(1, charge_time=12, due_date=None, tranche_id=1, **days)
    (charge,) = make.documents(make.of_loan(charges=[row]))["loan:12:charges"]["charges"]
    assert charge["due_on"] == "2026-03-12"


def test_a_charge_in_per_cent_shows_its_base() -> None:
    row = make.loan_charge(
        calculation=2,
        percentage=Decimal("2.500000"),
        calculated_on=Decimal("1000.000000"),
        payment_mode=1,
        submitted_on=date(2026, 1, 31),
        **make.amounts(amount=25, paid=5, waived=4, written_off=3, outstanding=13),
    )
    (charge,) = make.documents(make.of_loan(charges=[row]))["loan:12:charges"]["charges"]
    assert charge == {
        "id": 1,
        "name": "Processing fee",
        "penalty": False,
        "when": "due_date",
        "calculation": "percent_of_amount",
        "amount": "25.00",
        "paid": "5.00",
        "waived": "4.00",
        "written_off": "3.00",
        "outstanding": "13.00",
        "payment_mode": "account_transfer",
        "due_on": "2026-02-01",
        "percentage": "2.5",
        "calculated_on": "1000.00",
        "submitted_on": "2026-01-31",
    }


def test_an_instalment_fee_is_split_by_instalment_and_only_by_its_own() -> None:
    parts = [
        make.instalment_charge(2, **make.amounts(paid=1, waived=2, written_off=1, outstanding=1)),
        make.instalment_charge(1),
        make.instalment_charge(1, charge_id=2, **make.amounts(amount=7, outstanding=7)),
    ]
    charges = [
        make.loan_charge(1, charge_time=8, due_date=None),
        make.loan_charge(2, charge_time=8),
        make.loan_charge(3),
    ]
    found = make.documents(make.of_loan(charges=charges, instalment_charges=parts))["loan:12:charges"]["charges"]
    assert [line["number"] for line in found[0]["instalments"]] == [1, 2]
    assert found[0]["instalments"][1] == {
        "number": 2,
        "due_on": "2026-03-05",
        "amount": "5.00",
        "paid": "1.00",
        "waived": "2.00",
        "written_off": "1.00",
        "outstanding": "1.00",
    }
    assert [line["amount"] for line in found[1]["instalments"]] == ["7.00"]
    assert "instalments" not in found[2]


def test_a_repayment_in_full() -> None:
    row = make.loan_transaction(
        5,
        payment_type="Mobile money",
        receipt_number="R-5",
        submitted_on=date(2026, 2, 6),
        **make.amounts(amount=450, principal=400, interest=10, fees=20, penalties=5, overpayment=15),
    )
    assert transactions_of(row) == [
        {
            "id": 5,
            "type": "repayment",
            "on": "2026-02-05",
            "amount": "450.00",
            "principal": "400.00",
            "interest": "10.00",
            "fees": "20.00",
            "penalties": "5.00",
            "overpayment": "15.00",
            "reversed": False,
            "balance_after": "800.00",
            "submitted_on": "2026-02-06",
            "payment": {"type": "Mobile money", "receipt": "R-5"},
        }
    ]


def test_null_portions_are_nothing() -> None:
    row = make.loan_transaction(principal=None, interest=None, balance_after=None)
    (line,) = transactions_of(row)
    assert [line[part] for part in ("principal", "interest", "fees", "penalties", "overpayment")] == ["0.00"] * 5
    assert "balance_after" not in line


def test_what_was_undone_keeps_its_place_and_counts_for_nothing() -> None:
    rows = [
        make.loan_transaction(3, on=date(2026, 2, 7)),
        make.loan_transaction(2, on=date(2026, 2, 6), is_reversed=True, reversed_on=date(2026, 2, 8)),
        make.loan_transaction(1),
    ]
    lines = transactions_of(*rows)
    assert [(line["id"], line["reversed"]) for line in lines] == [(1, False), (2, True), (3, False)]
    assert lines[1]["reversed_on"] == "2026-02-08"
    assert "balance_after" not in lines[1], "a balance of a history that no longer holds"
    assert totals_of(*rows)["principal_repaid"] == "800.00"


ACCOUNTING = [0, 3, 10, 12, 13, 14, 15, 19, 27, 32]


@pytest.mark.parametrize("kind", ACCOUNTING)
def test_accruals_transfers_and_charge_offs_are_the_institution_s_own(kind: int) -> None:
    alone = make.documents(make.of_loan(transactions=[make.loan_transaction(type=kind)]))
    assert alone.keys() == {"client:7", "loan:12", "loan:12:schedule"}
    lines = transactions_of(make.loan_transaction(1, type=kind), make.loan_transaction(2))
    assert [line["id"] for line in lines] == [2]


KINDS = {
    1: "disbursement",
    2: "repayment",
    4: "interest_waiver",
    5: "repayment_at_disbursement",
    6: "write_off",
    7: "rescheduling",
    8: "recovery",
    9: "charge_waiver",
    16: "transfer_refund",
    17: "charge_payment",
    18: "refund",
    20: "credit_balance_refund",
    21: "merchant_refund",
    22: "payout_refund",
    23: "goodwill_credit",
    24: "charge_refund",
    25: "chargeback",
    26: "charge_adjustment",
    28: "down_payment",
    29: "re_age",
    30: "re_amortization",
    31: "interest_payment_waiver",
    33: "interest_refund",
}
#: The core calls these repayment-like; they raise the loan's repaid totals.
REPAYING = {2, 5, 17, 21, 22, 23, 24, 26, 28, 31, 33}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_movement_and_what_it_repays(kind: int) -> None:
    row = make.loan_transaction(
        type=kind, **make.amounts(amount=100, principal=60, interest=25, fees=10, penalties=5)
    )
    assert transactions_of(row)[0]["type"] == KINDS[kind]
    sign = 1 if kind in REPAYING else -1 if kind == 18 else 0
    totals = totals_of(row)
    assert {name: Decimal(text) for name, text in totals.items()} == {
        "disbursed": Decimal(100 if kind == 1 else 0),
        "principal_repaid": Decimal(60 * sign),
        "interest_repaid": Decimal(25 * sign),
        "fees_repaid": Decimal(10 * sign),
        "penalties_repaid": Decimal(5 * sign),
    }
    assert not any(text.startswith("-0.00") for text in totals.values())


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"total_overpaid": Decimal("NaN")}, "m_loan 12"),
        ({"principal": Decimal("1E13")}, "m_loan 12"),
        ({"annual_rate": Decimal("Infinity")}, "m_loan 12"),
        ({"currency_digits": 7}, "m_loan 12"),
    ],
)
def test_garbage_stops_the_client_and_names_the_row(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(BadValue) as caught:
        loan_of(**changes)
    assert caught.value.where == where
