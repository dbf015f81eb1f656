"""Reading a ledger the way the worker does, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from projections.context import Context
from projections.project import Projected, project
from projections.rows import ClientAggregate
from sample_institution.institution import Institution
from sync_worker.ledger.connection import LedgerConnection
from sync_worker.ledger.pictures import Pictures
from sync_worker.ledger.reader import Batch, LedgerReader
from sync_worker.ledger.statements import Schema

NO_PICTURES = Pictures(None, 0)


class Doctored(LedgerReader):
    """A reader that believes what `doctor` makes of the ledger's columns."""

    doctor: Callable[[dict[str, dict[str, str]]], None] | None = None

    def _schema(self, connection: Connection) -> Schema:
        schema = {table: dict(columns) for table, columns in super()._schema(connection).items()}
        if self.doctor:
            self.doctor(schema)
        return schema


@contextlib.contextmanager
def ledger(url: str, *, statement_seconds: float = 60, connect_seconds: float = 5) -> Iterator[LedgerConnection]:
    connection = LedgerConnection(url, statement_seconds=statement_seconds, connect_seconds=connect_seconds)
    try:
        yield connection
    finally:
        connection.dispose()


@contextlib.contextmanager
def reader(
    url: str,
    *,
    without: Sequence[tuple[str, str]] = (),
    pictures: Path | None = None,
    statement_seconds: float = 60,
) -> Iterator[LedgerReader]:
    """A reader of the ledger at `url`, `without` some columns as if the ledger did not have them."""

    def forget(schema: dict[str, dict[str, str]]) -> None:
        for table, column in without:
            del schema[table][column]

    with ledger(url, statement_seconds=statement_seconds) as connection:
        one = Doctored(connection, Pictures(pictures, 1_000_000) if pictures else NO_PICTURES)
        one.doctor = forget
        yield one


def context_of(one: LedgerReader) -> Context:
    lookups = one.lookups()
    return Context(lookups.currencies, lookups.rounding)


def everybody(institution: Institution) -> list[int]:
    return sorted((*institution.active_clients, *institution.inactive_clients))


def everything(url: str, institution: Institution) -> tuple[list[ClientAggregate], Context]:
    """All clients of the institution, and what is needed to project them."""
    with reader(url) as one:
        batch = one.read(everybody(institution))
        assert (batch.failures, batch.absent) == ([], [])
        return batch.aggregates, context_of(one)


def projected(batch: Batch, context: Context) -> dict[str, Projected]:
    """All documents of a batch, by id."""
    found = [one for aggregate in batch.aggregates for one in project(aggregate, None, context)]
    assert len({one.id for one in found}) == len(found), "two documents have the same id"
    return {one.id: one for one in found}


def bodies(url: str, clients: Sequence[int], **options: Any) -> dict[str, bytes]:
    """The documents of these clients, by id, as they would be sent."""
    with reader(url, **options) as one:
        batch = one.read(clients)
        assert batch.failures == []
        return {key: document.body for key, document in projected(batch, context_of(one)).items()}
