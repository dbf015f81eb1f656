"""A person in one request, the manifest last, beside two requests: the same documents, the same server, one run.

python -m benchmarks.manifest --people 600
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.raw import replay
from benchmarks.stage import Stage, add_people, stage
from passbook.couch import BulkResult, CouchClient
from passbook.progress import Silent
from sync_worker.commands.session import worker
from sync_worker.state import MANIFEST

_Requests = list[tuple[str, bytes, int]]


class _Recorder:
    """Keeps the documents of each request."""

    def __init__(self, couch: CouchClient) -> None:
        self.requests: list[tuple[str, list[bytes]]] = []
        self._send = couch.bulk
        couch.bulk = self._bulk  # type: ignore[method-assign]

    async def _bulk(self, name: str, documents: Iterable[bytes], *, new_edits: bool = True) -> list[BulkResult]:
        parts = list(documents)
        self.requests.append((name, parts))
        return await self._send(name, parts, new_edits=new_edits)


async def measure(on: Stage, rounds: int, connections: int) -> dict[str, Any]:
    """What a first pass writes, sent `rounds` times each way, taking turns."""
    async with worker(on.outside, on.database) as one:
        recorder = _Recorder(one.couch)
        await one.run_pass(Silent())
    together: _Requests = []
    apart: _Requests = []
    head = b'{"_id":"%s"' % MANIFEST.encode()
    for name, documents in recorder.requests:
        together.append(_request(name, documents))
        manifests = [document for document in documents if document.startswith(head)]
        rest = [document for document in documents if not document.startswith(head)]
        apart += [_request(name, part) for part in (rest, manifests) if part]
    documents = sum(count for _, _, count in together)
    figures: list[dict[str, float]] = []
    for _ in range(rounds):
        one_seconds, _ = await replay(on.outside.couchdb_url, together, connections, on.server)
        two_seconds, _ = await replay(on.outside.couchdb_url, apart, connections, on.server)
        figures.append(
            {
                "one_request": round(documents / one_seconds),
                "two_requests": round(documents / two_seconds),
                "one_over_two": round(two_seconds / one_seconds, 2),
            }
        )
    return {
        "server": on.couchdb,
        "people": len({name for name, _, _ in together}),
        "documents": documents,
        "requests": [len(together), len(apart)],
        "documents_per_second": figures,
        "one_over_two_median": statistics.median(one["one_over_two"] for one in figures),
    }


def _request(name: str, documents: list[bytes]) -> tuple[str, bytes, int]:
    return name, b'{"docs":[' + b",".join(documents) + b"]}", len(documents)


def main() -> None:
    """Run it and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    with stage(int(arguments.people * 1.3), couchdb_connections=arguments.connections) as on:
        clients = on.institution.active_clients[: arguments.people]
        add_people(on.database, [[client] for client in clients])
        print(json.dumps(asyncio.run(measure(on, arguments.rounds, arguments.connections)), indent=2))


if __name__ == "__main__":
    main()
