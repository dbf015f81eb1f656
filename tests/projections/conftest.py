"""The filled ledger as documents, read once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from projections.context import Context
from projections.project import Projected, project
from projections.rows import ClientAggregate
from tests.conftest import Template
from tests.ledger.reading import everything
from tests.support.databases import Postgres

Read = tuple[list[ClientAggregate], Context]


@pytest.fixture(scope="session")
def told(pg: Postgres, filled: Template) -> Read:
    """All clients of the filled ledger, active or not."""
    return everything(pg.url(filled.name), filled.institution)


@pytest.fixture(scope="session")
def shown(told: Read) -> list[Projected]:
    """All documents of the filled ledger."""
    aggregates, context = told
    return [one for aggregate in aggregates for one in project(aggregate, None, context)]


@pytest.fixture(scope="session")
def shown_documents(shown: list[Projected]) -> dict[str, dict[str, Any]]:
    return {one.id: json.loads(one.body) for one in shown}
