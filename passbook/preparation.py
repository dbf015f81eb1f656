"""What `passbook init` does, and what every other command may rely on afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

from passbook import couch_access
from passbook.couch import CouchClient
from passbook.couch_configuration import EMBEDDED_VENDOR
from passbook.servicedb.engine import ServiceDatabase


def prepare(
    database: ServiceDatabase, couchdb_url: str, *, connect_seconds: float, couchdb_jwt_key: str = ""
) -> dict[str, Any]:
    """Migrate the service database, look whether CouchDB can be used, and see that it takes the gateway's tokens.

    Says what it found and did. Raises `Unavailable` when one of them does not answer, `Refused` when it refuses the
    credentials.
    """
    migrated = database.migrate()
    welcome = asyncio.run(_look(couchdb_url, connect_seconds))
    _, access = asyncio.run(couch_access.prepare(couchdb_url, connect_seconds=connect_seconds, key=couchdb_jwt_key))
    return {
        "service_database": "migrated" if migrated else "up to date",
        "couchdb": _version(welcome),
        "gateway_acts_as": access,
    }


def _version(welcome: dict[str, Any]) -> str:
    vendor = welcome.get("vendor", {}).get("name", "")
    return "embedded server" if vendor == EMBEDDED_VENDOR else str(welcome.get("version", "unknown"))


async def _look(couchdb_url: str, connect_seconds: float) -> dict[str, Any]:
    async with CouchClient(couchdb_url, connections=1, connect_seconds=connect_seconds) as couch:
        return await couch.check()
