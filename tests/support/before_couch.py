"""What stands before a CouchDB, real or embedded, and makes it behave as a cluster in trouble does."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

#: The answer to a request, or None for what CouchDB answers.
Rule = Callable[[web.Request], Awaitable[web.Response | None]]
NODES = ("one@a", "two@b", "three@c")
NO_DATABASE = {"error": "not_found", "reason": "Database does not exist."}


class Before:
    """An HTTP proxy whose `rule` may answer instead. `asked` are the methods and paths so far."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = f"http://{parts.hostname}:{parts.port}"
        self._login = f"{parts.username}:{parts.password}@" if parts.username else ""
        self.rule: Rule = _pass_on
        #: Put in the place of CouchDB's 201.
        self.accepted = False
        #: Whether all nodes know the witness.
        self.witness = True
        #: Seconds between the first bytes of an answer and the others.
        self.pause = 0.0
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    @property
    def bare(self) -> str:
        return self.url.replace(self._login, "")

    async def hang(self, _: web.Request) -> web.Response | None:
        """As a process that was stopped: never an answer."""
        await asyncio.Event().wait()
        return None

    def hang_once(self, part: str) -> None:
        """The next request with `part` in its path gets no answer; others, and that one again, do."""

        async def rule(request: web.Request) -> web.Response | None:
            if part in request.path:
                self.rule = _pass_on
                await self.hang(request)
            return None

        self.rule = rule

    def cluster(self, *, away: tuple[str, ...] = (), hanging: tuple[str, ...] = (), knows: tuple[str, ...]) -> Rule:
        """Three nodes; the one that is asked was made anew and has no database, the nodes of `knows` have all."""
        connected = [node for node in NODES if node not in away]

        async def rule(request: web.Request) -> web.Response | None:
            path = request.path
            if path == "/_membership":
                return _json({"all_nodes": connected, "cluster_nodes": NODES})
            for node in NODES:
                if path.startswith(f"/_node/{node}/"):
                    if node in hanging:
                        await self.hang(request)
                    if "/_dbs/" in path and node not in knows and not (self.witness and "witness" in path):
                        return _json({"error": "not_found", "reason": "missing"}, 404)
                    return _json({})
            return None

        return rule

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path))
        instead = await self.rule(request)
        if instead is not None:
            return instead
        kept = ("Authorization", "Content-Type", "Accept")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        sent = io.BytesIO(await request.read())
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self._target + request.raw_path, data=sent, headers=headers) as answer,
        ):
            body = await answer.read()
        if self.pause:
            paused = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await paused.prepare(request)
            await paused.write(body[:5])
            await asyncio.sleep(self.pause)
            await paused.write(body[5:])
            return paused
        accepted = self.accepted and answer.status == 201 and request.path.endswith("/_bulk_docs")
        return web.Response(
            status=202 if accepted else answer.status, body=body, content_type=answer.content_type or None
        )


async def _pass_on(_: web.Request) -> web.Response | None:
    return None


def _json(said: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(said), content_type="application/json")


@contextlib.asynccontextmanager
async def before(couchdb_url: str) -> AsyncIterator[Before]:
    """A proxy before this CouchDB."""
    made = Before(couchdb_url)
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{tail:.*}", made._handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    made.url = f"http://{made._login}127.0.0.1:{port}"
    try:
        yield made
    finally:
        await runner.cleanup()
