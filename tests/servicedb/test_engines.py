"""T26: what a statement was given is in no error and no log, whoever made the engine."""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from passbook.database import database_url
from passbook.read_only import read_only_engine
from passbook.servicedb.engine import ServiceDatabase
from sample_institution import commands as sample
from sync_gateway.checkpoints import Checkpoints
from sync_gateway.credentials import DatabaseCredentials, service_engine
from sync_worker.ledger.connection import LedgerConnection

ROOT = Path(__file__).parents[2]
CANARY = "quixotic umbrella 4711"
FAILING = sa.text("SELECT CAST(:canary AS char(99)) FROM no_such_table")


@contextmanager
def _sample(url: str) -> Iterator[sa.Engine]:
    with sample._ledger(url) as engine:
        yield engine


@contextmanager
def _service(url: str) -> Iterator[sa.Engine]:
    database = ServiceDatabase(url)
    yield database.engine
    database.dispose()


@contextmanager
def _read_only(url: str) -> Iterator[sa.Engine]:
    engine = read_only_engine(database_url(url), statement_seconds=5, connect_seconds=5)
    yield engine
    engine.dispose()


@contextmanager
def _ledger(url: str) -> Iterator[sa.Engine]:
    connection = LedgerConnection(url, statement_seconds=5, connect_seconds=5)
    yield connection.engine
    connection.dispose()


ENGINES = {"service database": _service, "read only": _read_only, "ledger": _ledger, "sample ledger": _sample}

ASYNC_ENGINES: dict[str, Callable[[str], AsyncEngine]] = {
    "devices": lambda url: DatabaseCredentials.at(url)._engine,
    "checkpoints": lambda url: Checkpoints.at(url)._engine,
    "gateway": lambda url: service_engine(url, 1),
}


def _told(error: BaseException, logged: pytest.LogCaptureFixture) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + logged.text


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_T26_no_error_and_no_log_repeats_a_parameter(
    service_url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    with (
        ENGINES[name](service_url) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="no_such_table") as failed,
    ):
        connection.execute(FAILING, {"canary": CANARY})
    assert "no_such_table" in caplog.text, "statements are logged at this level"
    assert CANARY not in _told(failed.value, caplog)


@pytest.mark.parametrize("name", sorted(ASYNC_ENGINES))
def test_T26_no_error_and_no_log_of_the_gateway_repeats_a_parameter(
    service_url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.engine")

    async def work() -> None:
        engine = ASYNC_ENGINES[name](service_url)
        try:
            async with engine.connect() as connection:
                await connection.execute(FAILING, {"canary": CANARY})
        finally:
            await engine.dispose()

    with pytest.raises(DBAPIError, match="no_such_table") as failed:
        asyncio.run(work())
    assert "no_such_table" in caplog.text
    assert CANARY not in _told(failed.value, caplog)


def test_T26_engines_are_made_in_one_place() -> None:
    folders = ("passbook", "sync_worker", "sync_gateway", "auth_service", "sample_institution")
    made = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bcreate_(?:async_)?engine\b|engine_from_config", path.read_text())
    ]
    assert made == ["passbook/database.py"], "use passbook.database.sql_engine: it keeps parameters out of errors"
