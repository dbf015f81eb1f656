"""Reading the clients in scope batch by batch, one batch ahead, at a bounded rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from sync_worker.ledger.reader import Batch, LedgerReader


class Pace:
    """At most `per_second` clients are asked of the ledger, on average over the run (0: no bound).

    So the ledger's load does not depend on how fast we are. One run has one pace, whoever reads for it.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._started: float | None = None
        self._asked = 0

    async def wait(self, count: int) -> None:
        """Wait until `count` more clients may be asked for."""
        if not self._per_second:
            return
        if self._started is None:
            self._started = time.monotonic()
        due = self._started + self._asked / self._per_second
        self._asked += count
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def batches(
    reader: LedgerReader, clients: Sequence[int], *, size: int, pace: Pace
) -> AsyncGenerator[tuple[Sequence[int], Batch], None]:
    """Ids and contents of one batch after the other; the next one is read while the caller works on this one."""
    parts = [clients[start : start + size] for start in range(0, len(clients), size)]
    if not parts:
        return

    async def read(part: Sequence[int]) -> Batch:
        await pace.wait(len(part))
        return await asyncio.to_thread(reader.read, part)

    ahead = asyncio.create_task(read(parts[0]))
    try:
        for index, part in enumerate(parts):
            batch = await ahead
            if index + 1 < len(parts):
                ahead = asyncio.create_task(read(parts[index + 1]))
            yield part, batch
    finally:
        # A caller that stops early must not leave a read behind on a connection that is about to close.
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)
