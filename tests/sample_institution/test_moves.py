"""Moves write what Fineract would write, and keep every rule of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from passbook.errors import Refused
from sample_institution import Institution, create_schema, fill, moves
from sample_institution.tables import table
from tests.sample_institution.conftest import MakeEngine
from tests.sample_institution.invariants import violations
from tests.sample_institution.rules import Row


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def filled(request: pytest.FixtureRequest) -> tuple[Engine, Institution]:
    make: MakeEngine = request.getfixturevalue(f"new_{request.param}")
    engine = make()
    create_schema(engine)
    return engine, fill(engine, clients=60, seed=5)


def rows(engine: Engine, name: str, **where: Any) -> list[Row]:
    one = table(name)
    statement = select(one).where(*(one.c[column] == value for column, value in where.items()))
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(statement.order_by(*one.primary_key)).mappings()]


def stamp(engine: Engine, name: str, number: int) -> Any:
    return rows(engine, name, id=number)[0]["last_modified_on_utc"]


def test_a_repayment_lowers_the_debt_and_is_undone(filled: tuple[Engine, Institution]) -> None:
    engine, institution = filled
    loan = moves.open_loan_of(engine, institution.customer)
    before = rows(engine, "m_loan", id=loan)[0]
    schedule = rows(engine, "m_loan_repayment_schedule", loan_id=loan)
    done = moves.repay(engine, loan, Decimal("150.005"))
    after = rows(engine, "m_loan", id=loan)[0]
    assert done.amount == Decimal("150.00")
    assert done.status == 300
    assert after["total_outstanding_derived"] == before["total_outstanding_derived"] - 150
    assert after["last_modified_on_utc"] > before["last_modified_on_utc"]
    assert after["version"] == before["version"] + 1
    booked = rows(engine, "m_loan_transaction", id=done.transaction_id)[0]
    assert rows(engine, "m_payment_detail", id=booked["payment_detail_id"])[0]["receipt_number"]
    assert violations(engine) == []

    assert done.transaction_id is not None
    undone = moves.reverse(engine, done.transaction_id)
    assert undone.total_outstanding == before["total_outstanding_derived"]
    booked = rows(engine, "m_loan_transaction", id=done.transaction_id)[0]
    assert booked["is_reversed"]
    assert booked["manually_adjusted_or_reversed"]
    assert booked["reversed_on_date"] == institution.today
    money = [column for column in schedule[0] if column.endswith(("_derived", "_amount", "date"))]
    for old, new in zip(schedule, rows(engine, "m_loan_repayment_schedule", loan_id=loan), strict=True):
        assert [old[column] for column in money] == [new[column] for column in money]
    assert violations(engine) == []
    with pytest.raises(Refused, match="reversed already"):
        moves.reverse(engine, done.transaction_id)


def test_paying_all_closes_and_paying_more_overpays(filled: tuple[Engine, Institution]) -> None:
    engine, institution = filled
    loans = [one for one in institution.active_clients if has_loan(engine, one)]
    for client, extra, status in ((loans[-1], Decimal(0), 600), (loans[-2], Decimal(7), 700)):
        loan = moves.open_loan_of(engine, client)
        owed = rows(engine, "m_loan", id=loan)[0]["total_outstanding_derived"]
        done = moves.repay(engine, loan, owed + extra)
        assert done.status == status
        assert (rows(engine, "m_loan", id=loan)[0]["total_overpaid_derived"] or 0) == extra
        assert not rows(engine, "m_loan_arrears_aging", loan_id=loan)
        assert violations(engine) == []
        assert done.transaction_id is not None
        assert moves.reverse(engine, done.transaction_id).status == 300
        assert violations(engine) == []


def has_loan(engine: Engine, client: int) -> bool:
    try:
        moves.open_loan_of(engine, client)
    except Refused:
        return False
    return True


def test_an_earlier_payment_is_allocated_before_the_later_ones(filled: tuple[Engine, Institution]) -> None:
    engine, institution = filled
    client = next(one for one in institution.active_clients[5:] if has_loan(engine, one))
    loan = moves.open_loan_of(engine, client)
    disbursed = rows(engine, "m_loan", id=loan)[0]["disbursedon_date"]
    owed = rows(engine, "m_loan", id=loan)[0]["total_outstanding_derived"]
    on = disbursed + timedelta(days=10)
    done = moves.repay(engine, loan, min(owed, Decimal(40)), on=on)
    assert done.on == on
    renewed = rows(engine, "m_loan_transaction_relation", relation_type_enum=3)
    assert renewed
    for link in renewed:
        assert rows(engine, "m_loan_transaction", id=link["to_loan_transaction_id"])[0]["is_reversed"]
    assert violations(engine) == []
    with pytest.raises(Refused, match="business date"):
        moves.repay(engine, loan, Decimal(40), on=institution.today + timedelta(days=1))


def test_a_new_schedule_has_new_ids_and_later_dates(filled: tuple[Engine, Institution]) -> None:
    engine, institution = filled
    loan = moves.open_loan_of(engine, institution.customer)
    before = rows(engine, "m_loan_repayment_schedule", loan_id=loan)
    done = moves.reschedule(engine, loan)
    after = rows(engine, "m_loan_repayment_schedule", loan_id=loan)
    assert set(done.old_ids) == {row["id"] for row in before}
    assert set(done.new_ids) == {row["id"] for row in after}
    assert min(done.new_ids) > max(done.old_ids)
    assert after[-1]["duedate"] == done.last_due > before[-1]["duedate"]
    assert violations(engine) == []


def test_fees_on_loans_and_clients(filled: tuple[Engine, Institution]) -> None:
    engine, institution = filled
    loan = moves.open_loan_of(engine, institution.customer)
    owed = rows(engine, "m_loan", id=loan)[0]["total_outstanding_derived"]
    moves.charge(engine, loan_id=loan, amount=Decimal("12.5"))
    assert rows(engine, "m_loan", id=loan)[0]["total_outstanding_derived"] == owed + Decimal("12.5")
    untouched = stamp(engine, "m_client", institution.customer)
    done = moves.charge(engine, client_id=institution.customer, amount=Decimal(30))
    assert rows(engine, "m_client_charge", id=done.charge_id)[0]["amount_outstanding_derived"] == 30
    assert stamp(engine, "m_client", institution.customer) == untouched
    assert violations(engine) == []
    with pytest.raises(Refused, match="either"):
        moves.charge(engine, amount=Decimal(1))


def test_deposits_and_withdrawals(filled: tuple[Engine, Institution]) -> None:
    engine, institution = filled
    account = moves.active_savings_of(engine, institution.customer)
    before = rows(engine, "m_savings_account", id=account)[0]
    done = moves.deposit(engine, account, Decimal(500))
    assert done.balance == before["account_balance_derived"] + 500
    assert stamp(engine, "m_savings_account", account) > before["last_modified_on_utc"]
    moves.deposit(engine, account, Decimal(5), on=before["activatedon_date"] + timedelta(days=3))
    taken = moves.withdraw(engine, account, Decimal(100))
    assert taken.balance <= done.balance - 95
    assert violations(engine) == []
    with pytest.raises(Refused, match="does not hold"):
        moves.withdraw(engine, account, Decimal(10**9))
    with pytest.raises(Refused, match="more than nothing"):
        moves.deposit(engine, account, Decimal("0.001"))


def test_clients_close_and_come_back(filled: tuple[Engine, Institution]) -> None:
    engine, institution = filled
    client = institution.agent_clients[0]
    before = stamp(engine, "m_client", client)
    assert moves.close(engine, client).status == 600
    closed = rows(engine, "m_client", id=client)[0]
    assert closed["closedon_date"] == institution.today
    assert closed["last_modified_on_utc"] > before
    with pytest.raises(Refused, match="another status"):
        moves.close(engine, client)
    assert moves.reactivate(engine, client).status == 300
    assert rows(engine, "m_client", id=client)[0]["closedon_date"] is None
    untouched = stamp(engine, "m_client", client)
    assert moves.unmap(engine, client).login_id is not None
    assert moves.unmap(engine, client).login_id is None
    assert not rows(engine, "m_selfservice_user_client_mapping", client_id=client)
    assert stamp(engine, "m_client", client) == untouched


def test_a_recovery_leaves_the_schedule_alone(filled: tuple[Engine, Institution]) -> None:
    engine, _ = filled
    loan = rows(engine, "m_loan", loan_status_id=601)[0]
    schedule = rows(engine, "m_loan_repayment_schedule", loan_id=loan["id"])
    done = moves.repay(engine, loan["id"], Decimal(3))
    assert done.status == 601
    assert rows(engine, "m_loan_transaction", id=done.transaction_id)[0]["transaction_type_enum"] == 8
    assert rows(engine, "m_loan_repayment_schedule", loan_id=loan["id"]) == schedule
    assert violations(engine) == []


def test_what_fineract_refuses_is_refused_and_leaves_nothing(filled: tuple[Engine, Institution]) -> None:
    engine, _ = filled
    before = len(rows(engine, "m_payment_detail"))
    pending = rows(engine, "m_loan", loan_status_id=100)[0]["id"]
    fixed = rows(engine, "m_savings_account", deposit_type_enum=200, status_enum=300)[0]["id"]
    blocked = rows(engine, "m_savings_account", sub_status_enum=400)[0]["id"]
    disbursement = rows(engine, "m_loan_transaction", transaction_type_enum=1)[0]["id"]
    refused: list[Callable[[], object]] = [
        lambda: moves.repay(engine, pending, Decimal(10)),
        lambda: moves.repay(engine, 10**9, Decimal(10)),
        lambda: moves.reschedule(engine, pending),
        lambda: moves.charge(engine, loan_id=pending, amount=Decimal(10)),
        lambda: moves.charge(engine, client_id=10**9, amount=Decimal(10)),
        lambda: moves.deposit(engine, fixed, Decimal(10)),
        lambda: moves.withdraw(engine, blocked, Decimal(1)),
        lambda: moves.reverse(engine, disbursement),
        lambda: moves.open_loan_of(engine, 10**9),
    ]
    for attempt in refused:
        with pytest.raises(Refused):
            attempt()
    assert len(rows(engine, "m_payment_detail")) == before


KINDS = (
    "repay",
    "repay early",
    "repay all",
    "reverse",
    "reschedule",
    "charge",
    "deposit",
    "withdraw",
    "early deposit",
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 200),
        st.decimals(min_value="0.001", max_value="20000", places=3),
        st.integers(0, 400),
    ),
    min_size=1,
    max_size=12,
)


def take(engine: Engine, kind: str, pick: int, amount: Decimal, days: int, institution: Institution) -> None:
    """One random move; what would be refused is refused."""

    def any_row(name: str, **where: Any) -> Row:
        found = rows(engine, name, **where)
        if not found:
            raise Refused("the moves before have left none")
        return found[pick % len(found)]

    earlier = institution.today - timedelta(days=days)
    match kind:
        case "repay":
            moves.repay(engine, any_row("m_loan", loan_status_id=300)["id"], amount)
        case "repay early":
            moves.repay(engine, any_row("m_loan", loan_status_id=300)["id"], amount, earlier)
        case "repay all":
            loan = any_row("m_loan", loan_status_id=300)
            moves.repay(engine, loan["id"], loan["total_outstanding_derived"])
        case "reverse":
            moves.reverse(engine, any_row("m_loan_transaction", is_reversed=False)["id"])
        case "reschedule":
            moves.reschedule(engine, any_row("m_loan", loan_status_id=300)["id"])
        case "charge":
            moves.charge(engine, loan_id=any_row("m_loan", loan_status_id=300)["id"], amount=amount)
        case "deposit":
            moves.deposit(engine, any_row("m_savings_account", status_enum=300)["id"], amount)
        case "early deposit":
            moves.deposit(engine, any_row("m_savings_account", status_enum=300)["id"], amount, earlier)
        case "withdraw":
            moves.withdraw(engine, any_row("m_savings_account", status_enum=300)["id"], amount, earlier)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_random_moves_keep_every_rule(
    filled: tuple[Engine, Institution], steps: list[tuple[str, int, Decimal, int]]
) -> None:
    engine, institution = filled
    for kind, pick, amount, days in steps:
        with suppress(Refused):
            take(engine, kind, pick, amount, days, institution)
    assert violations(engine) == []
