"""Everything a worker needs, for one test: with the handles to change the ledger and look at the copies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from auth_service import granting
from passbook.context import Outside
from passbook.couch import CouchClient
from passbook.progress import Reporter, Silent
from passbook.scope import PERMISSIONS
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from sample_institution.institution import Institution
from sync_worker.commands.session import worker
from sync_worker.cycle import Summary, Worker
from sync_worker.verifying import Report
from tests.support.actors import TESTER
from tests.support.roles import as_process

#: Seconds that small databases have for their compaction.
SETTLED_WITHIN = 60.0


class Stage:
    """A play with a ledger, a service database and a CouchDB."""

    def __init__(
        self, ledger_url: str, service_url: str, couchdb_url: str, institution: Institution, directory: Path
    ) -> None:
        settings = Settings.load(
            {
                "PASSBOOK_LEDGER_URL": _plain(ledger_url),
                "PASSBOOK_SERVICE_DB_URL": _plain(service_url),
                "PASSBOOK_COUCHDB_URL": couchdb_url,
                "PASSBOOK_DATA_DIR": str(directory / "data"),
                "PASSBOOK_LEDGER_CLIENTS_PER_SECOND": "0",
                "PASSBOOK_LEDGER_BATCH": "7",
            }
        )
        self.outside = Outside(settings, _plain(service_url), couchdb_url, _plain(ledger_url))
        self.database = ServiceDatabase(service_url)
        self._workers = ServiceDatabase(as_process(service_url, "worker"))
        self.ledger = sa.create_engine(ledger_url)
        self.institution = institution
        self.failed: list[Any] = []

    @property
    def environment(self) -> dict[str, str]:
        """Settings for a `passbook` process on this stage."""
        return {
            "PASSBOOK_LEDGER_URL": self.outside.ledger_url,
            "PASSBOOK_SERVICE_DB_URL": self.outside.service_url,
            "PASSBOOK_COUCHDB_URL": self.outside.couchdb_url,
            "PASSBOOK_DATA_DIR": str(self.outside.settings.data_dir),
        }

    def set(self, **settings: Any) -> None:
        """Change settings."""
        self.outside = replace(self.outside, settings=replace(self.outside.settings, **settings))

    def add(self, username: str, clients: Collection[int], permissions: Sequence[str] = PERMISSIONS) -> str:
        """A person; their id. Hashing a password is not what is tested here, so there is none."""
        kind = "customer" if len(clients) < 2 else "agent"
        with self.database.begin() as connection:
            row = {
                "id": f"person-{username}",
                "username": username,
                "kind": kind,
                "password_hash": "-",
                "permissions": list(permissions),
                "database_name": f"passbook-test-{self.database.url.database}-{username}".replace("_", "-"),
            }
            connection.execute(sa.insert(tables.person), row)
            if clients:
                granting.link(connection, TESTER, username, clients)
        return str(row["id"])

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """One that may do in the service database what `passbook worker` may, and no more."""
        async with worker(self.outside, self._workers) as one:
            yield one

    async def run(self, reporter: Reporter | None = None) -> Summary:
        """One pass by a new worker, as `passbook worker once` does it."""
        async with self.worker() as one:
            summary = await one.run_pass(reporter or Silent())
            await one.withdrawals.settle(SETTLED_WITHIN)
            self.failed = one.failed
            return summary

    async def settle(self) -> None:
        """Wait until old bodies of what was taken away are gone."""
        async with self.worker() as one:
            await one.withdrawals.settle(SETTLED_WITHIN)

    async def verify(self, *, repair: bool = False, only: str | None = None) -> Report:
        async with self.worker() as one:
            return await one.verifier().verify(Silent(), repair=repair, only=only)

    def database_of(self, username: str) -> str:
        with self.database.begin() as connection:
            query = sa.select(tables.person.c.database_name).where(tables.person.c.username == username)
            return str(connection.execute(query).scalar_one())

    def person_of(self, username: str) -> str:
        """The id of a person."""
        with self.database.begin() as connection:
            query = sa.select(tables.person.c.id).where(tables.person.c.username == username)
            return str(connection.execute(query).scalar_one())

    async def copies(self, username: str) -> dict[str, dict[str, Any]]:
        """All documents in a person's database, by id."""
        async with CouchClient(self.outside.couchdb_url, connections=4) as couch:
            leaves = await couch.all_leaves(self.database_of(username), None, 100_000)
        return {leaf.id: leaf.body or {} for leaf in leaves}

    async def revisions(self, username: str) -> dict[str, str]:
        return {key: document["_rev"] for key, document in (await self.copies(username)).items()}

    @contextlib.asynccontextmanager
    async def couch(self) -> AsyncIterator[CouchClient]:
        async with CouchClient(self.outside.couchdb_url, connections=4) as couch:
            yield couch

    def change(self, statement: str, **values: Any) -> None:
        """Run a statement on the ledger."""
        with self.ledger.begin() as connection:
            connection.execute(sa.text(statement), values)

    def ask(self, statement: str, **values: Any) -> Any:
        """One value from the ledger."""
        with self.ledger.begin() as connection:
            return connection.execute(sa.text(statement), values).scalar()

    def close(self) -> None:
        with contextlib.suppress(Exception), self.database.begin() as connection:
            names = list(connection.execute(sa.select(tables.person.c.database_name)).scalars())

            async def clean() -> None:
                async with self.couch() as couch:
                    for name in names:
                        await couch.delete_database(name)

            asyncio.run(clean())
        self.database.dispose()
        self._workers.dispose()
        self.ledger.dispose()


def _plain(url: str) -> str:
    """As an operator writes it."""
    return url.replace("postgresql+psycopg://", "postgresql://").replace("mysql+pymysql://", "mysql://")
