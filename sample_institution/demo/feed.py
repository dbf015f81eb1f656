"""A live feed of a phone, held open to see when it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from passbook.errors import Unavailable


class Feed:
    """What a phone listens to."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def over(self, within: float) -> None:
        """Wait until the gateway breaks it off. Raises `Unavailable` if it goes on."""
        try:
            async with asyncio.timeout(within):
                with contextlib.suppress(aiohttp.ClientError):
                    async for _ in self._answer.content.iter_any():
                        pass
        except TimeoutError:
            raise Unavailable("The gateway does not end the feed of a revoked phone.") from None


@contextlib.asynccontextmanager
async def listening(device: dict[str, Any]) -> AsyncIterator[Feed]:
    """A continuous feed with this credential, once it is served."""
    auth = aiohttp.encode_basic_auth(device["username"], device["password"])
    query = "feed=continuous&heartbeat=1000&since=now"
    async with (
        aiohttp.ClientSession(headers={"Authorization": auth}) as http,
        http.get(f"{device['url']}/_changes?{query}") as answer,
    ):
        if answer.status != 200:
            raise Unavailable(f"The gateway answers a live feed with {answer.status}.")
        yield Feed(answer)
