"""First synchronisation of a real PouchDB: through the gateway, beside the same directly from CouchDB.

    python -m benchmarks.first_sync

A typical customer, and the agent with 30 clients. Runs take turns, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

from benchmarks.front import Target, gateway
from benchmarks.stage import Stage, add_people, stage
from passbook.progress import Silent
from sample_institution.pouch import PouchClient
from sync_worker.commands.session import worker


async def measure(on: Stage, rounds: int) -> dict[str, Any]:
    """Medians in seconds, and their ratio."""
    customer, agent = add_people(on.database, [[on.institution.customer], on.institution.agent_clients])
    async with worker(on.outside, on.database) as one:
        await one.run_pass(Silent())
    found: dict[str, Any] = {"server": on.couchdb}
    async with gateway(on) as front:
        for name, person_id in (("customer", customer), ("agent_30_clients", agent)):
            (through,), (direct,) = front.through([person_id]), front.directly([person_id])
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


async def _sync(target: Target) -> tuple[float, int]:
    async with PouchClient.started(target.url, target.username, target.password) as phone:
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
