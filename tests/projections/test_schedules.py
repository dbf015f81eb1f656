"""The schedule of a loan, by the rules of the core."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from projections.rows import LoanRow
from tests.projections import builders as make


def schedule_of(row: LoanRow | None = None, **parts: Any) -> dict[str, Any]:
    return make.documents(make.of_loan(row, **parts))["loan:12:schedule"]


def test_a_plain_schedule() -> None:
    document = schedule_of(instalments=[make.instalment(number) for number in (3, 1, 2)])
    assert document["disbursements"] == [
        {
            "principal": "1200.00",
            "fees": "0.00",
            "fees_paid": "0.00",
            "disbursed": True,
            "expected_on": "2026-01-05",
            "disbursed_on": "2026-01-05",
        }
    ]
    lines = document["instalments"]
    assert [line["number"] for line in lines] == [1, 2, 3]
    nothing = {"due": "0.00", "paid": "0.00", "waived": "0.00", "written_off": "0.00", "outstanding": "0.00"}
    assert lines[0] == {
        "number": 1,
        "from_on": "2026-01-05",
        "due_on": "2026-02-05",
        "days": 31,
        "principal": {"due": "400.00", "paid": "0.00", "written_off": "0.00", "outstanding": "400.00"},
        "interest": nothing | {"due": "10.00", "outstanding": "10.00"},
        "fees": nothing,
        "penalties": nothing,
        "total": nothing | {"due": "410.00", "outstanding": "410.00"},
        "instalment": "410.00",
        "balance_after": "800.00",
        "paid_in_advance": "0.00",
        "paid_late": "0.00",
        "complete": False,
    }
    assert [line["balance_after"] for line in lines] == ["800.00", "400.00", "0.00"]
    assert document["totals"] == {
        "days": 31 + 28 + 31,
        "principal": {"due": "1200.00", "paid": "0.00", "written_off": "0.00", "outstanding": "1200.00"},
        "interest": nothing | {"due": "30.00", "outstanding": "30.00"},
        "fees": nothing,
        "penalties": nothing,
        "fees_at_disbursement": "0.00",
        "disbursed": "1200.00",
        "expected": "1230.00",
        "paid": "0.00",
        "waived": "0.00",
        "written_off": "0.00",
        "outstanding": "1230.00",
    }


def test_a_loan_without_instalments_has_no_schedule() -> None:
    assert "loan:12:schedule" not in make.documents(make.of_loan(instalments=[]))


def test_every_column_of_an_instalment_goes_to_its_own_place() -> None:
    columns = make.amounts(
        principal=400,
        principal_paid=101,
        principal_written_off=51,
        interest=40,
        interest_paid=11,
        interest_waived=6,
        interest_written_off=3,
        fees=30,
        fees_paid=12,
        fees_waived=7,
        fees_written_off=4,
        penalties=20,
        penalties_paid=8,
        penalties_waived=5,
        penalties_written_off=2,
        paid_in_advance=13,
        paid_late=14,
    )
    document = schedule_of(instalments=[make.instalment(1, **columns)])
    (line,) = document["instalments"]
    parts = ("due", "paid", "waived", "written_off", "outstanding")
    assert [line["principal"].get(part) for part in parts] == ["400.00", "101.00", None, "51.00", "248.00"]
    assert [line["interest"][part] for part in parts] == ["40.00", "11.00", "6.00", "3.00", "20.00"]
    assert [line["fees"][part] for part in parts] == ["30.00", "12.00", "7.00", "4.00", "7.00"]
    assert [line["penalties"][part] for part in parts] == ["20.00", "8.00", "5.00", "2.00", "5.00"]
    assert [line["total"][part] for part in parts] == ["490.00", "132.00", "18.00", "60.00", "280.00"]
    assert (line["instalment"], line["paid_in_advance"], line["paid_late"]) == ("440.00", "13.00", "14.00")
    totals = document["totals"]
    assert {name: totals[name] for name in ("principal", "interest", "fees", "penalties")} == {
        name: line[name] for name in ("principal", "interest", "fees", "penalties")
    }
    assert [totals[name] for name in ("expected", "paid", "waived", "written_off", "outstanding")] == [
        "490.00",
        "132.00",
        "18.00",
        "60.00",
        "280.00",
    ]


def test_null_amounts_are_nothing() -> None:
    (line,) = schedule_of(instalments=[make.instalment(1, principal=None, interest=None)])["instalments"]
    assert line["total"] == {
        "due": "0.00",
        "paid": "0.00",
        "waived": "0.00",
        "written_off": "0.00",
        "outstanding": "0.00",
    }
    assert line["balance_after"] == "1200.00"


def test_a_period_without_beginning_begins_with_the_previous_due_date() -> None:
    rows = [make.instalment(number, from_date=None) for number in (1, 2, 3)]
    lines = schedule_of(instalments=rows)["instalments"]
    assert [line["from_on"] for line in lines] == ["2026-01-05", "2026-02-05", "2026-03-05"]
    assert [line["days"] for line in lines] == [31, 28, 31]
    planned = make.loan(status=200, disbursed_on=None, expected_disbursed_on=date(2026, 1, 9))
    assert schedule_of(planned, instalments=rows)["instalments"][0]["from_on"] == "2026-01-09"
    undated = make.loan(status=200, disbursed_on=None, expected_disbursed_on=None)
    first = schedule_of(undated, instalments=rows)["instalments"][0]
    assert (first["from_on"], first["days"]) == ("2026-02-05", 0)


def test_a_period_may_begin_later_than_the_one_before_ends() -> None:
    rows = [make.instalment(1), make.instalment(2, from_date=date(2026, 2, 20)), make.instalment(3, from_date=None)]
    lines = schedule_of(instalments=rows)["instalments"]
    assert [line["from_on"] for line in lines] == ["2026-01-05", "2026-02-20", "2026-03-05"]
    assert [line["days"] for line in lines] == [31, 13, 31]


def test_an_approved_loan_shows_what_is_planned() -> None:
    row = make.loan(status=200, disbursed_on=None, **make.amounts(fees_at_disbursement=25, principal_disbursed=0))
    document = schedule_of(row)
    (line,) = document["disbursements"]
    assert (line["disbursed"], line["fees"], line["fees_paid"]) == (False, "25.00", "0.00")
    assert "disbursed_on" not in line
    assert document["totals"]["disbursed"] == "0.00"
    assert document["totals"]["fees_at_disbursement"] == "25.00"
    assert (document["totals"]["expected"], document["totals"]["outstanding"]) == ("1255.00", "1255.00")
    assert document["instalments"][-1]["balance_after"] == "0.00"


def test_fees_at_pay_out_count_as_paid_with_it() -> None:
    document = schedule_of(make.loan(**make.amounts(fees_at_disbursement=25)))
    assert (document["disbursements"][0]["fees"], document["disbursements"][0]["fees_paid"]) == ("25.00", "25.00")
    totals = document["totals"]
    assert [totals[name] for name in ("expected", "paid", "outstanding")] == ["1255.00", "25.00", "1230.00"]
    assert totals["fees"]["due"] == "0.00", "they are in no instalment"


def test_fees_at_pay_out_follow_their_charges() -> None:
    """One is paid in part, one was waived, one is of another kind, one was taken back."""
    charges = [
        make.loan_charge(1, charge_time=1, **make.amounts(amount=25, paid=10, outstanding=15)),
        make.loan_charge(2, charge_time=1, **make.amounts(amount=7, waived=7, outstanding=0)),
        make.loan_charge(3, charge_time=2, **make.amounts(amount=9, outstanding=9)),
        make.loan_charge(4, charge_time=1, is_active=False, **make.amounts(amount=99, outstanding=99)),
    ]
    document = schedule_of(make.loan(**make.amounts(fees_at_disbursement=32)), charges=charges)
    (line,) = document["disbursements"]
    assert (line["fees"], line["fees_paid"]) == ("25.00", "10.00")
    totals = document["totals"]
    shown = [totals[name] for name in ("fees_at_disbursement", "expected", "paid", "outstanding")]
    assert shown == ["25.00", "1255.00", "10.00", "1245.00"]


TRANCHES = [
    make.tranche(2, expected_on=date(2026, 2, 20), **make.amounts(principal=500)),
    make.tranche(1, disbursed_on=date(2026, 1, 5), **make.amounts(principal=700)),
]


def test_tranches_stand_in_the_order_of_their_days_and_raise_the_balance_in_their_period() -> None:
    document = schedule_of(make.loan(**make.amounts(fees_at_disbursement=25)), disbursements=TRANCHES)
    first, second = document["disbursements"]
    assert (first["principal"], first["fees"], first["fees_paid"]) == ("700.00", "25.00", "25.00")
    assert (first["disbursed"], first["disbursed_on"]) == (True, "2026-01-05")
    assert (second["principal"], second["fees"], second["disbursed"]) == ("500.00", "0.00", False)
    assert (second["expected_on"], "disbursed_on" in second) == ("2026-02-20", False)
    assert document["totals"]["disbursed"] == "700.00"
    # 700 - 400, then + 500 - 400, then - 400
    assert [line["balance_after"] for line in document["instalments"]] == ["300.00", "400.00", "0.00"]


def test_each_tranche_has_the_fees_of_its_own() -> None:
    charges = [
        make.loan_charge(1, charge_time=1, **make.amounts(amount=5, paid=5, outstanding=0)),
        make.loan_charge(2, charge_time=12, tranche_id=1, **make.amounts(amount=20, paid=20, outstanding=0)),
        make.loan_charge(3, charge_time=12, tranche_id=2, **make.amounts(amount=30, waived=12, outstanding=18)),
        make.loan_charge(4, charge_time=12, tranche_id=9, **make.amounts(amount=70, outstanding=70)),
    ]
    row = make.loan(**make.amounts(fees_at_disbursement=125))
    document = schedule_of(row, disbursements=TRANCHES, charges=charges)
    first, second = document["disbursements"]
    assert (first["disbursed"], first["fees"], first["fees_paid"]) == (True, "25.00", "25.00")
    assert (second["disbursed"], second["fees"], second["fees_paid"]) == (False, "18.00", "0.00")
    assert document["totals"]["fees_at_disbursement"] == "43.00", "nothing of a tranche that is not there"


def test_a_tranche_that_was_undone_is_not_there() -> None:
    rows = [*TRANCHES, make.tranche(3, is_reversed=True, **make.amounts(principal=99))]
    assert [line["principal"] for line in schedule_of(disbursements=rows)["disbursements"]] == ["700.00", "500.00"]
    (line,) = schedule_of(disbursements=[make.tranche(3, is_reversed=True)])["disbursements"]
    assert line["principal"] == "1200.00", "without standing tranches the loan was paid out at once"


def test_a_tranche_that_will_not_come_any_more_is_left_out() -> None:
    closed = make.loan(status=600, closed_on=date(2026, 4, 5))
    assert [line["principal"] for line in schedule_of(closed, disbursements=TRANCHES)["disbursements"]] == [
        "700.00"
    ]


@pytest.mark.parametrize(
    ("kind", "balances"),
    [
        (None, ["800.00", "400.00", "0.00"]),
        ("CUMULATIVE", ["800.00", "400.00", "0.00"]),
        ("PROGRESSIVE", ["300.00", "400.00", "0.00"]),
    ],
)
def test_a_tranche_on_a_due_date(kind: str | None, balances: list[str]) -> None:
    """It falls in the period that ends with the day, with progressive schedules in the one that begins with it."""
    tranches = [
        make.tranche(1, disbursed_on=date(2026, 1, 5), **make.amounts(principal=700)),
        make.tranche(2, disbursed_on=date(2026, 2, 5), **make.amounts(principal=500)),
    ]
    lines = schedule_of(make.loan(schedule_type=kind), disbursements=tranches)["instalments"]
    assert [line["balance_after"] for line in lines] == balances


@pytest.mark.parametrize("kind", ["CUMULATIVE", "PROGRESSIVE"])
def test_a_down_payment_is_due_on_the_day_of_the_pay_out(kind: str) -> None:
    day = date(2026, 1, 5)
    down = make.instalment(
        1, from_date=day, due_date=day, is_down_payment=True, **make.amounts(principal=300, interest=0)
    )
    rows = [down, *(make.instalment(n, **make.amounts(principal=450)) for n in (2, 3))]
    lines = schedule_of(make.loan(schedule_type=kind), instalments=rows)["instalments"]
    assert (lines[0]["down_payment"], lines[0]["days"]) == (True, 0)
    assert "down_payment" not in lines[1]
    assert [line["balance_after"] for line in lines] == ["900.00", "450.00", "0.00"]


def test_credits_raise_the_balance_and_added_instalments_say_so() -> None:
    rows = [
        make.instalment(1),
        make.instalment(2, **make.amounts(principal=500, credits=100, credited_fees=3, credited_penalties=2)),
        make.instalment(3, is_additional=True),
    ]
    lines = schedule_of(instalments=rows)["instalments"]
    assert lines[1]["credits"] == "105.00"
    assert not {"credits", "additional"} & lines[0].keys()
    assert lines[2]["additional"] is True
    assert [line["balance_after"] for line in lines] == ["800.00", "400.00", "0.00"]


def test_a_paid_instalment_tells_when() -> None:
    paid = make.amounts(principal_paid=400, interest_paid=10, paid_in_advance=110, paid_late=0)
    row = make.instalment(1, is_complete=True, completed_on=date(2026, 2, 3), **paid)
    (line,) = schedule_of(instalments=[row])["instalments"]
    assert (line["complete"], line["completed_on"]) == (True, "2026-02-03")
    assert (line["total"]["outstanding"], line["paid_in_advance"]) == ("0.00", "110.00")
    (line,) = schedule_of(instalments=[make.instalment(1, completed_on=date(2026, 2, 3))])["instalments"]
    assert "completed_on" not in line, "an instalment opened again is not complete"


def test_sums_are_sums_of_what_is_shown() -> None:
    """Each amount is rounded on the way in, so lines always add up to the foot."""
    rows = [make.instalment(number, interest=Decimal("10.005000")) for number in (1, 2, 3)]
    document = schedule_of(instalments=rows)
    assert [line["interest"]["due"] for line in document["instalments"]] == ["10.00"] * 3
    assert document["totals"]["interest"]["due"] == "30.00"


def _next_due(status: int = 300, *rows: Any) -> dict[str, str] | None:
    loan = make.of_loan(make.loan(status=status), instalments=rows)
    found: dict[str, str] | None = make.documents(loan)["loan:12"].get("next_due")
    return found


def test_the_next_due_is_the_first_instalment_on_which_something_is_to_pay() -> None:
    paid = make.instalment(1, is_complete=True, **make.amounts(principal_paid=400, interest_paid=10))
    part = make.instalment(2, **make.amounts(principal_paid=100, interest_waived=10))
    free = make.instalment(2, **make.amounts(principal=0, interest=0))
    assert _next_due(300, make.instalment(3), part, paid) == {"on": "2026-03-05", "amount": "300.00"}
    assert _next_due(300, paid, free, make.instalment(3)) == {"on": "2026-04-05", "amount": "410.00"}
    assert _next_due(300, paid) is None
    assert _next_due(300) is None


def test_nothing_is_due_next_on_a_loan_that_is_not_active() -> None:
    for status in (200, 303, 304, 600, 601, 602, 700):
        assert _next_due(status, make.instalment(1)) is None
