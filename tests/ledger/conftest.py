"""Filled ledgers on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
import sqlalchemy as sa

from sample_institution.institution import Institution, fill
from sample_institution.tables import create_schema
from tests.conftest import Template
from tests.support.databases import MariaDB, Postgres

ENGINES = ("postgresql", "mariadb")


@dataclass(frozen=True)
class Ledger:
    """A filled ledger."""

    url: str
    institution: Institution
    engine: sa.Engine

    @property
    def clients(self) -> list[int]:
        return sorted((*self.institution.active_clients, *self.institution.inactive_clients))

    def change(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)


def _opened(url: str, institution: Institution) -> Iterator[Ledger]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    yield Ledger(url, institution, engine)
    engine.dispose()


@pytest.fixture
def on_postgresql(ledger_url: str, filled: Template) -> Iterator[Ledger]:
    """80 clients on PostgreSQL, this test's own."""
    yield from _opened(ledger_url, filled.institution)


@pytest.fixture(scope="session")
def on_mariadb(maria: MariaDB) -> Iterator[Ledger]:
    """The same 80 clients on MariaDB, never to be changed."""
    with maria.database() as url:
        yield from _filled(url, 80)


@pytest.fixture
def own_mariadb(maria: MariaDB) -> Iterator[Ledger]:
    """20 clients on MariaDB, this test's own."""
    with maria.database() as url:
        yield from _filled(url, 20)


@pytest.fixture
def closed_mariadb(maria: MariaDB) -> Iterator[Ledger]:
    """20 clients on MariaDB under a name that nobody has rights on: a fresh server opens `test_…` to everybody."""
    name = f"ledger_{uuid4().hex}"
    with maria.database() as url:
        root = sa.create_engine(url, poolclass=sa.NullPool)
        with root.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        yield from _filled(root.url.set(database=name).render_as_string(hide_password=False), 20)
        with root.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
        root.dispose()


def _filled(url: str, clients: int) -> Iterator[Ledger]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    create_schema(engine)
    yield from _opened(url, fill(engine, clients=clients, seed=1))


@pytest.fixture(params=ENGINES)
def either(request: pytest.FixtureRequest) -> Ledger:
    """A filled ledger on each engine, only to be read."""
    name = "on_postgresql" if request.param == "postgresql" else "on_mariadb"
    ledger: Ledger = request.getfixturevalue(name)
    return ledger


@pytest.fixture(params=ENGINES)
def own(request: pytest.FixtureRequest) -> Ledger:
    """A filled ledger on each engine, to be changed."""
    name = "on_postgresql" if request.param == "postgresql" else "own_mariadb"
    ledger: Ledger = request.getfixturevalue(name)
    return ledger


@pytest.fixture(params=ENGINES)
def empty(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with nothing in it, on each engine."""
    server: Postgres | MariaDB = request.getfixturevalue("pg" if request.param == "postgresql" else "maria")
    with server.database() as url:
        yield url
