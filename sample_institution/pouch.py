"""A real PouchDB in a process of its own, for the demo and the tests: `clients/scripts/replicate.mjs`, timed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from passbook.embedded import node

#: The scripts and what they need: a folder of the wheel, or of the checkout.
_PACKED = Path(__file__).parent / "scripts_for_node"
CLIENTS = _PACKED if _PACKED.exists() else Path(__file__).parents[1] / "clients"
WITHIN = 30.0  # seconds until an event must have come
LONGEST_LINE = 256 * 1024 * 1024  # bytes; `docs` puts a whole database on one line


class PouchClient:
    """One device. `events` holds everything that it has said; the methods wait for what they need."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._arrived = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())
        self.events: list[dict[str, Any]] = []
        self.over = False
        self._asked = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls,
        url: str,
        username: str,
        password: str,
        *,
        store: str | Path = "memory",
        clients: Path = CLIENTS,
        **options: Any,
    ) -> AsyncIterator[PouchClient]:
        """A device with an empty store or the one in that directory; `live=True` replicates from the start.

        `clients` is the folder of the scripts, in which their packages can be installed.
        """
        found = node.find()
        await asyncio.to_thread(node.ensure_packages, clients, found)
        process = await asyncio.create_subprocess_exec(
            found.node,
            str(clients / "scripts" / "replicate.mjs"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
        )
        client = cls(process)
        given = {"url": url, "username": username, "password": password, "store": str(store), **options}
        try:
            # Not as an argument: there everybody on the machine could read the password.
            await client._send(given)
            await client.wait("ready")
            yield client
        finally:
            await client.kill()

    async def wait(self, *names: str, after: int = 0, within: float = WITHIN) -> dict[str, Any]:
        """The first event with one of these names, beginning at `events[after]`; answers to commands aside."""
        return await self._until(lambda event: event["event"] in names and "n" not in event, names, after, within)

    async def ask(self, command: dict[str, Any], within: float = WITHIN) -> dict[str, Any]:
        """Send a command that is answered; the answer, which may be an error."""
        after = len(self.events)
        number = self._asked = self._asked + 1
        await self._send({**command, "n": number})
        return await self._until(lambda event: event.get("n") == number, (command["cmd"],), after, within)

    async def _until(
        self, wanted: Callable[[dict[str, Any]], bool], names: tuple[str, ...], after: int, within: float
    ) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((event for event in self.events[after:] if wanted(event)), None)

        try:
            async with asyncio.timeout(within), self._arrived:
                await self._arrived.wait_for(lambda: found() is not None or self.over)
        except TimeoutError:
            raise AssertionError(f"no {names} within {within} s, but {self.events[after:]}") from None
        event = found()
        if event is None:
            raise AssertionError(f"PouchDB ended without {names}: {self.events[after:]}")
        return event

    async def _done(self, command: str, within: float) -> dict[str, Any]:
        """Start a replication and wait for its end."""
        after = len(self.events)
        await self._send({"cmd": command})
        return await self.wait("complete", "error", after=after, within=within)

    async def replicate(self, within: float = WITHIN) -> dict[str, Any]:
        """Replicate once: the `complete` event, or the `error` event."""
        return await self._done("replicate", within)

    async def live(self) -> None:
        """Replicate from now on, for ever."""
        await self._send({"cmd": "live"})

    async def sync(self, within: float = WITHIN) -> dict[str, Any]:
        """Both ways, once."""
        return await self._done("sync", within)

    async def docs(self, startkey: str | None = None, endkey: str | None = None) -> list[dict[str, Any]]:
        """The local documents, whole."""
        command: dict[str, Any] = {"cmd": "docs", "conflicts": True}
        if startkey is not None:
            command["startkey"] = startkey
        if endkey is not None:
            command["endkey"] = endkey
        documents: list[dict[str, Any]] = (await self.ask(command))["docs"]
        return documents

    async def get(self, document_id: str) -> dict[str, Any] | None:
        """One local document, attachments inline; None if it is not there."""
        event = await self.ask({"cmd": "get", "id": document_id})
        return event.get("doc")

    async def heed(self, document_id: str) -> None:
        """From now on an event `heard` at each change of a local document, with all that is there then."""
        await self.ask({"cmd": "heed", "id": document_id})

    async def put(self, document: dict[str, Any]) -> dict[str, Any]:
        """Write into the local store."""
        return await self.ask({"cmd": "put", "doc": document})

    async def until_document(self, document_id: str, within: float = WITHIN, **fields: Any) -> dict[str, Any]:
        """Wait until the local document has these fields."""
        async with asyncio.timeout(within):
            while True:
                seen = len(self.events)
                document = await self.get(document_id)
                if document is not None and all(document.get(name) == value for name, value in fields.items()):
                    return document
                with contextlib.suppress(AssertionError):
                    await self.wait("change", after=seen, within=0.5)

    async def stop(self) -> None:
        """End in order, so that the store is closed."""
        await self.ask({"cmd": "stop"})
        await self._process.wait()

    async def kill(self) -> None:
        """End at once."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await self._reader
        if self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await self._process.stdin.wait_closed()

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - asked for at the start
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - asked for at the start
        async for line in self._process.stdout:
            async with self._arrived:
                self.events.append(json.loads(line))
                self._arrived.notify_all()
        async with self._arrived:
            self.over = True
            self._arrived.notify_all()
