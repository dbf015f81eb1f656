"""Devices that listen and have nothing to hear: what they cost CouchDB, with the gateway and without it.

    python -m benchmarks.idle_devices --devices 1000 5000 10000

Each device is somebody else's, with a database of its own, and listens as PouchDB does in live replication: a long
poll with a heartbeat every ten seconds. First nobody listens, then all through the gateway, then all at CouchDB
directly. Memory, connections and open files are those that the servers hold while the devices wait; processor time
is that of `--seconds` of waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.front import Front, Listeners, Target, gateway
from benchmarks.stage import Stage, add_people, cpu_seconds, stage
from passbook.output import print_table
from passbook.progress import Silent
from sync_worker.commands.session import worker

LEDGER_CLIENTS = 500
#: As every browser and PouchDB under Node ask: a feed that is compressed must not cost a compressor.
AS_A_PHONE = "Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nUser-Agent: node\r\n"
SETTLES_IN = (
    15.0  # seconds from the last device's arrival: what opening them cost is over, and a heartbeat was sent
)


def holds(process: psutil.Process) -> dict[str, float]:
    """What a server holds now."""
    connections = process.net_connections("tcp")
    return {
        "memory_mb": round(process.memory_info().rss / 1e6, 1),
        "connections": sum(one.status == psutil.CONN_ESTABLISHED for one in connections),
        "files": process.num_fds(),
    }


async def waiting(servers: dict[str, psutil.Process], seconds: float) -> dict[str, dict[str, float]]:
    """What each server holds, and the share of a core it uses, over so many seconds."""
    before = {name: cpu_seconds(process) for name, process in servers.items()}
    started = time.monotonic()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - started
    return {
        name: {**holds(process), "cpu_percent": round(100 * (cpu_seconds(process) - before[name]) / passed, 1)}
        for name, process in servers.items()
    }


async def measure(on: Stage, counts: Sequence[int], seconds: float) -> dict[str, Any]:
    """For each number of devices: nobody, through the gateway, directly."""
    own = on.institution.active_clients
    clients = [[own[number % len(own)]] for number in range(max(counts))]
    people = add_people(on.database, clients)
    async with worker(on.outside, on.database) as one:
        started = time.monotonic()
        await one.run_pass(Silent())
        print(f"{len(people)} people projected in {time.monotonic() - started:.0f} s")
    assert on.server is not None
    found: dict[str, Any] = {"server": on.couchdb, "devices": {}}
    for count in counts:
        # A fresh one each time: memory that a process once had it seldom gives back.
        async with gateway(on) as front:
            found["devices"][count] = await _one(front, on.server, people[:count], seconds)
    return found


async def _one(front: Front, couchdb: psutil.Process, people: Sequence[str], seconds: float) -> dict[str, Any]:
    servers = {"couchdb": couchdb, "gateway": front.process}

    async def listening(targets: list[Target]) -> dict[str, Any]:
        async with Listeners.on(targets, more=AS_A_PHONE) as listeners:
            await asyncio.sleep(SETTLES_IN)
            held = await waiting(servers, seconds)
            ended = sum(bool(one["ended_at"]) for one in await listeners.seen())
            assert not ended, f"{ended} feeds ended while they should wait"
            return {"opened_in_s": round(listeners.opened_in, 1), **held}

    await asyncio.sleep(SETTLES_IN)
    nobody = await waiting(servers, seconds)
    through = await listening(front.through(people))
    await asyncio.sleep(SETTLES_IN)  # CouchDB lets go of what the first ones needed
    between = await waiting(servers, seconds)
    direct = await listening(front.directly(people))
    return {"nobody": nobody, "through_gateway": through, "nobody_again": between, "directly": direct}


def table(found: dict[str, Any]) -> None:
    """The figures to read: what the devices add to each server."""
    rows = []
    for count, one in found["devices"].items():
        ours, alone = one["through_gateway"], one["directly"]
        for what in ("memory_mb", "connections", "files", "cpu_percent"):
            empty, again = one["nobody"]["couchdb"][what], one["nobody_again"]["couchdb"][what]
            rows.append(
                [
                    count,
                    what,
                    round(ours["couchdb"][what] - empty, 1),
                    round(alone["couchdb"][what] - again, 1),
                    round(ours["gateway"][what] - one["nobody"]["gateway"][what], 1),
                ]
            )
    print_table(["devices", "added", "CouchDB, with gateway", "CouchDB, without", "gateway"], rows)


def main() -> None:
    """Run it; the figures as JSON, and a table of what the devices added."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[1000, 5000, 10000])
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    with stage(LEDGER_CLIENTS) as on:
        found = asyncio.run(measure(on, arguments.devices, arguments.seconds))
    print(json.dumps(found, indent=2))
    table(found)


if __name__ == "__main__":
    main()
