"""The real parts that tests share, and a word at the end on which of them were real.

PostgreSQL is always real (the embedded one). CouchDB is the one of PASSBOOK_TEST_COUCHDB_URL, else a container
where Docker runs, else the embedded server. MariaDB is the one of PASSBOOK_TEST_MARIADB_URL, else a container,
else the one installed on this machine, else skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from passbook.embedded import couchdb, postgres
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from sample_institution.institution import Institution, fill
from sample_institution.tables import create_schema
from tests.support import containers
from tests.support.databases import MariaDB, Postgres, mariadb, witnessed
from tests.support.roles import make_roles
from tests.support.stage import Stage

REAL_COUCHDB = os.environ.get("PASSBOOK_TEST_COUCHDB_URL", "")

#: What the parts turned out to be; filled by the fixtures.
PARTS = {
    "PostgreSQL": "not used",
    "CouchDB": "not used",
    "MariaDB": "not used",
    "PouchDB": "real, under Node",
    "browser": "not used yet",
}

# Settings of whoever runs the tests must not reach the product.
for variable in [
    name for name in os.environ if name.startswith("PASSBOOK_") and not name.startswith("PASSBOOK_TEST_")
]:
    del os.environ[variable]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("parts")
    for part, kind in PARTS.items():
        terminalreporter.line(f"{part}: {kind}")


@dataclass(frozen=True)
class Template:
    """A filled ledger to copy, and what is in it."""

    name: str
    institution: Institution


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose data directory holds the embedded servers of this run."""
    return Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path_factory.mktemp("shared"))})


@pytest.fixture(scope="session")
def pg(embedded: Settings) -> Iterator[Postgres]:
    """A real PostgreSQL."""
    with postgres.running(embedded) as address:
        PARTS["PostgreSQL"] = "real (embedded PostgreSQL 18)"
        server = Postgres(address.url("postgres"))
        yield server
        server.close()


@pytest.fixture(scope="session")
def couchdb_url(embedded: Settings) -> Iterator[str]:
    """A CouchDB, real if an address was given."""
    if REAL_COUCHDB:
        PARTS["CouchDB"] = "real (PASSBOOK_TEST_COUCHDB_URL)"
        yield REAL_COUCHDB
        return
    with containers.couchdb() as contained:
        if contained:
            PARTS["CouchDB"] = "real (container)"
            yield contained
            return
    with couchdb.running(embedded) as address:
        PARTS["CouchDB"] = "embedded CouchDB-speaking server"
        yield address.url


@pytest.fixture(scope="session")
def maria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A real MariaDB, or the test is skipped."""
    with mariadb(tmp_path_factory.mktemp("mariadb")) as server:
        PARTS["MariaDB"] = "real" if server else "skipped: none installed, no PASSBOOK_TEST_MARIADB_URL"
        if server is None:
            pytest.skip("needs MariaDB: PASSBOOK_TEST_MARIADB_URL, or Debian's mariadb-server")
        yield server


@pytest.fixture(scope="session")
def filled(pg: Postgres) -> Iterator[Template]:
    """A ledger with 80 clients, to be copied and never changed."""
    with pg.database() as url:
        engine = sa.create_engine(url)
        create_schema(engine)
        institution = fill(engine, clients=80, seed=1)
        engine.dispose()
        yield Template(url.split("/")[-1].split("?")[0], institution)


@pytest.fixture(scope="session")
def migrated(pg: Postgres) -> Iterator[str]:
    """Name of a service database as migrations make it, with a role for each process, to be copied."""
    with pg.database() as url:
        database = ServiceDatabase(url)
        database.migrate()
        make_roles(database)
        database.dispose()
        yield url.split("/")[-1].split("?")[0]


@pytest.fixture
def service_url(pg: Postgres, migrated: str) -> Iterator[str]:
    """A service database with nobody in it, on which processes start."""
    with pg.database(migrated) as url:
        witnessed(url)
        yield url


@pytest.fixture
def ledger_url(pg: Postgres, filled: Template) -> Iterator[str]:
    """A filled ledger of this test's own."""
    with pg.database(filled.name) as url:
        yield url


@pytest.fixture
def stage(ledger_url: str, service_url: str, couchdb_url: str, filled: Template, tmp_path: Path) -> Iterator[Stage]:
    """A ledger, a service database, a CouchDB, and a worker between them."""
    one = Stage(ledger_url, service_url, couchdb_url, filled.institution, tmp_path)
    yield one
    one.close()
