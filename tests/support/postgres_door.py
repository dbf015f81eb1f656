"""A door in front of PostgreSQL that kills whoever comes through it, at a message of our choice; and whom it kills.

The victim is an auth service in a process of its own: forked, which takes a moment, or `passbook auth` itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import uvicorn
from sqlalchemy.engine import make_url

from auth_service.api.app import THREADS, build
from auth_service.service import Service
from passbook import log
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from tests.support.api import SECRET

_WITHIN = 30.0
_PORT = 5432


@dataclass
class Door:
    """Counts what the victim sends to PostgreSQL: a message is a query with its parameters, as one.

    Once armed, it kills the victim at number `kill_at`: before PostgreSQL got the message, or after it has carried
    it out. `only` counts those messages alone that begin so (`COMMIT`).
    """

    url: str = ""
    victim: int = 0
    kill_at: int = 0
    after: bool = False
    only: str = ""
    #: What was counted since the door was armed.
    seen: list[str] = field(default_factory=list)
    #: Transactions that the present victim has committed.
    commits: int = 0
    killed: bool = False
    lines: set[_Line] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def arm(self, kill_at: int, *, after: bool, only: str = "") -> None:
        """Count from here on, and kill at this number."""
        self.kill_at, self.after, self.only = kill_at, after, only
        self.seen, self.killed = [], False

    def disarm(self) -> None:
        """Let everything through."""
        self.kill_at = 0

    def expect(self, victim: int) -> None:
        """Another victim comes."""
        self.disarm()
        self.victim, self.commits = victim, 0

    async def quiet(self, commits: int) -> None:
        """Wait until so many transactions are over and none is under way."""
        async with asyncio.timeout(_WITHIN), self._changed:
            await self._changed.wait_for(lambda: self.commits >= commits and all(one.idle for one in self.lines))

    def counts(self, statement: str) -> bool:
        """Whether the victim dies with this message."""
        if not self.kill_at or not statement.upper().startswith(self.only):
            return False
        self.seen.append(statement)
        return len(self.seen) == self.kill_at

    def kill(self) -> None:
        """The real signal: nothing in the victim can do anything about it."""
        self.killed = True
        self.disarm()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.victim, signal.SIGKILL)

    async def told(self) -> None:
        """Something has changed."""
        async with self._changed:
            self._changed.notify_all()


class _Line:
    """One connection through the door."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.idle = True
        #: Statements that were prepared, by name.
        self._prepared: dict[bytes, str] = {}
        self._dying = False
        self.ways: list[asyncio.Task[None]] = []

    def hang_up(self) -> None:
        """End it in both directions."""
        for way in self.ways:
            way.cancel()

    async def forth(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        """From the victim to PostgreSQL, a whole message at a time."""
        # The first message has no letter before it; on a UNIX socket it is never one about encryption.
        length = await client.readexactly(4)
        server.write(length + await client.readexactly(int.from_bytes(length) - 4))
        await server.drain()
        parts, statement = [], ""
        while True:
            kind, frame = await _frame(client)
            parts.append(frame)
            if kind == b"Q":
                statement = frame[5:-1].decode()
            elif kind == b"P":
                name, query = frame[5:].split(b"\0")[:2]
                statement = self._prepared[name] = query.decode()
            elif kind == b"B":
                statement = self._prepared.get(frame[5:].split(b"\0")[1], "")
            if kind not in (b"Q", b"S"):
                if kind in (b"p", b"X"):  # a password, or the end: no query
                    server.write(b"".join(parts))
                    await server.drain()
                    parts = []
                continue
            self.idle = False
            mine = self._door.counts(statement)
            if mine and not self._door.after:
                self._door.kill()
                return
            self._dying = mine
            if statement.upper().startswith("COMMIT"):
                self._door.commits += 1
            server.write(b"".join(parts))
            await server.drain()
            parts, statement = [], ""

    async def back(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """From PostgreSQL to the victim, unless it is to die of it."""
        while True:
            kind, frame = await _frame(server)
            if self._dying:
                if kind == b"Z":
                    self._door.kill()
                    return
                continue
            client.write(frame)
            await client.drain()
            if kind == b"Z":
                self.idle = frame[5:6] == b"I"
                await self._door.told()


async def _frame(stream: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await stream.readexactly(5)
    return head[:1], head + await stream.readexactly(int.from_bytes(head[1:]) - 4)


@contextlib.asynccontextmanager
async def door(service_url: str) -> AsyncIterator[Door]:
    """The door, open; its `url` is what the victim takes for the service database."""
    real = make_url(service_url)
    behind = Path(str(real.query["host"]), f".s.PGSQL.{real.query.get('port', _PORT)}")
    state = Door()
    visits: set[asyncio.Task[None]] = set()

    async def enter(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        visit = asyncio.current_task()
        assert visit is not None
        visits.add(visit)
        server, forth = await asyncio.open_unix_connection(str(behind))
        line = _Line(state)
        state.lines.add(line)
        ways = line.ways = [
            asyncio.create_task(way) for way in (line.forth(client, forth), line.back(server, back))
        ]
        # Whichever side hangs up: the other is told so.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        line.hang_up()
        await asyncio.gather(*ways, return_exceptions=True)
        for writer in (forth, back):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        state.lines.discard(line)
        visits.discard(visit)
        await state.told()

    # The path of a socket is short; that of a test's own folder may be too long.
    with tempfile.TemporaryDirectory(prefix="door-", dir="/tmp") as folder:
        listening = await asyncio.start_unix_server(enter, path=f"{folder}/.s.PGSQL.{_PORT}")
        state.url = real.update_query_dict({"host": folder, "port": str(_PORT)}).render_as_string(
            hide_password=False
        )
        try:
            yield state
        finally:
            listening.close()
            for line in state.lines:
                line.hang_up()
            await asyncio.gather(*visits)


# Whom it kills


class Victim:
    """An auth service in a process of its own, forked from one that has imported everything."""

    def __init__(self, process: multiprocessing.process.BaseProcess, port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"
        self.pid = process.pid or 0

    async def died(self) -> bool:
        """Wait for its end; whether it was killed."""
        await asyncio.to_thread(self._process.join, _WITHIN)
        return self._process.exitcode == -signal.SIGKILL

    async def stop(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        await asyncio.to_thread(self._process.join, _WITHIN)
        self._process.close()


async def victim(door: Door, settings: Mapping[str, str], *, couchdb_url: str = "") -> Victim:
    """An auth service that goes through the door, has started, and does nothing more by itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(door.url, dict(settings), couchdb_url, theirs), daemon=True)
    door.expect(0)
    await asyncio.to_thread(process.start)
    theirs.close()
    door.victim = process.pid or 0
    assert await asyncio.to_thread(ours.poll, _WITHIN), "the auth service does not start"
    made = Victim(process, ours.recv())
    ours.close()
    await door.quiet(1)  # the sweep, with which it begins
    return made


def _serve(url: str, settings: dict[str, str], couchdb_url: str, told: Connection) -> None:
    log.configure("error", "text")
    database = ServiceDatabase(url, connections=THREADS)
    service = Service.build(Settings.load(settings), database, secret=SECRET, couchdb_url=couchdb_url)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            told.send(listening.getsockname()[1])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        asyncio.run(Server(uvicorn.Config(build(service), log_config=None)).serve(sockets=[listening]))


@dataclass
class Command:
    """`passbook auth`, running."""

    process: asyncio.subprocess.Process
    url: str

    async def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; exit status and everything that it said on standard error."""
        # Not `Process.send_signal`: on its way it looks whether the process has ended, and may take the exit status
        # of one that was just killed away from whoever waits for it.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
        _, errors = await self.process.communicate()
        return self.process.returncode or 0, errors.decode()


async def command(environment: Mapping[str, str]) -> Command:
    """`passbook auth` with this environment, listening."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "passbook",
        "auth",
        "--port",
        "0",
        env={**os.environ, "PASSBOOK_AUTH_SECRET": SECRET, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    found = re.search(r"http://\S+", line)
    if found is None:
        _, errors = await process.communicate()
        raise AssertionError(f"the auth service did not start: {line}{errors.decode()}")
    return Command(process, found[0])
