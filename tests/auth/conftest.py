"""An auth service with nobody in it, and those who make its people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from passbook.servicedb.engine import ServiceDatabase
from tests.support.api import Api, Crowd, serving


@pytest.fixture
def database(service_url: str) -> Iterator[ServiceDatabase]:
    one = ServiceDatabase(service_url)
    yield one
    one.dispose()


@pytest.fixture
def crowd(database: ServiceDatabase) -> Crowd:
    """Makes people and administrators, all with `PASSWORD`."""
    return Crowd(database)


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[Api]:
    """A client of a listening auth service."""
    async with serving(service_url) as one:
        yield one
