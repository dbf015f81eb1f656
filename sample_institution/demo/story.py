"""The story of the demo: everything starts, a phone synchronises, the ledger moves, the phone knows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine, create_engine

from passbook.embedded import couchdb, postgres
from passbook.errors import Unavailable
from passbook.settings import Settings
from sample_institution import moves
from sample_institution.demo import children, ledger
from sample_institution.demo.ledger import Login, Memory
from sample_institution.demo.summary import say
from sample_institution.pouch import PouchClient

_SEEN_WITHIN_SECONDS = 30.0
_ROWS_SHOWN = 16


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
        self._directory.mkdir(parents=True, exist_ok=True)
        self._say("Starting PostgreSQL and a CouchDB-speaking server, both embedded …")
        with postgres.running(self._settings) as address, couchdb.running(self._settings):
            engine = create_engine(address.url("ledger"))
            try:
                await self._play(engine, started, once=once)
            finally:
                engine.dispose()

    async def _play(self, engine: Engine, started: float, *, once: bool) -> None:
        env = children.environment(self._settings, self._pictures)
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
        self._console.print(table)
        logins = Table(
            "login",
            "kind",
            "clients",
            "initial password",
            "device (PouchDB user name)",
            title="Who may log in",
            title_justify="left",
        )
        for login in (memory.customer, memory.agent):
            logins.add_row(
                login.username, login.kind, str(len(login.clients)), login.password, login.device["username"]
            )
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
        await phone.live()
        seen = len(phone.events)
        self._say(f"\nThe phone watches. At the branch, {amount} is repaid on loan {loan} …")
        started = time.monotonic()
        await asyncio.to_thread(moves.repay, engine, loan, amount)
        after = await self._until_changed(phone, f"loan:{loan}", before["_rev"], seen)
        seconds = time.monotonic() - started
        table = Table("document", "before", "after", "", title="What changed on the phone", title_justify="left")
        symbol = after["currency"]["symbol"]
        table.add_row(
            f"loan:{loan}",
            f"{before['summary']['total_outstanding']} {symbol} outstanding",
            Text(f"{after['summary']['total_outstanding']} {symbol} outstanding", style="bold green"),
            f"revision {before['_rev'].split('-')[0]} → {after['_rev'].split('-')[0]}",
        )
        self._console.print(table)
        self._say(f"On the phone {seconds:.1f} s after it was in the ledger (the worker looks every second).")

    async def _until_changed(self, phone: PouchClient, document: str, revision: str, seen: int) -> dict[str, Any]:
        end = time.monotonic() + _SEEN_WITHIN_SECONDS
        while time.monotonic() < end:
            await phone.wait("change", after=seen, within=max(end - time.monotonic(), 0.1))
            seen = len(phone.events)
            found = await phone.get(document)
            if found is not None and found["_rev"] != revision:
                return found
        raise Unavailable("The change did not reach the phone.", remedy=f"See {self._directory / 'logs'}.")

    def _invite(self) -> None:
        self._say("\nIt goes on running. Try, in another terminal:")
        for line in (
            "passbook sample-ledger move deposit --client 1 --amount 25   (then look here)",
            "passbook person permit asha --deny transactions",
            "passbook verify",
        ):
            self._say(f"  .venv/bin/{line}")
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
                for document_id in event["ids"]:
                    document = await phone.get(document_id)
                    self._say(f"  ↓ {document_id}: {say(document) if document else 'taken back'}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)


def _expect(done: dict[str, Any]) -> None:
    if done["event"] != "complete" or not done["ok"]:
        raise Unavailable(f"The phone could not synchronise: {done.get('message', done)}.")


@contextlib.contextmanager
def _nothing() -> Any:
    yield
