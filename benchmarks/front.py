"""The gateway as its users meet it: a process in front of the stage's CouchDB, and devices that may use it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import sqlalchemy as sa

from auth_service import devices
from benchmarks.stage import Stage
from passbook.audit.chain import Actor
from passbook.servicedb.tables import person
from sample_institution.demo.children import running

LIVE = "feed=longpoll&heartbeat=10000&since=now"
_LONGEST_LINE = 2**28


@dataclass(frozen=True)
class Target:
    """A database as somebody reaches it: through the gateway, or directly."""

    host: str
    port: int
    path: str
    username: str
    password: str
    device: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.path}"

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Front:
    """A running gateway."""

    stage: Stage
    port: int
    process: psutil.Process

    def through(self, people: Sequence[str]) -> list[Target]:
        """A new device for each of these people, at the gateway."""
        terms = devices.Terms(public_url=f"http://127.0.0.1:{self.port}", days=1, most=1000)
        with self.stage.database.begin() as connection:
            made = [devices.add(connection, Actor("operator", "benchmark"), one, terms=terms) for one in people]
        return [
            Target("127.0.0.1", self.port, "/passbook", one.username, one.password, one.username) for one in made
        ]

    def directly(self, people: Sequence[str]) -> list[Target]:
        """The same people's databases at CouchDB itself, with the administrator's password."""
        parts = urlsplit(self.stage.outside.couchdb_url)
        with self.stage.database.begin() as connection:
            names = dict(connection.execute(sa.select(person.c.id, person.c.database_name)).tuples().all())
        secret = unquote(parts.username or ""), unquote(parts.password or "")
        return [Target(parts.hostname or "", parts.port or 5984, f"/{names[one]}", *secret) for one in people]


@contextlib.asynccontextmanager
async def gateway(on: Stage, **settings: str) -> AsyncIterator[Front]:
    """`passbook gateway` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PASSBOOK_SERVICE_DB_URL": on.outside.service_url,
        "PASSBOOK_COUCHDB_URL": on.outside.couchdb_url,
        "PASSBOOK_DATA_DIR": str(on.outside.settings.data_dir),
        "PASSBOOK_GATEWAY_PORT": str(port),
        "PASSBOOK_GATEWAY_ADMIN_PORT": "0",
        **settings,
    }
    log = Path(on.outside.settings.data_dir) / f"gateway-{port}.log"
    async with running(["gateway"], environment, log, ready="Gateway listens") as child:
        yield Front(on, port, psutil.Process(child.process.pid))


class Listeners:
    """Feeds that are open, held by `benchmarks.listeners`."""

    def __init__(self, process: asyncio.subprocess.Process, opened_in: float) -> None:
        self._process = process
        #: Seconds until every one of them had got something.
        self.opened_in = opened_in

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, targets: Sequence[Target], query: str = LIVE, *, more: str = "") -> AsyncIterator[Listeners]:
        """One feed for each target, all of one server; begins when all are being served. `more` header lines."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.listeners",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        feeds = [(f"{one.path}/_changes?{query}", one.authorization) for one in targets]
        asked = {"host": targets[0].host, "port": targets[0].port, "more": more, "feeds": feeds}
        try:
            said = await _answer(process, json.dumps(asked))
            if said["refused"]:
                raise SystemExit(
                    f"{len(said['refused'])} of {said['open']} feeds were refused: {said['refused'][0]}"
                )
            yield cls(process, said["seconds"])
        finally:
            process.kill()
            await process.wait()

    async def seen(self) -> list[dict[str, Any]]:
        """What each feed has seen so far, in the order of the targets."""
        found: list[dict[str, Any]] = await _answer(self._process, "")
        return found


async def _answer(process: asyncio.subprocess.Process, line: str) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line.encode() + b"\n")
    await process.stdin.drain()
    return json.loads(await process.stdout.readline())


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest, in milliseconds."""
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        f"{name}_ms": round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)
        for name, share in at.items()
    }
