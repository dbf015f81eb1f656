"""First synchronisation of a real PouchDB: through the gateway, beside the same directly from CouchDB.

    python -m benchmarks.first_sync

A typical customer, and the agent with 30 clients. Runs take turns, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from auth_service import devices
from benchmarks.stage import Stage, add_people, stage
from passbook.audit.chain import Actor
from passbook.progress import Silent
from passbook.servicedb.tables import person
from sample_institution.demo.children import running
from sample_institution.pouch import PouchClient
from sync_worker.commands.session import worker


async def measure(on: Stage, rounds: int) -> dict[str, Any]:
    """Medians in seconds, and their ratio."""
    customer, agent = add_people(on.database, [[on.institution.customer], on.institution.agent_clients])
    async with worker(on.outside, on.database) as one:
        await one.run_pass(Silent())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PASSBOOK_SERVICE_DB_URL": on.outside.service_url,
        "PASSBOOK_COUCHDB_URL": on.outside.couchdb_url,
        "PASSBOOK_DATA_DIR": str(on.outside.settings.data_dir),
        "PASSBOOK_GATEWAY_PORT": str(port),
        "PASSBOOK_GATEWAY_ADMIN_PORT": "0",
    }
    log = Path(on.outside.settings.data_dir) / "gateway.log"
    found: dict[str, Any] = {"server": on.couchdb}
    async with running(["gateway"], environment, log, ready="Gateway listens"):
        for name, person_id in (("customer", customer), ("agent_30_clients", agent)):
            with on.database.begin() as connection:
                terms = devices.Terms(public_url=f"http://127.0.0.1:{port}", days=1, most=10)
                credential = devices.add(connection, Actor("operator", "benchmark"), person_id, terms=terms)
                database = connection.execute(
                    sa.select(person.c.database_name).where(person.c.id == person_id)
                ).scalar_one()
            parts = urlsplit(on.outside.couchdb_url)
            direct = (
                f"http://{parts.hostname}:{parts.port}/{database}",
                unquote(parts.username or ""),
                unquote(parts.password or ""),
            )
            through = (credential.url, credential.username, credential.password)
            times: dict[str, list[float]] = {"direct": [], "gateway": []}
            documents = 0
            for _ in range(rounds):
                for way, target in (("direct", direct), ("gateway", through)):
                    seconds, documents = await _sync(target)
                    times[way].append(seconds)
            medians = {way: statistics.median(values) for way, values in times.items()}
            found[name] = {
                "documents": documents,
                "direct_ms": round(medians["direct"] * 1000),
                "gateway_ms": round(medians["gateway"] * 1000),
                "gateway_over_direct": round(medians["gateway"] / medians["direct"], 2),
            }
    return found


async def _sync(target: tuple[str, str, str]) -> tuple[float, int]:
    async with PouchClient.started(*target) as phone:
        started = time.monotonic()
        done = await phone.replicate()
        seconds = time.monotonic() - started
        assert done["ok"], done
        return seconds, int(done["written"])


def main() -> None:
    """Run it and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with stage(60) as on:
        print(json.dumps(asyncio.run(measure(on, arguments.rounds)), indent=2))


if __name__ == "__main__":
    main()
