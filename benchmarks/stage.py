"""The stage of every benchmark: a sample ledger, people, a CouchDB, and a worker, all of their own."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from sqlalchemy import create_engine, insert

from passbook.context import Outside, service_database
from passbook.credentials import new_id
from passbook.embedded import couchdb as embedded_couchdb
from passbook.embedded import postgres
from passbook.scope import PERMISSIONS
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person, person_client
from passbook.settings import Settings
from sample_institution.institution import Institution, fill
from sample_institution.tables import create_schema


@dataclass
class Stage:
    """What a benchmark plays on."""

    outside: Outside
    database: ServiceDatabase
    institution: Institution
    couchdb: str
    server: psutil.Process | None


@contextmanager
def stage(clients: int, **settings: Any) -> Iterator[Stage]:
    """A ledger of `clients` clients in a scratch directory; PASSBOOK_TEST_COUCHDB_URL or the embedded server."""
    address = os.environ.get("PASSBOOK_TEST_COUCHDB_URL", "")
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(TemporaryDirectory(prefix="passbook-bench-", ignore_cleanup_errors=True))
        )
        base = replace(
            Settings.load({}), data_dir=directory, ledger_clients_per_second=0.0, couchdb_url=address, **settings
        )
        addresses = stack.enter_context(postgres.running(base))
        couchdb = address or stack.enter_context(embedded_couchdb.running(base)).url
        outside = Outside(base, addresses.url("passbook"), couchdb, addresses.url("ledger"))
        database = stack.enter_context(service_database(outside))
        engine = create_engine(outside.ledger_url)
        create_schema(engine)
        started = time.monotonic()
        institution = fill(engine, clients=clients, seed=7)
        print(f"sample ledger: {clients} clients in {time.monotonic() - started:.1f} s")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        engine.dispose()
        yield Stage(outside, database, institution, "CouchDB" if address else "embedded server", _server(couchdb))


def add_people(database: ServiceDatabase, clients: Sequence[Sequence[int]], kind: str = "customer") -> list[str]:
    """One person for each set of clients. Password hashing is not what is measured, so there is none."""
    rows = [
        {
            "id": new_id("person"),
            "username": new_id("user"),
            "kind": kind,
            "password_hash": "-",
            "permissions": list(PERMISSIONS),
            "database_name": new_id("passbook"),
        }
        for _ in clients
    ]
    links = [
        {"person_id": row["id"], "client_id": client}
        for row, mine in zip(rows, clients, strict=True)
        for client in mine
    ]
    with database.begin() as connection:
        connection.execute(insert(person), rows)
        connection.execute(insert(person_client), links)
    return [str(row["id"]) for row in rows]


def cpu_seconds(process: psutil.Process | None = None) -> float:
    """CPU seconds used so far by `process`, or by this process."""
    if process is None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime
    times = process.cpu_times()
    return float(times.user + times.system)


def _server(address: str) -> psutil.Process | None:
    port = int(address.rsplit(":", 1)[1].split("/")[0])
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid)
    return None
