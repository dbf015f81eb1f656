"""What `docs/documents.md` says beyond the fields, held to the code sentence by sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from passbook.scope import PERMISSIONS, Scope, scope_of
from projections import documents as models
from projections import vocabulary
from projections.documents.manifest import BusinessDate, Institution
from projections.notes import ABSENT_WHEN_EMPTY, ABSENT_WHEN_FALSE, ABSENT_WHEN_ZERO, notes
from projections.rows import CurrencyRow
from sync_worker import manifests
from sync_worker.ledger.reader import Batch
from sync_worker.manifests import Contents
from sync_worker.projecting import BatchProjection
from sync_worker.scopes import Holder
from tests.projections import builders as make

TEXT = dict(notes())
TOTALS = "What the totals of a page count"
#: Nothing in them but what a row must have.
BARE = make.of_client(loans=make.of_loan(instalments=()).loans, savings_accounts=make.of_savings().savings)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a document, with the names that lead to it."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, f"{path}.{key}")
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one, path)
    else:
        yield path, value


def of_type(aggregate: Any, kind: str) -> list[tuple[str, Any]]:
    found = [one for one in make.documents(aggregate).values() if one["type"] == kind]
    assert found, kind
    return [leaf for one in found for leaf in leaves(one)]


def test_documents_that_would_be_empty_are_absent() -> None:
    found = {one["type"] for one in make.documents(BARE).values()}
    tags = {str(kind.__struct_config__.tag) for kind in models.TYPES}
    assert found == tags - {"passbook"} - ABSENT_WHEN_EMPTY.keys() == {"client", "loan", "savings"}
    for kind in ABSENT_WHEN_EMPTY:
        assert f"no `{kind}` for" in TEXT["What is not there"]


NOTHING = make.amounts(total_overpaid=0, fees_adjustments=0, penalties_adjustments=0, principal_adjustments=0)
PLAIN = {
    "loan": make.of_loan(make.loan(**NOTHING)),
    "loan_schedule": make.of_loan(
        instalments=[make.instalment(is_additional=False, is_down_payment=False, **make.amounts(credits=0))]
    ),
    "loan_transactions": make.of_loan(transactions=[make.loan_transaction(is_adjusted=False)]),
    "savings": make.of_savings(make.savings(**make.amounts(lockin=0), lockin_unit=2)),
    "savings_transactions": make.of_savings(
        transactions=[make.savings_transaction(is_reversal=False, **make.amounts(overdraft=0))]
    ),
}
SPECIAL = {
    "loan": make.of_loan(make.loan(**make.amounts(total_overpaid=1, fees_adjustments=1, penalties_adjustments=1))),
    "loan_schedule": make.of_loan(
        instalments=[make.instalment(is_additional=True, is_down_payment=True, **make.amounts(credits=1))]
    ),
    "loan_transactions": make.of_loan(transactions=[make.loan_transaction(is_adjusted=True)]),
    "savings": make.of_savings(make.savings(**make.amounts(lockin=3), lockin_unit=2)),
    "savings_transactions": make.of_savings(
        transactions=[make.savings_transaction(is_reversal=True, **make.amounts(overdraft=1))]
    ),
}


@pytest.mark.parametrize("kind", sorted(ABSENT_WHEN_FALSE.keys() | ABSENT_WHEN_ZERO.keys()))
def test_what_is_absent_instead_of_false_or_nought(kind: str) -> None:
    names = {*ABSENT_WHEN_FALSE.get(kind, ()), *ABSENT_WHEN_ZERO.get(kind, ())}
    plain = {path for path, _ in of_type(PLAIN[kind], kind)}
    special = {path for path, _ in of_type(SPECIAL[kind], kind)}
    for name in names:
        assert not any(path.endswith(f".{name}") for path in plain), name
        assert any(path.endswith(f".{name}") for path in special), name
        assert f"`{name}` (`{kind}`)" in TEXT["What is not there"]
    # Nothing else comes and goes with it but the unit of what is absent.
    assert {path.rpartition(".")[2] for path in special - plain} <= {
        *(name.rpartition(".")[2] for name in names),
        "lock_in_unit",
    }


def test_other_truth_values_and_amounts_are_told_as_they_are() -> None:
    found = [leaf for kind in PLAIN for leaf in of_type(PLAIN[kind], kind)]
    assert any(value is False for _, value in found)
    assert any(value == "0.00" for _, value in found)
    assert not any(value is None or value == "" for _, value in found)


def test_no_overdraft_no_limit() -> None:
    limits = make.amounts(overdraft_limit=50, overdraft_rate=3)
    for allowed in (True, False):
        aggregate = make.of_savings(make.savings(allow_overdraft=allowed, **limits))
        names = {path.rpartition(".")[2] for path, _ in of_type(aggregate, "savings")}
        assert names & {"overdraft_limit", "overdraft_rate"} == (
            {"overdraft_limit", "overdraft_rate"} if allowed else set()
        )


@pytest.mark.parametrize("status", [100, 600, 700])
def test_a_client_who_is_not_active_is_not_in_the_manifest_either(status: int) -> None:
    aggregate = make.of_client(make.client(status=status))
    assert make.documents(aggregate) == {}
    batch = BatchProjection(Batch(datetime.now(UTC), aggregates=[aggregate]), make.context())
    assert batch.usable(make.CLIENT)
    assert batch.name(make.CLIENT) is None
    scope = Scope(frozenset({make.CLIENT}), frozenset(PERMISSIONS), frozenset(), None)
    holder = Holder("person-a", "customer", "database", 1, True, scope)
    told = Institution(time_zone="UTC", business_date=BusinessDate(rule="calendar"))
    body = manifests.build(holder, Contents(), told, datetime.now(UTC)).body
    assert b'"clients":[]' in body


def test_there_is_no_balance_after_what_was_undone() -> None:
    loan = make.of_loan(
        transactions=[
            make.loan_transaction(1),
            make.loan_transaction(2, is_reversed=True),
            make.loan_transaction(3, balance_after=None),
        ]
    )
    savings = make.of_savings(
        transactions=[
            make.savings_transaction(1),
            make.savings_transaction(2, is_reversed=True),
            make.savings_transaction(3, balance_after=None),
            make.savings_transaction(4, is_reversal=True),
        ]
    )
    for aggregate in (loan, savings):
        for page in make.documents(aggregate).values():
            for line in page.get("transactions", ()):
                assert ("balance_after" in line) == (line["id"] == 1)


def test_the_totals_of_a_loan_s_page_count_these_types() -> None:
    said = re.search(r"`disbursed` counts (.*?); .*?part,(.*?), less (.*?)\.", TEXT[TOTALS], re.DOTALL)
    assert said
    disbursed, repaid, returned = (set(re.findall(r"`(\w+)`", part)) for part in said.groups())
    for code, word in vocabulary.LOAN_TRANSACTION.words.items():
        if code in vocabulary.HIDDEN_LOAN_TRANSACTIONS:
            continue
        row = make.loan_transaction(
            type=code, **make.amounts(amount=7, principal=4, interest=1, fees=1, penalties=1)
        )
        totals = make.documents(make.of_loan(transactions=[row]))["loan:12:transactions:2026"]["totals"]
        sign = {**dict.fromkeys(repaid, ""), **dict.fromkeys(returned, "-")}.get(word)
        assert totals["disbursed"] == ("7.00" if word in disbursed else "0.00"), word
        assert totals["principal_repaid"] == ("0.00" if sign is None else f"{sign}4.00"), word
        assert totals["fees_repaid"] == ("0.00" if sign is None else f"{sign}1.00"), word
        undone = make.of_loan(transactions=[make.loan_transaction(type=code, is_reversed=True)])
        assert set(make.documents(undone)["loan:12:transactions:2026"]["totals"].values()) == {"0.00"}


def test_the_totals_of_an_account_s_page_go_by_effect() -> None:
    for code in vocabulary.SAVINGS_TRANSACTION.words:
        if code in vocabulary.HIDDEN_SAVINGS_TRANSACTIONS:
            continue
        for changes, counts in (({}, True), ({"is_reversal": True}, False), ({"is_reversed": True}, False)):
            row = make.savings_transaction(type=code, **changes)
            page = make.documents(make.of_savings(transactions=[row]))["savings:31:transactions:2026-01"]
            effect = page["transactions"][0]["effect"] if counts else "none"
            assert page["totals"]["credits"] == ("100.00" if effect == "credit" else "0.00"), code
            assert page["totals"]["debits"] == ("100.00" if effect == "debit" else "0.00"), code
    for word in ("hold", "release"):
        code = next(code for code, one in vocabulary.SAVINGS_TRANSACTION.words.items() if one == word)
        assert code not in vocabulary.SAVINGS_CREDITS | vocabulary.SAVINGS_DEBITS


def test_history_in_months_starts_on_the_first() -> None:
    def since(today: date, fixed: date | None = None) -> date | None:
        window = {"history_from": fixed, "history_months": 3}
        return scope_of(state="active", clients=[1], permissions=PERMISSIONS, today=today, **window).since  # type: ignore[arg-type]

    assert "with 3 months, on 24 November it starts on 1 August" in TEXT["History"]
    assert since(date(2026, 11, 24)) == since(date(2026, 11, 1)) == date(2026, 8, 1)
    assert since(date(2026, 12, 1)) == date(2026, 9, 1)
    assert since(date(2026, 11, 24), date(2026, 10, 5)) == date(2026, 10, 5)


def test_an_account_has_digits_of_its_own_and_a_client_s_charge_those_of_the_currency() -> None:
    loan = make.documents(make.of_loan(make.loan(currency_code="JPY", currency_digits=2)))["loan:12"]
    assert loan["currency"] == {"code": "JPY", "digits": 2, "symbol": "¥"}
    charge = make.client_charge(currency_code="JPY")
    page = make.documents(make.of_client(charges=[charge]))["client:7:charges"]
    assert page["charges"][0]["currency"] == {"code": "JPY", "digits": 0, "symbol": "¥"}
    nameless = make.context(currencies={"USD": CurrencyRow(code="USD", digits=2, symbol=None)})
    assert make.documents(make.of_loan(), using=nameless)["loan:12"]["currency"]["symbol"] == "USD"
