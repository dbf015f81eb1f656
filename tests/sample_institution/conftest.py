"""Ledgers to fill: a database of its own per module on one embedded PostgreSQL, and on MariaDB if it is there."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from passbook.embedded import postgres
from passbook.settings import Settings

MakeEngine = Callable[[], Engine]
_numbers = count(1)


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """The maintenance database of a PostgreSQL."""
    directory = tmp_path_factory.mktemp("sample-ledger")
    with postgres.running(Settings.load({"PASSBOOK_DATA_DIR": str(directory)})) as address:
        yield make_url(address.url("postgres"))


@pytest.fixture(scope="session")
def mariadb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A MariaDB on a socket; tests that need one are skipped where it is not installed."""
    daemon, installer = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if daemon is None or installer is None:
        pytest.skip("MariaDB is not installed")
    directory = tmp_path_factory.mktemp("mariadb")
    data, socket = directory / "data", directory / "s"
    options = [f"--datadir={data}", "--user=root"]
    subprocess.run(
        [installer, *options, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    server = subprocess.Popen(
        [daemon, "--no-defaults", *options, f"--socket={socket}", "--skip-networking"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = URL.create(
        "mysql+pymysql", "root", database="mysql", query={"unix_socket": str(socket), "charset": "utf8mb4"}
    )
    try:
        _wait_for(url, socket)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(url: URL, socket: Path) -> None:
    engine = create_engine(url)
    for _ in range(300):
        try:
            if socket.exists():
                with engine.connect():
                    engine.dispose()
                    return
        except OperationalError:
            pass
        time.sleep(0.1)
    raise TimeoutError("MariaDB does not answer")


@pytest.fixture(scope="session")
def new_postgresql(postgresql_url: URL) -> Iterator[MakeEngine]:
    """Makes empty PostgreSQL databases."""
    yield from _maker(postgresql_url, "CREATE DATABASE {}")


@pytest.fixture(scope="session")
def new_mariadb(mariadb_url: URL) -> Iterator[MakeEngine]:
    """Makes empty MariaDB databases."""
    yield from _maker(mariadb_url, "CREATE DATABASE {} CHARACTER SET utf8mb4")


def _maker(url: URL, statement: str) -> Iterator[MakeEngine]:
    engines: list[Engine] = []

    def make() -> Engine:
        name = f"sample_{next(_numbers)}"
        admin = create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(statement.format(name)))
        admin.dispose()
        engines.append(create_engine(url.set(database=name)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()
