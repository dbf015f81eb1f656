"""Projection throughput, ledger to CouchDB, beside the raw `_bulk_docs` ceiling of the same server in the same run.

python -m benchmarks.projection --clients 10000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterable
from datetime import date
from typing import Any

import sqlalchemy as sa

from benchmarks.raw import replay
from benchmarks.stage import Stage, add_people, cpu_seconds, stage
from passbook.couch import BulkResult, CouchClient
from passbook.progress import reporting
from sync_worker import provision, scopes
from sync_worker.commands.session import worker
from sync_worker.cycle import Worker


class _Recorder:
    """Keeps the bulk requests of a run, so that the very same bytes can be sent again."""

    def __init__(self, couch: CouchClient) -> None:
        self.requests: list[tuple[str, bytes, int]] = []
        self._send = couch.bulk
        couch.bulk = self._bulk  # type: ignore[method-assign]

    async def _bulk(self, name: str, documents: Iterable[bytes], *, new_edits: bool = True) -> list[BulkResult]:
        parts = list(documents)
        self.requests.append((name, b'{"docs":[' + b",".join(parts) + b"]}", len(parts)))
        return await self._send(name, parts, new_edits=new_edits)


class _Statements:
    """Counts the statements that reach the ledger."""

    def __init__(self, one: Worker) -> None:
        self.count = 0
        sa.event.listen(one.reader.engine, "before_cursor_execute", self._note)

    def _note(self, *_: Any) -> None:
        self.count += 1


async def measure(on: Stage) -> dict[str, Any]:
    """One pass over everybody, databases made beforehand; then the same bytes, raw, into fresh databases."""
    async with worker(on.outside, on.database) as one:
        with on.database.begin() as connection:
            holders, _ = scopes.load(connection, date(2026, 6, 30))
        started = time.monotonic()
        await provision.make_databases(one.couch, on.database, holders)
        made = time.monotonic() - started
        recorder = _Recorder(one.couch)
        own, server = cpu_seconds(), cpu_seconds(on.server) if on.server else 0.0
        with reporting("first pass") as reporter:
            first = await one.run_pass(reporter)
        own = cpu_seconds() - own
        server = (cpu_seconds(on.server) if on.server else 0.0) - server
        own_idle = cpu_seconds()
        statements = _Statements(one)
        requests = one.couch.requests.reads + one.couch.requests.writes
        idle = await one.run_pass(reporter)
        requests = one.couch.requests.reads + one.couch.requests.writes - requests
        own_idle = cpu_seconds() - own_idle
        documents = sum(count for _, _, count in recorder.requests)
        size = sum(len(body) for _, body, _ in recorder.requests)
        connections = on.outside.settings.couchdb_connections
        raw, raw_server = await replay(on.outside.couchdb_url, recorder.requests, connections, on.server)
    assert idle.documents_written == 0
    return {
        "server": on.couchdb,
        "people": len(holders),
        "databases_per_second": round(len(holders) / made, 1),
        "documents": documents,
        "bytes_per_document": round(size / documents),
        "ours_seconds": first.seconds,
        "ours_documents_per_second": round(documents / first.seconds),
        "raw_documents_per_second": round(documents / raw),
        "ours_over_raw": round(raw / first.seconds, 3),
        "worker_cpu_seconds": round(own, 2),
        "server_cpu_seconds": round(server, 2),
        "worker_over_server_cpu": round(own / server, 3) if server else None,
        "raw_server_cpu_seconds": round(raw_server, 2),
        "idle_pass_seconds": idle.seconds,
        "idle_pass_worker_cpu_seconds": round(own_idle, 2),
        "idle_pass_ledger_queries": statements.count,
        "idle_pass_couchdb_requests": requests,
    }


def main() -> None:
    """Run it and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    with stage(arguments.clients, couchdb_connections=arguments.connections) as on:
        add_people(on.database, [[client] for client in on.institution.active_clients])
        print(json.dumps(asyncio.run(measure(on)), indent=2))


if __name__ == "__main__":
    main()
