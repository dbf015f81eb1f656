"""The services compared, as the load sees them, and the peer: `@perfood/couch-auth` in an Express server."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import psutil
from yarl import URL

from benchmarks.stage import _server as listener
from passbook.embedded import node
from passbook.errors import Unavailable

PEER = Path(__file__).parent
PEER_NODE = 20  # oldest major version the peer runs on
READY_WITHIN = 60.0  # seconds until a server must listen, and until a person's database must be there
ANSWER_WITHIN = 180.0  # seconds, for one request: under load the peer takes long, and that is to be seen
#: Everybody's. Random, so that no service finds it weak.
PASSWORD = secrets.token_urlsafe(15)


class NotGranted(Exception):
    """A step was answered otherwise than hoped; the text is the step and the status."""


@dataclass(frozen=True)
class Credential:
    """What PouchDB would be given."""

    url: str
    username: str
    password: str


class Side(Protocol):
    """One of the services compared. Names are e-mail addresses, since the peer signs people in with those."""

    label: str
    #: Seconds of each step since it was last emptied.
    steps: dict[str, list[float]]

    async def start(self) -> None:
        """Start its processes."""

    async def provision(self, name: str) -> None:
        """A person with `PASSWORD`, their database, and a first credential that has read it."""

    async def sign_in(self, name: str, password: str) -> Credential:
        """Password in, new replication credential out."""

    async def readable(self, credential: Credential) -> bool:
        """Whether the credential reads the database it is for."""

    async def orphans(self) -> dict[str, int]:
        """What exists and should not, or is known of and does not exist; by kind, nought included."""

    async def stop(self) -> None:
        """End the processes and remove everything that was made."""

    def stats(self) -> dict[str, float]:
        """CPU seconds that each server process, with its children, has used so far."""


class Http:
    """Requests whose answers are timed by step."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = defaultdict(list)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        )

    async def ask(
        self, method: str, url: str, *, step: str = "", expect: Sequence[int] = (200,), **more: Any
    ) -> Any:
        """The JSON answer. Any other status than those expected is `NotGranted`; `step` says what is timed."""
        step = step or f"{method} {URL(url).path}"
        started = time.monotonic()
        try:
            async with self.session.request(method, url, **more) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotGranted(f"{step}: {type(error).__name__}") from None
        finally:
            self.steps[step].append(time.monotonic() - started)
        if response.status not in expect:
            raise NotGranted(f"{step}: {response.status}")
        return json.loads(body) if body else None

    async def reads(self, credential: Credential) -> bool:
        """Whether the credential reads its database."""
        login = {"Authorization": aiohttp.encode_basic_auth(credential.username, credential.password)}
        try:
            await self.ask("GET", credential.url, step="read", headers=login)
        except NotGranted:
            return False
        return True


class Peer:
    """`@perfood/couch-auth` in an Express server; `benchmarks/peer/server.mjs` names its settings."""

    label = "couch-auth"

    def __init__(self, couchdb: str) -> None:
        self._couchdb = couchdb
        self._run = f"peer-{secrets.token_hex(6)}"
        self._users = f"{self._run}-users"
        parts = urlsplit(couchdb)
        self._public = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        self._http = Http()
        self.steps = self._http.steps
        found = node.find()
        if int(found.version.split(".")[0]) < PEER_NODE:
            raise Unavailable(f"The peer needs Node {PEER_NODE} or later; {found.node} is {found.version}.")
        await asyncio.to_thread(node.ensure_packages, PEER, found)
        await self._http.ask("PUT", f"{self._couchdb}/{self._users}", expect=(201, 202))
        directory = self._stack.enter_context(TemporaryDirectory(prefix="passbook-bench-"))
        self._log = Path(directory, "log")
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                found.node,
                str(PEER / "server.mjs"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=found.environment,
            )
        self._stack.push_async_callback(self._end)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Not as an argument: there everybody on the machine could read the password.
        about = {"couchdb": self._couchdb, "users": self._users, "prefix": self._run, "role": self._run}
        self._process.stdin.write(json.dumps(about).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), READY_WITHIN)
        if not line:
            raise Unavailable(f"The peer did not start:\n{self._log.read_text(errors='replace')}")
        self._url = f"http://127.0.0.1:{json.loads(line)['port']}/auth"
        self._node = psutil.Process(self._process.pid)
        self._couch = listener(self._couchdb)

    async def _end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()

    async def provision(self, name: str) -> None:
        form = {"email": name, "password": PASSWORD, "confirmPassword": PASSWORD}
        credential = self._credential(await self._http.ask("POST", f"{self._url}/register", json=form))
        if not await self.readable(credential):
            raise NotGranted("read: refused")

    async def sign_in(self, name: str, password: str) -> Credential:
        form = {"username": name, "password": password}
        return self._credential(await self._http.ask("POST", f"{self._url}/login", json=form))

    def _credential(self, session: dict[str, Any]) -> Credential:
        path = urlsplit(session["userDBs"]["own"]).path
        return Credential(self._public + path, session["token"], session["password"])

    async def readable(self, credential: Credential) -> bool:
        return await self._http.reads(credential)

    async def orphans(self) -> dict[str, int]:
        records = await self._documents(self._users)
        live = {one["name"] for one in await self._credentials() if one["expires"] > time.time() * 1000}
        remembered = {key for one in records for key in one.get("session", {})}
        made = set(await self._databases())
        held = {name for one in records for name in one.get("personalDBs", {})}
        return {
            "credentials nobody remembers": len(live - remembered),
            "credentials remembered but gone": len(remembered - live),
            "databases without a person": len(made - held),
            "people without a database": len(held - made),
            "people entered more than once": len(records) - len({one["email"] for one in records}),
        }

    async def _documents(self, database: str) -> list[dict[str, Any]]:
        url = f"{self._couchdb}/{database}/_all_docs?include_docs=true"
        rows = (await self._http.ask("GET", url))["rows"]
        return [row["doc"] for row in rows if not row["id"].startswith("_design/")]

    async def _credentials(self) -> list[dict[str, Any]]:
        return [one for one in await self._documents("_users") if self._run in one.get("roles", ())]

    async def _databases(self) -> list[str]:
        bounds = {"startkey": f'"{self._run}_"', "endkey": f'"{self._run}_\ufff0"'}
        found: list[str] = await self._http.ask("GET", f"{self._couchdb}/_all_dbs", params=bounds)
        return found

    async def stop(self) -> None:
        await self._stack.aclose()
        async with self._http.session:
            await each(8, [*await self._databases(), self._users], self._remove)
            gone = [{"_id": one["_id"], "_rev": one["_rev"], "_deleted": True} for one in await self._credentials()]
            url = f"{self._couchdb}/_users/_bulk_docs"
            await self._http.ask("POST", url, json={"docs": gone}, expect=(201, 202))

    async def _remove(self, name: str) -> None:
        url = URL(f"{self._couchdb}/{name.replace('$', '%24')}", encoded=True)
        await self._http.ask("DELETE", str(url), step="remove", expect=(200, 202, 404))

    def stats(self) -> dict[str, float]:
        return {"node": cpu_of(self._node), "couchdb": cpu_of(self._couch)}


async def each(at_once: int, items: Iterable[Any], act: Callable[[Any], Awaitable[None]]) -> None:
    """`act` on every item, so many at a time."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await act(item)

    await asyncio.gather(*(work() for _ in range(at_once)))


def cpu_of(process: psutil.Process | None) -> float:
    """CPU seconds of a process, its children, and those of them that have ended."""
    if process is None:
        return 0.0
    used = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
    return used
