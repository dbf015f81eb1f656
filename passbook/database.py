"""Connecting to SQL databases: addresses, drivers, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from passbook.addresses import can_be_misread
from passbook.errors import PassbookError, Refused, Unavailable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}

#: What PostgreSQL and MySQL/MariaDB say when the address is right and the credentials or the name are not.
_REFUSALS = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "role ",
    "access denied",
    "unknown database",
    "does not exist",
    "permission denied",
    "(1044,",
    "(1045,",
    "(1049,",
)

#: What they say when the user may not read a table or column.
_DENIALS = ("permission denied", "(1142,", "(1143,")


def database_url(address: str) -> URL:
    """The SQLAlchemy address for what an operator wrote: `postgresql://…` or `mysql://…`, driver filled in."""
    # A space ends nothing here, and SQLAlchemy writes it as it is.
    if can_be_misread(address.replace(" ", "%20")):
        raise Refused(
            "The address of a database cannot be read.",
            remedy="Write @, /, ? and # in its user name and password as %40, %2F, %3F and %23.",
        )
    try:
        url = make_url(address)
        return url.set(drivername=_DRIVERS[url.drivername.split("+")[0]])
    except (ArgumentError, KeyError, ValueError):
        raise Refused(
            "The address of a database cannot be read.", remedy="Begin it with postgresql:// or mysql://."
        ) from None


def sql_engine(url: URL, **options: Any) -> Engine:
    """An engine on a database; `options` are SQLAlchemy's.

    Every engine is made here or by `async_sql_engine`: what a statement is given may be a secret or somebody's
    name, and neither an error nor a log may repeat it.
    """
    return create_engine(url, hide_parameters=True, **options)


def async_sql_engine(url: URL, **options: Any) -> AsyncEngine:
    """As `sql_engine`, for asyncio."""
    from sqlalchemy.ext.asyncio import create_async_engine  # slow to import, and no command needs it

    return create_async_engine(url, hide_parameters=True, **options)


@contextmanager
def speaking_to(what: str, url: URL, variable: str) -> Iterator[None]:
    """Turn a driver's connection error into one that a person can act on.

    `what` names the database in the message, `variable` the setting to look at. Errors other than those of the
    connection pass through.
    """
    try:
        yield
    except OperationalError as error:
        raise _explained(what, url, variable, error) from None
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _explained(what, url, variable, error) from None
        said = str(error.orig).splitlines()[0]
        if any(refusal in said.lower() for refusal in _DENIALS):
            raise Refused(
                f"The {what} at {shown(url)} does not let its user do this: {said}",
                remedy="Grant the right to read; docs/operators.md says to what.",
            ) from None
        raise


def shown(url: URL) -> str:
    """The address without credentials: `host:port/database`."""
    host = url.host or str(url.query.get("host", "local socket"))
    port = f":{url.port}" if url.port else ""
    return f"{host}{port}/{url.database or ''}"


def _explained(what: str, url: URL, variable: str, error: DBAPIError) -> PassbookError:
    said = str(error.orig).lower()
    if "statement timeout" in said or "max_statement_time" in said or "maximum statement execution" in said:
        return Unavailable(
            f"The {what} at {shown(url)} took too long over a query, which was ended.",
            remedy="It is overloaded, or PASSBOOK_LEDGER_BATCH asks for too many clients at once.",
        )
    if any(refusal in said for refusal in _REFUSALS):
        return Refused(
            f"The {what} at {shown(url)} refuses these credentials, or has no such database.",
            remedy=f"Check user, password and database name in {variable}.",
        )
    return Unavailable(
        f"The {what} at {shown(url)} does not answer.",
        remedy=f"Check that it runs and can be reached from here, and the host and port in {variable}.",
    )
