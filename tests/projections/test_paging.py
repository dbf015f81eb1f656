"""Calendar pages, the order inside them, and the window of history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import rows
from tests.projections import builders as make

Row = rows.LoanTransactionRow | rows.SavingsTransactionRow | rows.ClientTransactionRow


def loan_pages(found: list[Any]) -> rows.ClientAggregate:
    return make.of_loan(transactions=found)


def savings_pages(found: list[Any]) -> rows.ClientAggregate:
    return make.of_savings(transactions=found)


def client_pages(found: list[Any]) -> rows.ClientAggregate:
    return make.of_client(transactions=found)


KINDS: dict[str, tuple[Callable[..., Row], Callable[[list[Any]], rows.ClientAggregate], int]] = {
    "loan:12": (make.loan_transaction, loan_pages, 4),
    "savings:31": (make.savings_transaction, savings_pages, 7),
    "client:7": (make.client_transaction, client_pages, 4),
}
EVERY_KIND = pytest.mark.parametrize("owner", sorted(KINDS))


def pages(owner: str, found: list[Any], since: date | None = None) -> dict[str, list[int]]:
    """Ids of the transactions by period."""
    documents = make.documents(KINDS[owner][1](found), since)
    prefix = f"{owner}:transactions:"
    listed = {}
    for key, document in documents.items():
        if key.startswith(prefix):
            assert document["period"] == key.removeprefix(prefix)
            listed[document["period"]] = [line["id"] for line in document["transactions"]]
    return listed


@EVERY_KIND
def test_pages_are_cut_at_the_turn_of_year_or_month(owner: str) -> None:
    row = KINDS[owner][0]
    days = {
        1: date(2024, 12, 31),
        2: date(2025, 1, 1),
        3: date(2025, 1, 31),
        4: date(2025, 2, 1),
        5: date(2025, 12, 31),
        6: date(2026, 1, 1),
    }
    found = pages(owner, [row(number, on=day) for number, day in days.items()])
    if owner == "savings:31":
        assert found == {"2024-12": [1], "2025-01": [2, 3], "2025-02": [4], "2025-12": [5], "2026-01": [6]}
    else:
        assert found == {"2024": [1], "2025": [2, 3, 4, 5], "2026": [6]}


@EVERY_KIND
def test_early_years_keep_four_digits(owner: str) -> None:
    row, _, width = KINDS[owner]
    (period,) = pages(owner, [row(1, on=date(987, 1, 2))])
    assert period == "0987-01"[:width]


@EVERY_KIND
def test_the_window_begins_with_its_first_day(owner: str) -> None:
    row, _, width = KINDS[owner]
    first = date(2026, 1, 1)
    found = [row(1, on=first - timedelta(days=1)), row(2, on=first), row(3, on=date(2026, 1, 31))]
    assert pages(owner, found, first) == {"2026-01"[:width]: [2, 3]}
    assert pages(owner, found, date(2026, 1, 31)) == {"2026-01"[:width]: [3]}
    assert pages(owner, found, date(2026, 2, 1)) == {}, "an empty page is no document"
    assert sum(map(len, pages(owner, found, date.min).values())) == 3


def test_totals_of_a_page_are_of_what_it_shows() -> None:
    found = [make.savings_transaction(1, on=date(2026, 1, 1)), make.savings_transaction(2, on=date(2026, 1, 2))]
    document = make.documents(make.of_savings(transactions=found), date(2026, 1, 2))
    assert document["savings:31:transactions:2026-01"]["totals"]["credits"] == "100.00"


@EVERY_KIND
def test_the_order_is_value_date_then_booking_then_key(owner: str) -> None:
    row = KINDS[owner][0]
    day = date(2026, 1, 10)
    found = [
        row(1, on=day, created_on=make.stamp(day, 12)),
        row(2, on=day, created_on=make.stamp(day, 11)),
        row(3, on=day, created_on=make.stamp(day, 12)),
        row(4, on=day + timedelta(days=1), created_on=make.stamp(day, 1)),
        row(5, on=day - timedelta(days=1), created_on=make.stamp(day, 23)),
    ]
    ((_, ids),) = pages(owner, found).items()
    assert ids == [5, 2, 1, 3, 4]


@EVERY_KIND
def test_rows_without_a_booking_stamp_come_first_of_their_day(owner: str) -> None:
    row = KINDS[owner][0]
    day = date(2026, 1, 10)
    found = [
        row(9, on=day),
        row(2, on=day, created_on=make.stamp(day)),
        row(3, on=day, created_on=datetime(1, 1, 1, tzinfo=UTC)),
        row(8, on=day),
        row(1, on=day, created_on=make.stamp(day, 8).astimezone(timezone(timedelta(hours=14)))),
    ]
    ((_, ids),) = pages(owner, found).items()
    assert ids == [3, 8, 9, 1, 2]


@given(st.permutations(range(1, 9)), st.sampled_from(sorted(KINDS)))
def test_the_order_in_which_the_ledger_answers_does_not_matter(order: list[int], owner: str) -> None:
    row, aggregate, _ = KINDS[owner]
    day = date(2026, 1, 10)
    made = {
        n: row(n, on=day + timedelta(days=n % 3), created_on=make.stamp(day, n) if n % 2 else None) for n in order
    }
    given_rows = make.projected(aggregate([made[n] for n in order]))
    sorted_rows = make.projected(aggregate([made[n] for n in sorted(order)]))
    assert {key: one.body for key, one in given_rows.items()} == {key: one.body for key, one in sorted_rows.items()}
