"""What `passbook init` does, and what every other command may rely on afterwards."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from passbook import couch_access, couch_advice
from passbook.couch import CouchClient
from passbook.couch_configuration import EMBEDDED_VENDOR
from passbook.errors import PassbookError, Refused
from passbook.findings import Finding
from passbook.servicedb.engine import ServiceDatabase
from passbook.witness import keeper

#: The oldest release of CouchDB without known ways around its access control, and the one to install.
_OLDEST = (3, 3, 3)
_ADVISED = "3.5.2"
_EMBEDDED = "embedded server"


def prepare(
    database: ServiceDatabase,
    couchdb_url: str,
    *,
    connect_seconds: float,
    couchdb_jwt_key: str = "",
    worker_connections: int = 16,
) -> dict[str, Any]:
    """Migrate the service database, look whether CouchDB can be used, and see that it takes the gateway's tokens.

    Says what it did, and what it found (`findings`). Raises `Unavailable` when one of them does not answer,
    `Refused` when it refuses the credentials, or is a CouchDB with known holes; `OlderDatabase` when the service
    database was restored, and nobody has seen to it.
    """
    migrated = database.migrate()
    welcome = asyncio.run(_look(couchdb_url, connect_seconds))
    refuse_outdated(welcome)
    compare(database, couchdb_url, connect_seconds=connect_seconds)
    _, access = asyncio.run(couch_access.prepare(couchdb_url, connect_seconds=connect_seconds, key=couchdb_jwt_key))
    return {
        "service_database": "migrated" if migrated else "up to date",
        "couchdb": _version(welcome),
        "gateway_acts_as": access,
        "findings": _advice(welcome, couchdb_url, connect_seconds, worker_connections),
    }


def _advice(
    welcome: dict[str, Any], couchdb_url: str, connect_seconds: float, worker_connections: int
) -> list[Finding]:
    if _version(welcome) == _EMBEDDED:
        return []
    try:
        return couch_advice.look(
            couchdb_url, connect_seconds=connect_seconds, worker_connections=worker_connections
        )
    except PassbookError as error:  # nothing depends on it
        return [Finding("CouchDB's configuration", error.message, error.remedy or "Look at it by hand.")]


def compare(database: ServiceDatabase, couchdb_url: str, *, connect_seconds: float) -> None:
    """Compare the service database with its witness, which is made if there was none yet.

    Raises `OlderDatabase` for one that was restored, `WitnessLost`, and what the servers raise.
    """
    asyncio.run(keeper.compare(database, couchdb_url, connect_seconds=connect_seconds))


def refuse_outdated(welcome: dict[str, Any]) -> None:
    """Raise `Refused` for a CouchDB older than `_OLDEST`, or one that does not say which it is."""
    version = str(welcome.get("version", ""))
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None or tuple(int(part or 0) for part in found.groups()) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise Refused(
            f"This CouchDB is {version or 'of an unknown version'}; releases before {oldest} have known holes.",
            remedy=f"Upgrade CouchDB: {oldest} at the least, {_ADVISED} or later is advised.",
            code="couchdb_outdated",
        )


def _version(welcome: dict[str, Any]) -> str:
    vendor = welcome.get("vendor", {}).get("name", "")
    return _EMBEDDED if vendor == EMBEDDED_VENDOR else str(welcome.get("version", "unknown"))


async def _look(couchdb_url: str, connect_seconds: float) -> dict[str, Any]:
    async with CouchClient(couchdb_url, connections=1, connect_seconds=connect_seconds) as couch:
        return await couch.check()
