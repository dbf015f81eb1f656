"""Connections to the service database, and its migrations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from passbook.audit.chain import PENDING, Head, Pending, head
from passbook.database import database_url, speaking_to, sql_engine
from passbook.errors import Refused
from passbook.servicedb import roles
from passbook.servicedb.memory import Memory
from passbook.servicedb.rights import PROCESSES

log = structlog.get_logger()

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
        with self._preparing() as connection:
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
        """Give one role what everything together takes; the role. The owner of the tables must do this.

        The audit log it may read and add to. Raises `Refused` for a role that does not exist.
        """
        with self._preparing() as connection:
            roles.give_everything(connection, role)
        return role

    def make_roles(self, prefix: str, passwords: Mapping[str, str]) -> dict[str, str]:
        """See to it that each process has a role with its rights.

        By process: the role, or the whole address where its password was made here.

        The owner of the tables must do this, and be allowed to make roles.
        """
        with self._preparing() as connection:
            made = roles.ensure(connection, prefix, passwords)
        known = {process: roles.role_of(prefix, process) for process in PROCESSES}
        return known | {
            process: self.url.set(
                drivername="postgresql", username=known[process], password=password
            ).render_as_string(hide_password=False)
            for process, password in made.items()
        }

    def refresh_roles(self, prefix: str) -> list[str]:
        """Give the processes' roles that have rights here those of this release; which they are."""
        with self._preparing() as connection:
            return roles.refresh(connection, prefix)

    def require_rights(self, processes: Collection[str]) -> None:
        """Raise `Refused` if our user lacks what these processes need; say it in the log if it may do more."""
        with self.begin() as connection:
            found = roles.standing(connection, processes)
        if found.missing:
            raise Refused(
                f"PostgreSQL's user {found.user!r} lacks rights that {' and '.join(processes)} need: "
                f"{roles.in_words(found.missing)}.",
                remedy="Run `passbook init` as the owner of the tables, with --roles; or with --grant-to ROLE.",
            )
        if found.beyond:
            log.warning(
                "service_database_user_may_do_more_than_needed",
                user=found.user,
                process=", ".join(processes),
                beyond=len(found.beyond),
                remedy="Give each process a role of its own: `passbook init --roles`.",
            )

    @contextmanager
    def _preparing(self) -> Iterator[Connection]:
        with self.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            yield connection

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
