"""Somebody who asks for all there is, in a process of its own: `python -m tests.gateway.flood`.

The first line of standard input is JSON: `url`, `authorizations`, `feeds`, `askers`. Goes on until standard input
ends, telling the number of answers by status once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter

import aiohttp


async def flood(url: str, authorizations: list[str], feeds: int, askers: int) -> None:
    answers: Counter[str] = Counter()

    async def ask(http: aiohttp.ClientSession, number: int, path: str) -> None:
        headers = {"Authorization": authorizations[number % len(authorizations)]}
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(f"{url}/passbook/{path}", headers=headers) as response:
                answers[str(response.status)] += 1
                await response.read()

    async def for_ever(http: aiohttp.ClientSession, number: int, path: str) -> None:
        while True:
            await ask(http, number, path)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as http:
        tasks = [
            asyncio.create_task(for_ever(http, number, "_changes?feed=continuous&heartbeat=10000&since=now"))
            for number in range(feeds)
        ]
        tasks += [
            asyncio.create_task(for_ever(http, number, "_all_docs?include_docs=true")) for number in range(askers)
        ]
        over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not over.done():
            print(json.dumps(answers), flush=True)
            await asyncio.wait({over}, timeout=1)
        print(json.dumps(answers), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(flood(**json.loads(sys.stdin.readline())))
