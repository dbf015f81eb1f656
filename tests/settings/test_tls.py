"""TLS towards PostgreSQL, MariaDB and CouchDB: the right authority is taken, and a wrong one is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from passbook.database import database_url, speaking_to, sql_engine
from passbook.errors import Refused
from passbook.read_only import read_only_engine
from passbook.servicedb.engine import ServiceDatabase
from tests.auth.running import clean
from tests.support.databases import Postgres, mariadb
from tests.support.tls import Authority, authority, in_front_of


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("strange"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Of a server that goes by another name."""
    return authority(tmp_path_factory.mktemp("elsewhere"), "another.example")


def socket_of(pg: Postgres) -> str:
    url = database_url(pg.url("postgres"))
    return str(Path(str(url.query["host"]), ".s.PGSQL.5432"))


def test_postgresql_is_verified_to_the_full(
    pg: Postgres, ours: Authority, strange: Authority, elsewhere: Authority, tmp_path: Path
) -> None:
    def asked(port: int, root: Path | str, mode: str = "verify-full") -> None:
        database = ServiceDatabase(
            f"postgresql://postgres@localhost:{port}/postgres?sslmode={mode}&sslrootcert={root}", connections=1
        )
        try:
            with database.begin() as connection:
                assert connection.scalar(sa.text("SELECT 1")) == 1
        finally:
            database.dispose()

    with in_front_of(socket_of(pg), ours.context, postgresql=True) as port:
        asked(port, ours.certificate)
        with pytest.raises(Refused, match="TLS that can be trusted: certificate verify failed") as refused:
            asked(port, strange.certificate)
        assert "PASSBOOK_SERVICE_DB_URL" in refused.value.remedy
        with pytest.raises(Refused, match=r"TLS that can be trusted: .*root certificate file .*missing"):
            asked(port, tmp_path / "missing.pem")
    with in_front_of(socket_of(pg), elsewhere.context, postgresql=True) as port:
        with pytest.raises(Refused, match=r"TLS that can be trusted: .*does not match host name"):
            asked(port, elsewhere.certificate)
        asked(port, elsewhere.certificate, "verify-ca")


@pytest.fixture(scope="module")
def secure_mariadb(tmp_path_factory: pytest.TempPathFactory, ours: Authority) -> Iterator[int]:
    """The port of a MariaDB that speaks TLS itself."""
    if os.environ.get("PASSBOOK_TEST_MARIADB_URL"):
        pytest.skip("needs a MariaDB of this machine, to give it a certificate")
    ours.key.chmod(0o644)
    options = [f"--ssl-cert={ours.server}", f"--ssl-key={ours.key}", f"--ssl-ca={ours.certificate}"]
    with mariadb(tmp_path_factory.mktemp("maria"), tls=options) as server:
        if server is None or server.port is None:
            pytest.skip("no MariaDB on this machine")
        yield server.port


def test_mariadb_is_verified_to_the_full(secure_mariadb: int, ours: Authority, strange: Authority) -> None:
    def asked(host: str, options: str) -> str:
        url = database_url(f"mysql://root@{host}:{secure_mariadb}/?{options}")
        engine = read_only_engine(url, statement_seconds=5, connect_seconds=5)
        try:
            with speaking_to("ledger", url, "PASSBOOK_LEDGER_URL"), engine.connect() as connection:
                return str(connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").one()[1])
        finally:
            engine.dispose()

    assert asked("localhost", f"ssl_ca={ours.certificate}")
    with pytest.raises(Refused, match="TLS that can be trusted: certificate verify failed") as refused:
        asked("localhost", f"ssl_ca={strange.certificate}")
    assert "PASSBOOK_LEDGER_URL" in refused.value.remedy
    with pytest.raises(Refused, match=r"TLS that can be trusted: .*IP address mismatch"):
        asked("127.0.0.1", f"ssl_ca={ours.certificate}")
    with pytest.raises(Refused, match="ssl_ca in the address of a database names no file"):
        asked("localhost", "ssl_ca=/nowhere/ca.pem")
    with pytest.raises(Refused, match="TLS that can be trusted"):
        asked("localhost", f"ssl_ca={ours.key}")


def test_a_server_without_tls_is_not_spoken_to_in_clear() -> None:
    engine = sql_engine(url := database_url(f"postgresql://127.0.0.1:{refusing_tls()}/x?sslmode=require"))
    with pytest.raises(Refused, match="does not support SSL"), speaking_to("ledger", url, "PASSBOOK_LEDGER_URL"):
        engine.connect()
    engine.dispose()


def refusing_tls() -> int:
    """The port of a PostgreSQL that says it has no TLS, to one client."""
    import socket
    import threading

    listening = socket.create_server(("127.0.0.1", 0))

    def once() -> None:
        with listening, listening.accept()[0] as taken:
            taken.recv(8)
            taken.sendall(b"N")
            taken.recv(1)

    threading.Thread(target=once, daemon=True).start()
    return int(listening.getsockname()[1])


def test_couchdb_is_verified_to_the_full(
    couchdb_url: str, service_url: str, ours: Authority, strange: Authority, tmp_path: Path
) -> None:
    """By the commands, as an operator runs them; OpenSSL's own variable names the authority."""
    parts = urlsplit(couchdb_url)
    environment = {
        "PASSBOOK_SERVICE_DB_URL": service_url.replace("+psycopg", ""),
        "PASSBOOK_LEDGER_URL": "postgresql://127.0.0.1:9/nothing",
        "PASSBOOK_COUCHDB_USER": str(parts.username),
        "PASSBOOK_COUCHDB_PASSWORD": str(parts.password),
        "PASSBOOK_DATA_DIR": str(tmp_path),
    }

    def init(url: str, trusted: Path | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "passbook", "init", "--json"],
            env=clean({**environment, "PASSBOOK_COUCHDB_URL": url})
            | ({"SSL_CERT_FILE": str(trusted)} if trusted else {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert parts.hostname
    assert parts.port
    with in_front_of((parts.hostname, parts.port), ours.context) as port:
        done = init(f"https://localhost:{port}", ours.certificate)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
        for url, trusted, cause in (
            (f"https://localhost:{port}", None, "certificate verify failed"),
            (f"https://localhost:{port}", strange.certificate, "certificate verify failed"),
            (f"https://127.0.0.1:{port}", ours.certificate, "IP address mismatch"),
        ):
            done = init(url, trusted)
            assert done.returncode == 2, done.stderr
            assert f"CouchDB at {url} has no TLS that can be trusted: " in done.stderr
            assert cause in done.stderr
            assert "SSL_CERT_FILE" in done.stderr
            assert "Traceback" not in done.stderr
