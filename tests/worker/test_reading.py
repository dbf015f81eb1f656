"""The load on the ledger is bounded, and reading runs one batch ahead of writing and no more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from sync_worker.ledger.reader import Batch
from sync_worker.reading import Pace, batches


class Reader:
    """Notes when it was asked, and for whom."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, Sequence[int]]] = []

    def read(self, clients: Sequence[int]) -> Batch:
        self.asked.append((time.monotonic(), clients))
        return Batch(datetime.now(UTC))


async def test_every_client_comes_once_and_in_order() -> None:
    reader = Reader()
    seen = [list(ids) async for ids, _ in batches(reader, range(1, 24), size=5, pace=Pace(0))]  # type: ignore[arg-type]
    assert [client for part in seen for client in part] == list(range(1, 24))
    assert [len(part) for part in seen] == [5, 5, 5, 5, 3]


async def test_no_clients_no_reading() -> None:
    reader = Reader()
    assert [one async for one in batches(reader, [], size=5, pace=Pace(0))] == []  # type: ignore[arg-type]
    assert not reader.asked


async def test_T30_the_rate_is_never_above_its_bound() -> None:
    reader = Reader()
    async for _ in batches(reader, range(60), size=10, pace=Pace(200)):  # type: ignore[arg-type]
        pass
    first = reader.asked[0][0]
    for number, (asked, _) in enumerate(reader.asked):
        assert asked - first >= number * 10 / 200 - 0.005


async def test_one_batch_is_read_ahead_and_no_more() -> None:
    reader = Reader()
    stream = batches(reader, range(50), size=10, pace=Pace(0))  # type: ignore[arg-type]
    await anext(stream)
    deadline = time.monotonic() + 5
    while len(reader.asked) < 2 and time.monotonic() < deadline:
        import asyncio

        await asyncio.sleep(0.01)
    assert len(reader.asked) == 2
    await stream.aclose()
    assert len(reader.asked) == 2
