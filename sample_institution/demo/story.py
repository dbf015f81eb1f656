"""The story of the demo: everything starts, a phone synchronises, the ledger moves, the phone knows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine, create_engine

from passbook.embedded import couchdb, node, postgres
from passbook.errors import PortBusy, Unavailable
from passbook.settings import Settings
from sample_institution import moves
from sample_institution.demo import children, ledger
from sample_institution.demo.ledger import Login, Memory
from sample_institution.demo.summary import say
from sample_institution.pouch import CLIENTS, PouchClient

_SEEN_WITHIN_SECONDS = 30.0
_ROWS_SHOWN = 16
_LINES_TOLD = 8
_USUAL_PORT = 8710


class Story:
    """Tells the demo on `console`."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._directory = settings.data_dir.absolute()
        self._pictures = self._directory / "content"

    async def tell(self, *, once: bool) -> None:
        """The whole story; without `once` it stays until it is cancelled."""
        started = time.monotonic()
        _require_port(self._settings.gateway_port)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._fetch_packages()
        self._say("Starting PostgreSQL and a CouchDB-speaking server, both embedded …")
        with postgres.running(self._settings) as address, couchdb.running(self._settings):
            engine = create_engine(address.url("ledger"))
            try:
                await self._play(engine, started, once=once)
            finally:
                engine.dispose()

    async def _play(self, engine: Engine, started: float, *, once: bool) -> None:
        env = children.environment(self._settings)
        memory = ledger.remembered(self._directory)
        if memory is None:
            memory = await asyncio.to_thread(ledger.make_institution, engine, self._pictures)
        await children.command(["init"], env)
        await self._people(memory, env)
        logs = self._directory / "logs"
        async with (
            children.running(["gateway"], env, logs / "gateway.log", ready="Gateway listens") as gateway,
            children.running(["worker", "run"], env, logs / "worker.log", ready="worker: ready") as worker,
        ):
            await self._projected(memory, env)
            self._introduce(memory, time.monotonic() - started)
            async with self._phone(memory.customer) as phone:
                await self._first_sync(phone, memory.customer)
                await self._agent(memory.agent)
                await self._live(phone, engine, memory.customer)
                if once:
                    self._say("\nThat was all of it: ledger → documents → phone. Everything is stopped again.")
                    return
                self._invite()
                await self._stay(phone, gateway, worker)

    async def _people(self, memory: Memory, env: dict[str, str]) -> None:
        for login in (memory.customer, memory.agent):
            if not login.password:
                clients = [argument for client in login.clients for argument in ("--client", str(client))]
                added = await children.command(
                    ["person", "add", "--username", login.username, "--kind", login.kind, *clients], env
                )
                login.password = added["initial_password"]
                memory.save(self._directory)
            if not login.device:
                login.device = await children.command(
                    ["device", "add", "--person", login.username, "--name", "demo phone"], env
                )
                memory.save(self._directory)
            login.device["url"] = f"{env['PASSBOOK_PUBLIC_URL'].rstrip('/')}/passbook"

    async def _projected(self, memory: Memory, env: dict[str, str]) -> None:
        """Wait until the worker's first pass is over: a second one after it has nothing to write."""
        with self._console.status("The worker projects the ledger …") if self._console.is_terminal else _nothing():
            summary = await children.command(["worker", "once"], env)
        if summary["failures"]:
            raise Unavailable("The worker could not project the sample institution.")

    @contextlib.asynccontextmanager
    async def _phone(self, login: Login, store: Path | None = None) -> AsyncIterator[PouchClient]:
        device = login.device
        async with PouchClient.started(
            device["url"], device["username"], device["password"], store=store or "memory"
        ) as phone:
            yield phone

    def _introduce(self, memory: Memory, seconds: float) -> None:
        self._say(f"Ready after {seconds:.1f} s.\n")
        table = Table(title="What runs", title_justify="left", show_header=False)
        gateway = f"http://127.0.0.1:{self._settings.gateway_port}/passbook"
        table.add_row("gateway, the only door", gateway)
        table.add_row("core ledger, sample institution", f"embedded PostgreSQL, {ledger.CLIENTS} clients")
        table.add_row("documents", "embedded server, one database per person, reached by gateway and worker alone")
        table.add_row("data and logs", str(self._settings.data_dir))
        table.add_row("business date", "30 June 2026: the sample institution's clock stands still")
        self._console.print(table)
        logins = Table("login", "kind", "clients", "initial password", title="Sample logins")
        logins.title_justify = "left"
        for login in (memory.customer, memory.agent):
            logins.add_row(login.username, login.kind, str(len(login.clients)), login.password)
        self._console.print(logins)

    async def _first_sync(self, phone: PouchClient, login: Login) -> None:
        started = time.monotonic()
        done = await phone.replicate()
        _expect(done)
        seconds = time.monotonic() - started
        documents = await phone.docs()
        self._say(f"\nA real PouchDB synchronised {login.username}: {len(documents)} documents, {seconds:.2f} s.")
        table = Table("document", "what it says", title=f"On {login.username}'s phone, readable with no network")
        table.title_justify = "left"
        shown = [one for one in documents if one["type"] != "savings_transactions"]
        for document in shown[:_ROWS_SHOWN]:
            table.add_row(document["_id"], say(document))
        hidden = len(documents) - min(len(shown), _ROWS_SHOWN)
        if hidden:
            table.add_row("…", f"{hidden} more, most of them months of savings transactions")
        self._console.print(table)

    async def _agent(self, login: Login) -> None:
        async with self._phone(login) as phone:
            started = time.monotonic()
            done = await phone.replicate()
            _expect(done)
            seconds = time.monotonic() - started
            count = len(await phone.docs())
        self._say(
            f"The agent {login.username} carries {len(login.clients)} clients: {count} documents, {seconds:.2f} s."
        )

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

    async def _changes(self, phone: PouchClient, seen: int) -> set[str]:
        """Ids of what arrives, up to the manifest, which comes last."""
        changed: set[str] = set()
        end = time.monotonic() + _SEEN_WITHIN_SECONDS
        while "passbook" not in changed:
            try:
                event = await phone.wait("change", after=seen, within=max(end - time.monotonic(), 0.1))
            except AssertionError:
                raise Unavailable(
                    "The change did not reach the phone.", remedy=f"See {self._directory / 'logs'}."
                ) from None
            seen = phone.events.index(event, seen) + 1
            changed.update(event["ids"])
        return changed

    def _invite(self) -> None:
        port = self._settings.gateway_port
        other = "" if port == _USUAL_PORT else f"PASSBOOK_GATEWAY_PORT={port} "
        self._say("\nIt goes on running; what reaches the phone is told below. In another terminal, try:")
        for line in (
            "sample-ledger move deposit --client 1 --amount 25",
            "person permit asha --deny transactions",
            "verify",
        ):
            self._say(f"  {other}.venv/bin/passbook {line}")
        self._say("Ctrl-C ends it; the data stays for the next start.\n")

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

    def _fetch_packages(self) -> None:
        """PouchDB for the phone and for the embedded server, the first time."""
        for directory in (CLIENTS, couchdb.SOURCES):
            if not node.installed(directory):
                self._say(f"Fetching npm packages for {directory.name}, once …")
                node.ensure_packages(directory)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _require_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise PortBusy(
                f"Port {port} is taken by another program; is another demo running?",
                remedy=f"End it, or choose another port: PASSBOOK_GATEWAY_PORT={port + 10} make demo",
            ) from None


def _expect(done: dict[str, Any]) -> None:
    if done["event"] != "complete" or not done["ok"]:
        raise Unavailable(f"The phone could not synchronise: {done.get('message', done)}.")


@contextlib.contextmanager
def _nothing() -> Any:
    yield
