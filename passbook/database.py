"""Connecting to SQL databases: addresses, drivers, and errors that say what to do."""

from __future__ import annotations

import os
import re
import ssl
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

#: What libpq and Python's ssl say when TLS is asked for and there is none that can be trusted.
_NO_TLS = ("certificate", "ssl is required", "ssl was required", "ssl error", "[ssl")

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
        url = url.set(drivername=_DRIVERS[url.drivername.split("+")[0]])
    except (ArgumentError, KeyError, ValueError):
        raise Refused(
            "The address of a database cannot be read.", remedy="Begin it with postgresql:// or mysql://."
        ) from None
    for name in ("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key"):
        # PyMySQL would raise an error that names neither.
        if name in url.query and not os.access(str(url.query[name]), os.R_OK):
            raise Refused(f"{name} in the address of a database names no file that can be read: {url.query[name]}")
    return url


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
    except ssl.SSLError as error:
        # Of a file with certificates, before anything is sent.
        raise _no_tls(what, url, variable, error.reason or "a file holds no certificates") from None
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
    if any(sign in said for sign in _NO_TLS):
        return _no_tls(what, url, variable, _reason(str(error.orig)))
    if any(refusal in said for refusal in _REFUSALS):
        server = variable.removesuffix("_URL")
        return Refused(
            f"The {what} at {shown(url)} refuses these credentials, or has no such database.",
            remedy=f"Check the database's name in {variable}, and user and password there (a % is written %25) or "
            f"in {server}_USER and {server}_PASSWORD.",
        )
    return Unavailable(
        f"The {what} at {shown(url)} does not answer.",
        remedy=f"Check that it runs and can be reached from here, and the host and port in {variable}.",
    )


def _no_tls(what: str, url: URL, variable: str, reason: str) -> Refused:
    return Refused(
        f"The {what} at {shown(url)} has no TLS that can be trusted: {reason}.",
        remedy=f"Check what {variable} says of certificates, and the name of the host in it; docs/operators.md, "
        '"TLS towards the servers", has the settings.',
    )


def _reason(said: str) -> str:
    """The words about TLS in what a driver said, without what the message has already."""
    line = next(line for line in said.splitlines() if any(sign in line.lower() for sign in _NO_TLS))
    python = re.search(r"\[SSL[^\]]*\] (.*?)(?: \(_ssl\.c:\d+\))?\)*[\"']?\)*$", line)
    return python[1] if python else line.rpartition("failed: ")[2].removeprefix("SSL error: ")
