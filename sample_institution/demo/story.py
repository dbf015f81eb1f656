"""The story of the demo: somebody signs in, a phone synchronises, the ledger moves, what is taken away leaves."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from passbook.data_directory import data_directory
from passbook.database import database_url, sql_engine
from passbook.embedded import couchdb, node, postgres
from passbook.errors import PortBusy, Unavailable
from passbook.settings import Settings
from sample_institution import moves
from sample_institution.demo import children, ledger, people
from sample_institution.demo.auth_client import AuthClient, SignedIn
from sample_institution.demo.feed import listening
from sample_institution.demo.memory import Login, Memory, remembered
from sample_institution.demo.summary import say
from sample_institution.pouch import CLIENTS, PouchClient

_SEEN_WITHIN_SECONDS = 30.0
_ROWS_SHOWN = 16
_LINES_TOLD = 8
_LOOK_EVERY = 0.05  # seconds
#: What starts it: `make demo` in a checkout.
_DEMO = "make demo" if Path("Makefile").exists() and CLIENTS.is_relative_to(Path.cwd()) else "passbook demo"
_ELSEWHERE = 1000  # added to a port that is taken: far from the demo's others


class Story:
    """Tells the demo on `console`."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._directory = settings.data_dir.absolute()
        self._pictures = self._directory / "content"
        self._clients = CLIENTS

    async def tell(self, *, once: bool) -> None:
        """The whole story; without `once` it stays until it is cancelled."""
        started = time.monotonic()
        _require_port(self._settings.gateway_port, "PASSBOOK_GATEWAY_PORT")
        _require_port(self._settings.auth_port, "PASSBOOK_AUTH_PORT")
        data_directory(self._directory)
        self._fetch_packages()
        self._say("Starting PostgreSQL and a CouchDB-speaking server, both embedded …")
        with postgres.running(self._settings) as address, couchdb.running(self._settings):
            engine = sql_engine(database_url(address.url("ledger")))
            try:
                await self._play(engine, started, once=once)
            finally:
                engine.dispose()

    async def _play(self, engine: Engine, started: float, *, once: bool) -> None:
        env = children.environment(self._settings)
        memory = remembered(self._directory)
        if memory is None:
            memory = await asyncio.to_thread(ledger.make_institution, engine, self._pictures)
        # The passwords are written down before they are set, so that none gets lost.
        memory.save(self._directory)
        made = await children.command(["init", "--administrator", memory.administrator.username], env)
        logs = self._directory / "logs"
        async with (
            children.running(["gateway"], env, logs / "gateway.log", ready="Gateway listens") as gateway,
            children.running(["auth"], env, logs / "auth.log", ready="Auth service listens") as service,
            children.running(["worker", "run"], env, logs / "worker.log", ready="worker: ready") as worker,
            AuthClient.at(f"http://127.0.0.1:{self._settings.auth_port}") as auth,
        ):
            administrator = await people.arrange(auth, memory, made["administrator"], env)
            await self._projected(env)
            self._introduce(memory, time.monotonic() - started)
            device = await self._registered(auth, memory, memory.customer)
            async with self._phone(device) as phone:
                await self._first_sync(phone, memory.customer)
                await self._live(phone, engine, memory.customer)
                await self._agent(auth, memory, administrator)
                if once:
                    self._say("\nThat was all of it: ledger → documents → phone. Everything is stopped again.")
                    return
                self._invite(memory.customer)
                await self._stay(phone, gateway, service, worker)

    async def _projected(self, env: dict[str, str]) -> None:
        """Wait until the worker's first pass is over: a second one after it has nothing to write."""
        with self._console.status("The worker projects the ledger …") if self._console.is_terminal else _nothing():
            summary = await children.command(["worker", "once"], env)
        if summary["failures"]:
            raise Unavailable("The worker could not project the sample institution.")

    async def _registered(self, auth: AuthClient, memory: Memory, login: Login) -> dict[str, Any]:
        """The credential of the login's phone, got as an app gets it."""
        started = time.monotonic()
        person = await auth.sign_in(login.username, login.password)
        device = await people.register(person, login, lambda: memory.save(self._directory))
        took = f"{time.monotonic() - started:.2f} s"
        self._say(f"\n{login.username} signs in (POST /oauth/token) and registers a phone (POST /devices): {took}.")
        return device

    def _introduce(self, memory: Memory, seconds: float) -> None:
        self._say(f"Ready after {seconds:.1f} s.\n")
        table = Table(title="What runs", title_justify="left", show_header=False)
        table.add_row("auth service: sign-in, devices", self._address(self._settings.auth_port))
        table.add_row("gateway, the only door", f"{self._address(self._settings.gateway_port)}/passbook")
        table.add_row("core ledger, sample institution", f"embedded PostgreSQL, {ledger.CLIENTS} clients")
        table.add_row("documents", "embedded server, one database per person, reached by gateway and worker alone")
        table.add_row("data and logs", str(self._settings.data_dir))
        table.add_row("business date", "30 June 2026: the sample institution's clock stands still")
        self._console.print(table)
        logins = Table(
            "login",
            "kind",
            "clients",
            "password",
            title="Sample logins; the passwords were drawn at the first start",
        )
        logins.title_justify = "left"
        for login in memory.logins:
            logins.add_row(login.username, login.kind, str(len(login.clients) or "–"), login.password)
        self._console.print(logins)

    async def _first_sync(self, phone: PouchClient, login: Login) -> None:
        seconds = await _synchronised(phone)
        documents = await phone.docs()
        self._say(f"A real PouchDB synchronises with its credential: {len(documents)} documents, {seconds:.2f} s.")
        table = Table("document", "what it says", title=f"On {login.username}'s phone, readable with no network")
        table.title_justify = "left"
        shown = [one for one in documents if one["type"] != "savings_transactions"]
        for document in shown[:_ROWS_SHOWN]:
            table.add_row(document["_id"], say(document))
        hidden = len(documents) - min(len(shown), _ROWS_SHOWN)
        if hidden:
            table.add_row("…", f"{hidden} more, most of them months of savings transactions")
        self._console.print(table)

    async def _live(self, phone: PouchClient, engine: Engine, login: Login) -> None:
        """A repayment at the branch arrives on the phone while it watches."""
        client = login.clients[0]
        loan = await asyncio.to_thread(moves.open_loan_of, engine, client)
        before = await phone.get(f"loan:{loan}")
        assert before is not None  # noqa: S101 - it was in the table just now
        amount = min(Decimal("10"), Decimal(before["summary"]["total_outstanding"]))
        symbol = before["currency"]["symbol"]
        seen = len(phone.events)
        await phone.live()
        await phone.wait("paused", after=seen)
        seen = len(phone.events)
        self._say(f"\nThe phone watches. At the branch, {amount} {symbol} is repaid on loan {loan} …")
        started = time.monotonic()
        await asyncio.to_thread(moves.repay, engine, loan, amount)
        changed = await self._changes(phone, seen)
        seconds = time.monotonic() - started
        after = await phone.get(f"loan:{loan}") or before
        table = Table("document", "now says", title="What changed on the phone", title_justify="left")
        for document_id in sorted(changed):
            style = "bold green" if document_id == f"loan:{loan}" else ""
            table.add_row(document_id, Text(say(await phone.get(document_id) or {}), style=style))
        self._console.print(table)
        left = f"{before['summary']['total_outstanding']} → {after['summary']['total_outstanding']} {symbol} left"
        self._say(f"{left}: on the phone {seconds:.1f} s after it was in the ledger.")

    async def _agent(self, auth: AuthClient, memory: Memory, administrator: SignedIn) -> None:
        """A client is taken away from the agent and leaves the phone; then the phone's access ends."""
        login = memory.agent
        device = await self._registered(auth, memory, login)
        async with self._phone(device) as phone:
            seconds = await _synchronised(phone)
            count = len(await phone.docs())
            carried = f"{len(login.clients)} clients: {count} documents"
            self._say(f"The agent {login.username} carries {carried}, {seconds:.2f} s.")
            await self._take_away(phone, administrator, login)
            await self._revoke(phone, administrator, device)

    async def _revoke(self, phone: PouchClient, administrator: SignedIn, device: dict[str, Any]) -> None:
        """The phone listens while its access ends: its connection is torn; when it asks again it is told why."""
        async with listening(device) as feed:
            started = time.monotonic()
            await administrator.send(
                "POST", f"/admin/devices/{device['device']}/revoke", {"reason": "told in the demo"}
            )
            await feed.over(_SEEN_WITHIN_SECONDS)
            seconds = time.monotonic() - started
        refused = await phone.replicate()
        if refused["event"] != "error":
            raise Unavailable("A revoked phone still synchronises.")
        answer = f"{refused['status']} {refused['body']['code']}"
        self._say(f"The administrator revokes the phone while it listens: cut off after {seconds:.2f} s.")
        self._say(f"Its next sync is refused: {answer}.")

    async def _take_away(self, phone: PouchClient, administrator: SignedIn, login: Login) -> None:
        client = login.clients[0]
        before = await phone.docs()
        person = await people.find(administrator, login.username)
        assert person is not None  # noqa: S101 - signed in just now
        path = f"/admin/people/{person['person']}"
        started = time.monotonic()
        await administrator.send("DELETE", f"{path}/clients/{client}", if_match=f'"{person["version"]}"')
        change = (await administrator.send("GET", f"{path}/changes"))["items"][0]
        name = next(one["display_name"] for one in before if one["_id"] == f"client:{client}")
        self._say(f"The administrator takes client {client}, {name}, away from the agent: {change['state']} …")
        change = await self._carried_out(administrator, f"{path}/changes", change["change"])
        seconds = time.monotonic() - started
        self._say(f"… {change['state']} after {seconds:.1f} s: {change['documents_removed']} documents taken back.")
        seconds = await _synchronised(phone)
        after = await phone.docs()
        if any(one.get("client_id") == client for one in after):
            raise Unavailable("Documents of a client that was taken away are still on the phone.")
        gone = len(before) - len(after)
        self._say(f"The phone synchronises: {gone} documents leave it, {len(after)} stay, {seconds:.2f} s.")

    async def _carried_out(self, administrator: SignedIn, path: str, number: int) -> dict[str, Any]:
        """The change of that number, once the worker has carried it out."""
        end = time.monotonic() + _SEEN_WITHIN_SECONDS
        while time.monotonic() < end:
            changes: list[dict[str, Any]] = (await administrator.send("GET", path))["items"]
            done = next((one for one in changes if one["change"] == number and one["state"] == "done"), None)
            if done:
                return done
            await asyncio.sleep(_LOOK_EVERY)
        raise Unavailable("The worker does not carry the change out.", remedy=f"See {self._directory / 'logs'}.")

    async def _changes(self, phone: PouchClient, seen: int) -> set[str]:
        """Ids of what arrives, up to the manifest, which comes last."""
        changed: set[str] = set()
        end = time.monotonic() + _SEEN_WITHIN_SECONDS
        while "~passbook" not in changed:
            try:
                event = await phone.wait("change", after=seen, within=max(end - time.monotonic(), 0.1))
            except AssertionError:
                raise Unavailable(
                    "The change did not reach the phone.", remedy=f"See {self._directory / 'logs'}."
                ) from None
            seen = phone.events.index(event, seen) + 1
            changed.update(event["ids"])
        return changed

    def _invite(self, login: Login) -> None:
        variables = {
            "PASSBOOK_GATEWAY_PORT": (self._settings.gateway_port, 8710),
            "PASSBOOK_AUTH_PORT": (self._settings.auth_port, 8720),
        }
        other = "".join(f"{name}={port} " for name, (port, usual) in variables.items() if port != usual)
        self._say("\nIt goes on running; what reaches the phone is told below. In another terminal, try:")
        for line in (
            "sample-ledger move deposit --client 1 --amount 25",
            f"person permit {login.username} --deny transactions",
            "verify",
        ):
            self._say(f"  {other}{_shown(Path(sys.executable).parent)}/passbook {line}")
        program = "node" if shutil.which("node") else node.find().node
        phone = self._settings.data_dir / "my-phone"
        arguments = f"{self._address(self._settings.auth_port)} {login.username} {phone}"
        self._say(f"  echo {login.password} | {program} {_shown(self._clients)}/scripts/sign_in.mjs {arguments}")
        ports = (self._settings.gateway_port, self._settings.auth_port)
        reverse = " && ".join(f"adb reverse tcp:{port} tcp:{port}" for port in ports)
        self._say(
            "It answers on this machine alone: for phones on a network it would need TLS. An Android phone on a "
            f"cable, or an emulator, reaches it after\n  {reverse}"
        )
        origins = self._settings.browser_origins
        self._say(
            f"Pages of {', '.join(origins)} may use it from a browser."
            if origins
            else f"A page in a browser may use it after PASSBOOK_CORS_ORIGINS=http://localhost:5173 {_DEMO}, "
            "with the page's own origin."
        )
        self._say("Ctrl-C ends it; the data stays for the next start.\n")

    @staticmethod
    def _address(port: int) -> str:
        return f"http://127.0.0.1:{port}"

    async def _stay(self, phone: PouchClient, *processes: children.Child) -> None:
        """Tell of every change that reaches the phone, until cancelled."""
        seen = len(phone.events)
        while True:
            for process in processes:
                process.check()
            with contextlib.suppress(AssertionError):
                event = await phone.wait("change", after=seen, within=1.0)
                seen = phone.events.index(event, seen) + 1
                gone = set(event["deleted"])
                for document_id in [one for one in event["ids"] if one not in gone][:_LINES_TOLD]:
                    self._say(f"  ↓ {document_id}: {say(await phone.get(document_id) or {})}")
                more = len(event["ids"]) - len(gone) - _LINES_TOLD
                if more > 0:
                    self._say(f"  ↓ and {more} more documents")
                if gone:
                    self._say(f"  ↓ taken back: {len(gone)} documents, {min(gone)} among them")

    def _phone(self, device: dict[str, Any]) -> contextlib.AbstractAsyncContextManager[PouchClient]:
        credential = (device["url"], device["username"], device["password"])
        return PouchClient.started(*credential, clients=self._clients)

    def _fetch_packages(self) -> None:
        """PouchDB for the phone and for the embedded server, the first time."""
        self._clients = node.installable(CLIENTS, self._directory / "clients")
        for directory in (self._clients, node.installable(couchdb.SOURCES, self._directory / "couchdb" / "server")):
            if not node.installed(directory):
                self._say(f"Fetching npm packages for {directory.name}, once …")
                node.ensure_packages(directory)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _shown(path: Path) -> Path:
    """A path as one types it in the present folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _require_port(port: int, variable: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise PortBusy(
                f"Port {port} is taken by another program; is another demo running?",
                remedy=f"End it, or choose another port: {variable}={port + _ELSEWHERE} {_DEMO}",
            ) from None


async def _synchronised(phone: PouchClient) -> float:
    """Synchronise once; the seconds it took."""
    started = time.monotonic()
    done = await phone.replicate()
    if done["event"] != "complete" or not done["ok"]:
        raise Unavailable(f"The phone could not synchronise: {done.get('message', done)}.")
    return time.monotonic() - started


@contextlib.contextmanager
def _nothing() -> Any:
    yield
