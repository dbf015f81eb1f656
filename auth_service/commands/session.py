"""One transaction on the service database, for one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from passbook.context import opened, service_database
from passbook.settings import Settings


@contextmanager
def transaction() -> Iterator[Connection]:
    """A transaction of the configured (or embedded) service database."""
    with (
        opened(Settings.load(), servicedb=True) as outside,
        service_database(outside) as database,
        database.begin() as connection,
    ):
        yield connection
