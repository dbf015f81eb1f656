"""A door in front of CouchDB that kills whoever comes through it, at a request of our choice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web


@dataclass
class Door:
    """Counts requests; at number `kill_at` the process `victim` is killed, before or after CouchDB got it."""

    url: str = ""
    seen: int = 0
    kill_at: int = 0
    after: bool = False
    victim: int = 0
    #: Given method and path of a request, the status and body to answer with instead of CouchDB; None: ask CouchDB.
    instead: Callable[[str, str], tuple[int, bytes] | None] = lambda _method, _path: None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.victim, signal.SIGKILL)


@contextlib.asynccontextmanager
async def door(couchdb_url: str) -> AsyncIterator[Door]:
    """The door, open; `url` is what the victim takes for CouchDB."""
    parts = urlsplit(couchdb_url)
    target = f"http://{parts.hostname}:{parts.port}"
    state = Door()
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            state.seen += 1
            mine = state.seen == state.kill_at
            if (said := state.instead(request.method, request.raw_path)) is not None:
                return web.Response(status=said[0], body=said[1], headers={"Content-Type": "application/json"})
            if mine and not state.after:
                state.kill()
                raise web.HTTPServiceUnavailable
            headers = {
                name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers
            }
            body = await request.read()
            async with session.request(
                request.method, target + request.raw_path, data=body, headers=headers
            ) as answer:
                content = await answer.read()
            if mine:
                state.kill()
            return web.Response(status=answer.status, body=content, headers={"Content-Type": "application/json"})

        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        state.url = f"http://{parts.username}:{parts.password}@127.0.0.1:{port}"
        try:
            yield state
        finally:
            await runner.cleanup()


async def passbook(
    *arguments: str, environment: Mapping[str, str], door: Door | None = None, directory: str | None = None
) -> tuple[int, str, str]:
    """Run `passbook …` in a process of its own: exit status (negative: the signal), output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "passbook",
        *arguments,
        env={**os.environ, **environment},
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    if door:
        door.victim = process.pid
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()
