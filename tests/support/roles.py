"""The service database as one process sees it: by the role that `passbook init --roles` makes for it."""

from __future__ import annotations

from sqlalchemy import text

from passbook.database import database_url
from passbook.servicedb import roles
from passbook.servicedb.engine import ServiceDatabase

PREFIX = "passbook"
#: Of an auth service that serves people and administration from one process.
BOTH_SIDES = "auth"


def as_process(service_url: str, process: str) -> str:
    """The same database, by the role of a process."""
    url = database_url(service_url).set(username=roles.role_of(PREFIX, process))
    return url.render_as_string(hide_password=False)


def make_roles(database: ServiceDatabase) -> None:
    """The roles of the processes, and one for both sides of the auth service."""
    database.make_roles(PREFIX, {})
    both = roles.role_of(PREFIX, BOTH_SIDES)
    with database.begin() as connection:
        if not connection.execute(text("SELECT to_regrole(:role)"), {"role": both}).scalar():
            connection.exec_driver_sql(f"CREATE ROLE {both} LOGIN")
        roles.give(connection, both, "people", "administration")
