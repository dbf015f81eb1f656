"""How fast a change reaches a device that listens, how fast access ends, and what a small read costs.

    python -m benchmarks.live_feeds --feeds 1000

*Waking*: a worker passes on money that was paid in; each customer has one feed at CouchDB directly and one
through the gateway. What is told is the time between the first row of the one and the first row of the other.
*Revocation*: from the moment before an administrator's transaction begins to the end of the connection at the
device (its last byte came no later): a hundred devices one after another, then everybody at once. *Small reads*:
one document over kept connections, directly and through the gateway in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import aiohttp
import sqlalchemy as sa

from auth_service import devices
from benchmarks.front import Front, Listeners, Target, gateway, quantiles
from benchmarks.stage import Stage, add_people, stage
from passbook.audit.chain import Actor
from passbook.errors import Refused
from passbook.progress import Silent
from passbook.servicedb.tables import tenant
from sample_institution import moves
from sync_worker.commands.session import worker
from sync_worker.cycle import Worker

CONTINUOUS = "feed=continuous&heartbeat=1000&since=now"
BY = Actor("operator", "benchmark")
ONE_BY_ONE = 100
READERS = 16
ROUNDS = 50  # changes that come one at a time
WITHIN = 30.0


async def waking(
    front: Front, people: Sequence[str], clients: Sequence[int], one: Worker, burst: int
) -> dict[str, Any]:
    """From CouchDB's own feed having a change to a device behind the gateway having it.

    Changes come one at a time, then for `burst` people in one pass.
    """
    payable = _payable(front.stage, clients)[: ROUNDS + burst]
    watched = [people[number] for number in payable]
    found: dict[str, Any] = {"feeds_open": len(people)}
    async with (
        Listeners.on(front.through(people), CONTINUOUS) as through,
        Listeners.on(front.directly(watched), CONTINUOUS) as direct,
    ):
        for name, first, groups in (
            ("one_at_a_time", 0, [[number] for number in payable[:ROUNDS]]),
            ("in_one_pass", ROUNDS, [payable[ROUNDS:]]),
        ):
            for group in groups:
                _pay_in(front.stage, [clients[number] for number in group])
                await one.run_pass(Silent())
            which = [number for group in groups for number in group]
            at_device = await _all(through, lambda seen: seen["row_at"], which)
            at_couchdb = await _all(direct, lambda seen: seen["row_at"], range(first, first + len(which)))
            late = [ours["row_at"][0] - its["row_at"][0] for ours, its in zip(at_device, at_couchdb, strict=True)]
            found[name] = {"changes": len(late), **quantiles(late)}
    return found


def _payable(on: Stage, clients: Sequence[int]) -> list[int]:
    """Which of these clients, by number, have an account that money can be paid into."""
    engine = sa.create_engine(on.outside.ledger_url)
    found = []
    for number, client in enumerate(clients):
        with contextlib.suppress(Refused):
            moves.active_savings_of(engine, client)
            found.append(number)
    engine.dispose()
    return found


def _pay_in(on: Stage, clients: Sequence[int]) -> None:
    engine = sa.create_engine(on.outside.ledger_url)
    for client in clients:
        moves.deposit(engine, moves.active_savings_of(engine, client), Decimal(25))
    engine.dispose()


async def revocation(front: Front, people: Sequence[str]) -> dict[str, Any]:
    """From the order to the end of the connection."""
    targets = front.through(people)
    found: dict[str, Any] = {}
    async with Listeners.on(targets, CONTINUOUS) as feeds:
        ordered: list[float] = []
        for target in targets[:ONE_BY_ONE]:
            ordered.append(time.monotonic())
            with front.stage.database.begin() as connection:
                devices.revoke(connection, BY, target.device)
            await asyncio.sleep(0.05)
        seen = await _all(feeds, lambda one: one["ended_at"], range(len(ordered)))
        found["one_by_one"] = quantiles([one["ended_at"] - at for one, at in zip(seen, ordered, strict=True)])
        rest = targets[len(ordered) :]
        ordered_at = time.monotonic()
        with front.stage.database.begin() as connection:
            devices.revoke_many(connection, BY, [one.device for one in rest], reason="benchmark")
        committed = time.monotonic() - ordered_at
        seen = await _all(feeds, lambda one: one["ended_at"], range(len(ordered), len(targets)))
        found["all_at_once"] = {
            "feeds": len(rest),
            "transaction_ms": round(committed * 1000, 1),
            **quantiles([one["ended_at"] - ordered_at for one in seen]),
        }
    targets = front.through(people)
    async with Listeners.on(targets, CONTINUOUS) as feeds:
        ordered_at = time.monotonic()
        with front.stage.database.begin() as connection:
            connection.execute(tenant.update().values(open=False))
        seen = await _all(feeds, lambda one: one["ended_at"])
        found["tenant_switched_off"] = {
            "feeds": len(targets),
            **quantiles([one["ended_at"] - ordered_at for one in seen]),
        }
    with front.stage.database.begin() as connection:
        connection.execute(tenant.update().values(open=True))
    return found


async def reads(front: Front, person: str, seconds: float) -> dict[str, Any]:
    """Reads of one small document per second."""
    (through,), (direct,) = front.through([person]), front.directly([person])
    rates: dict[str, list[float]] = {"direct": [], "gateway": []}
    for _ in range(3):
        for way, target in (("direct", direct), ("gateway", through)):
            rates[way].append(await _rate(target, seconds))
    medians = {way: statistics.median(values) for way, values in rates.items()}
    return {
        "direct_per_second": round(medians["direct"]),
        "gateway_per_second": round(medians["gateway"]),
        "gateway_over_direct": round(medians["gateway"] / medians["direct"], 2),
    }


async def _rate(target: Target, seconds: float) -> float:
    count = 0
    end = time.monotonic() + seconds
    headers = {"Authorization": target.authorization}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=READERS)) as http:

        async def read() -> None:
            nonlocal count
            while time.monotonic() < end:
                async with http.get(f"{target.url}/passbook") as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()
                count += 1

        await asyncio.gather(*(read() for _ in range(READERS)))
    return count / seconds


async def _all(
    feeds: Listeners, wanted: Callable[[dict[str, Any]], Any], which: Sequence[int] | range | None = None
) -> list[dict[str, Any]]:
    """What these feeds (all, if none are named) have seen, once each has seen what is wanted."""
    end = time.monotonic() + WITHIN
    while True:
        seen = await feeds.seen()
        chosen = seen if which is None else [seen[number] for number in which]
        if all(wanted(one) for one in chosen):
            return chosen
        if time.monotonic() > end:
            raise SystemExit(f"{sum(not wanted(one) for one in chosen)} feeds have not seen it within {WITHIN} s")
        await asyncio.sleep(0.2)


async def measure(on: Stage, feeds: int, changes: int, seconds: float) -> dict[str, Any]:
    """All three."""
    clients = on.institution.active_clients[:feeds]
    people = add_people(on.database, [[client] for client in clients])
    found: dict[str, Any] = {"server": on.couchdb}
    async with worker(on.outside, on.database) as one:
        await one.run_pass(Silent())
        # A phone that lost its share for trying too often is not what is measured.
        async with gateway(on, PASSBOOK_GATEWAY_DEVICE_REQUESTS_PER_MINUTE="10000000") as front:
            found["small_reads"] = await reads(front, people[0], seconds)
            found["waking"] = await waking(front, people, clients, one, changes)
            found["revocation"] = await revocation(front, people)
    return found


def main() -> None:
    """Run it and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feeds", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    with stage(arguments.feeds * 5 // 4) as on:
        print(json.dumps(asyncio.run(measure(on, arguments.feeds, arguments.changes, arguments.seconds)), indent=2))


if __name__ == "__main__":
    main()
