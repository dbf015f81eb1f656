"""Fresh databases for tests: PostgreSQL copies a template in a moment, MariaDB is filled anew."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from passbook.database import database_url
from passbook.servicedb.engine import ServiceDatabase
from passbook.witness import note
from tests.support import containers
from tests.support.own_couchdb import free_port


class Postgres:
    """A PostgreSQL server on which tests make databases of their own."""

    def __init__(self, url: str) -> None:
        self._url = database_url(url)
        self._admin = sa.create_engine(self._url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def url(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    @contextlib.contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """The URL of a new database, a copy of `template` if given; it goes when the test is over."""
        name = f"test_{uuid4().hex}"
        copy = f' TEMPLATE "{template}"' if template else ""
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"{copy}')
        yield self.url(name)
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    def copy(self, source: str, name: str) -> None:
        """Make `name` a copy of the database `source`, whoever is connected to either, and whatever `name` was."""
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            # A template must have no connections; whoever comes back at once is sent away again.
            connection.exec_driver_sql(f'ALTER DATABASE "{source}" ALLOW_CONNECTIONS false')
            connection.exec_driver_sql(
                f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{source}'"
            )
            connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
            connection.exec_driver_sql(f'ALTER DATABASE "{source}" ALLOW_CONNECTIONS true')

    def drop(self, name: str) -> None:
        """Remove a database, if it is there."""
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        self._admin.dispose()


def witnessed(url: str) -> None:
    """Let processes start on this service database for the next hour, as if somebody had compared it."""
    database = ServiceDatabase(url, connections=1)
    with database.begin() as connection:
        note.write(connection, None)
        connection.execute(sa.text("UPDATE witnessed SET compared_at = now() + interval '1 hour'"))
    database.dispose()


class MariaDB:
    """A MariaDB server on which tests make databases of their own. `port` is there if it speaks TLS."""

    def __init__(self, url: str, port: int | None = None) -> None:
        self.port = port
        self._url = database_url(url)
        self._admin = sa.create_engine(self._url.set(database=None), isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        name = f"test_{uuid4().hex}"
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        yield self._url.set(database=name).render_as_string(hide_password=False)
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE `{name}`")

    def close(self) -> None:
        self._admin.dispose()


@contextlib.contextmanager
def mariadb(directory: Path, tls: Sequence[str] = ()) -> Iterator[MariaDB | None]:
    """The MariaDB of PASSBOOK_TEST_MARIADB_URL, a container, one of this machine's packages, or None.

    With `tls`, its options for that, it is one of this machine's packages, and listens on a port too.
    """
    with contextlib.ExitStack() as stack:
        address = "" if tls else os.environ.get("PASSBOOK_TEST_MARIADB_URL", "")
        address = address or ("" if tls else stack.enter_context(containers.mariadb()))
        if address:
            server = MariaDB(address)
            yield server
            server.close()
            return
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    installer = shutil.which("mariadb-install-db")
    if program is None or installer is None:
        yield None
        return
    data, socket = directory / "data", directory / "socket"
    user = ["--user=root"] if os.getuid() == 0 else []
    subprocess.run(
        [
            installer,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *user,
        ],
        check=True,
        capture_output=True,
    )
    port = free_port() if tls else None
    network = ["--skip-networking"] if port is None else [f"--port={port}", "--bind-address=127.0.0.1", *tls]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--no-defaults", f"--datadir={data}", f"--socket={socket}", *network, *user],
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + 60
        while not socket.exists():
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < end, "MariaDB does not start"
            time.sleep(0.05)
        server = MariaDB(f"mysql://root@localhost/?unix_socket={socket}", port)
        yield server
        server.close()
    finally:
        process.terminate()
        process.wait(30)
