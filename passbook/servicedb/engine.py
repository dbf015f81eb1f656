"""Connections to the service database, and its migrations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from passbook.audit.chain import PENDING, Head, Pending, head
from passbook.database import database_url, speaking_to, sql_engine
from passbook.errors import Refused
from passbook.servicedb.memory import Memory

P = ParamSpec("P")
T = TypeVar("T")

_MIGRATIONS = Path(__file__).parent / "migrations"
#: Key of the advisory lock under which migrations run: two starting processes must not both migrate.
_MIGRATION_LOCK = 0x70617373


class ServiceDatabase:
    """The service database. `begin()` is one transaction."""

    def __init__(self, address: str, *, connect_seconds: float = 5.0, connections: int = 5) -> None:
        self.url = database_url(address)
        self.engine: Engine = sql_engine(
            self.url,
            pool_size=connections,
            pool_pre_ping=True,
            connect_args={"connect_timeout": max(1, round(connect_seconds))},
        )
        self.memory = Memory(self.engine)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction, committed at the end, with what was recorded in it for the audit log.

        Raises `Unavailable` or `Refused` when the database cannot be reached, `OlderDatabase` when another one was
        put in its place.
        """
        with speaking_to("service database", self.url, "PASSBOOK_SERVICE_DB_URL"):
            with self.engine.begin() as connection:
                pending = connection.info[PENDING] = Pending()
                yield connection
                newest = pending.flush(connection)
            self.memory.note(newest)

    def run(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(connection, …)` in a transaction of its own: what a thread is given to do."""
        with self.begin() as connection:
            return function(connection, *args, **kwargs)

    def look(self) -> Head | None:
        """The newest row of the audit log, which is remembered. Errors as of `begin`."""
        with self.begin() as connection:
            found = head(connection)
        self.memory.note(found)
        return found

    def migrate(self) -> bool:
        """Bring the schema to the newest revision; whether there was anything to do.

        Raises `Refused` for a schema that a newer release made.
        """
        with self.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            before = _revision(connection)
            if before == _head():
                return False
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return True

    def require_migrated(self) -> None:
        """Raise `Refused` unless the schema is the one this release was written for."""
        with self.begin() as connection:
            found = _revision(connection)
        if found != _head():
            raise Refused(
                "The service database is not prepared for this release of Passbook.", remedy="Run `passbook init`."
            )

    def grant_to(self, role: str) -> str:
        """Give a role of the server what running Passbook takes; the role. The owner of the tables must do this.

        The audit log it may read and add to. Raises `Refused` for a role that does not exist.
        """
        with self.begin() as connection:
            if connection.execute(text("SELECT to_regrole(quote_ident(:role))"), {"role": role}).scalar() is None:
                raise Refused(f"There is no PostgreSQL role {role!r}.", remedy="Make it first: CREATE ROLE …")
            quoted = connection.dialect.identifier_preparer.quote_identifier(role)
            grants = (resources.files("passbook.servicedb") / "sql" / "grants.sql").read_text("utf-8")
            connection.exec_driver_sql(grants.replace("{role}", quoted))
        return role

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return config


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _head() -> str | None:
    return _scripts().get_current_head()


def _revision(connection: Connection) -> str | None:
    """The revision of the schema, None for an empty database. Raises `Refused` for one that is not known here."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in {script.revision for script in _scripts().walk_revisions()}:
        raise Refused(
            "The service database was prepared by a newer release of Passbook than this one.",
            remedy="Run that release, or restore a backup from before it was installed.",
        )
    return found
