"""The documents of a whole institution keep what they promise, as it is and after whatever its people do."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from passbook.errors import Refused
from projections.documents import TYPES
from projections.project import project
from projections.rows import ClientAggregate
from sample_institution.institution import Institution
from tests.conftest import Template
from tests.ledger.reading import everything
from tests.projections.conftest import Read
from tests.projections.promises import broken
from tests.sample_institution.test_moves import STEPS, take
from tests.support.databases import Postgres


def test_the_filled_ledger_has_something_of_everything(shown_documents: dict[str, dict[str, Any]]) -> None:
    """Or the tests below would prove little."""
    kinds = Counter(document["type"] for document in shown_documents.values())
    assert kinds.keys() == {str(kind.__struct_config__.tag) for kind in TYPES} - {"passbook", "client_image"}
    assert min(kinds.values()) > 5
    by_type = {kind: [one for one in shown_documents.values() if one["type"] == kind] for kind in kinds}
    assert {loan["status"] for loan in by_type["loan"]} >= {
        "approved",
        "active",
        "repaid",
        "written_off",
        "overpaid",
    }
    assert {one["kind"] for one in by_type["savings"]} >= {"savings", "fixed_deposit", "recurring_deposit"}
    assert {one["currency"]["digits"] for one in by_type["loan"] + by_type["savings"]} >= {0, 2}
    assert any(len(one["disbursements"]) > 1 for one in by_type["loan_schedule"])
    assert any(Decimal(one["totals"]["fees_at_disbursement"]) for one in by_type["loan_schedule"])
    assert any("instalments" in line for one in by_type["loan_charges"] for line in one["charges"])
    movements = {line["type"] for one in by_type["savings_transactions"] for line in one["transactions"]}
    assert movements >= {"deposit", "withdrawal", "interest", "hold", "withholding_tax", "charge_payment"}
    assert any(line["reversed"] for one in by_type["loan_transactions"] for line in one["transactions"])


def test_all_documents_keep_their_promises(shown_documents: dict[str, dict[str, Any]]) -> None:
    assert broken(shown_documents) == []


def test_no_code_of_the_core_is_unknown(told: Read) -> None:
    aggregates, context = told
    context.unknown.clear()
    for aggregate in aggregates:
        project(aggregate, None, context)
    assert context.unknown == set()


def test_every_active_client_has_documents_and_nobody_else(told: Read, filled: Template) -> None:
    aggregates, context = told
    for aggregate in aggregates:
        number = aggregate.client.id
        found = project(aggregate, None, context)
        assert bool(found) == (aggregate.client.status in (300, 303, 304))
        assert found or number in filled.institution.inactive_clients
        for document in found:
            body = json.loads(document.body)
            assert body["client_id"] == document.client_id == number
            assert (body["type"], body["schema"]) == (document.type, 1)
            assert document.id.startswith(f"{body['type'].split('_')[0]}:")
            for account in ("loan", "savings"):
                if document.id.startswith(account):
                    assert document.id.split(":")[1] == str(body[f"{account}_id"])


@pytest.fixture(scope="module")
def moving(pg: Postgres, filled: Template) -> Any:
    """A ledger in which things happen."""
    with pg.database(filled.name) as url:
        engine = sa.create_engine(url)
        yield url, engine
        engine.dispose()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_promises_are_kept_after_any_moves(
    moving: tuple[str, sa.Engine], filled: Template, steps: list[tuple[str, int, Decimal, int]]
) -> None:
    url, engine = moving
    for kind, pick, amount, days in steps:
        with suppress(Refused):
            take(engine, kind, pick, amount, days, filled.institution)
    assert broken(documents_of(url, filled.institution)) == []


def documents_of(url: str, institution: Institution) -> dict[str, dict[str, Any]]:
    aggregates, context = everything(url, institution)
    found = [one for aggregate in aggregates for one in project(aggregate, None, context)]
    return {one.id: json.loads(one.body) for one in found}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda row: setattr(row.loans[0].instalments[0], "principal_paid", Decimal(1)), "schedule principal.paid"),
        (lambda row: setattr(row.loans[0].transactions[-1], "balance_after", Decimal(1)), "expected"),
        (lambda row: setattr(row.savings[0].transactions[0], "amount", Decimal(1)), "pages make"),
    ],
)
def test_a_promise_that_is_broken_is_noticed(told: Read, spoil: Any, said: str) -> None:
    """The checks above can fail."""
    import copy

    aggregates, context = told
    aggregate: ClientAggregate = copy.deepcopy(aggregates[0])
    spoil(aggregate)
    found = {one.id: json.loads(one.body) for one in project(aggregate, None, context)}
    assert any(said in problem for problem in broken(found))
