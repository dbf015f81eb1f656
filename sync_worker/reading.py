"""Reading the clients in scope batch by batch, one batch ahead, at a bounded rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from sync_worker.ledger.reader import Batch, LedgerReader


async def batches(
    reader: LedgerReader, clients: Sequence[int], *, size: int, per_second: float
) -> AsyncGenerator[tuple[Sequence[int], Batch], None]:
    """Ids and contents of one batch after the other; the next one is read while the caller works on this one.

    At most `per_second` clients are asked of the ledger, on average over the run (0: no bound), so that its load
    does not depend on how fast we are.
    """
    parts = [clients[start : start + size] for start in range(0, len(clients), size)]
    if not parts:
        return
    started = time.monotonic()
    asked = 0

    async def read(part: Sequence[int]) -> Batch:
        nonlocal asked
        if per_second:
            pause = started + asked / per_second - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
        asked += len(part)
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
