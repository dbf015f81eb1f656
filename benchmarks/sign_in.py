"""People provisioned and signed in per second: our auth service beside its nearest peer, on the same CouchDB.

    python -m benchmarks.sign_in --seconds 30

*Provisioning* is a person, their own CouchDB database and a first credential that has read that database.
*Sign-in* is a password in, a new replication credential out. Both are done at several concurrencies for distinct
people, then many times at once for one person. Afterwards it is counted what nobody knows of any more. The peer is
`@perfood/couch-auth` under Node (`benchmarks/peer`). It needs a real CouchDB (PASSBOOK_TEST_COUCHDB_URL): the
peer's credentials are CouchDB's own users. Everything that is made is removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import os
import resource
import secrets
import socket
import statistics
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import argon2
import psutil
import sqlalchemy as sa

from auth_service import passwords
from benchmarks.peer.side import PASSWORD, READY_WITHIN, Credential, Http, NotGranted, Peer, Side, cpu_of, each
from benchmarks.stage import Stage, cpu_seconds, stage
from passbook.credentials import new_id, principal
from passbook.output import print_table
from passbook.servicedb.tables import administrator, device, person
from sample_institution.demo.children import command, running

PEER_ITERATIONS = 600_000  # PBKDF2-SHA256, of the peer's default


class Ours:
    """`passbook auth`, a worker that makes the databases, and the gateway that a credential is for.

    People are made as an administrator makes them: with an initial password, which its owner changes at first
    sign-in. So a person provisioned costs four hashes (made, first sign-in, old one checked, new one kept), where
    the peer's costs one.
    """

    label = "passbook"

    def __init__(self, on: Stage) -> None:
        self._on = on
        self._stack = AsyncExitStack()
        self._tokens: dict[str, str] = {}
        self._known: list[str] = []  # ids of the people made
        self._admin = ("", 0.0)
        self._admin_turn = asyncio.Lock()

    async def start(self) -> None:
        self._http = Http()
        self.steps = self._http.steps
        auth, gateway = _free_port(), _free_port()
        outside = self._on.outside
        self.environment = {
            **os.environ,
            "PASSBOOK_LEDGER_URL": outside.ledger_url,
            "PASSBOOK_SERVICE_DB_URL": outside.service_url,
            "PASSBOOK_COUCHDB_URL": outside.couchdb_url,
            "PASSBOOK_DATA_DIR": str(outside.settings.data_dir),
            "PASSBOOK_AUTH_SECRET": secrets.token_urlsafe(32),
            "PASSBOOK_AUTH_PORT": str(auth),
            "PASSBOOK_GATEWAY_PORT": str(gateway),
            "PASSBOOK_GATEWAY_ADMIN_PORT": "0",
            # Everybody comes from an address of their own, as `X-Forwarded-For` says: behind one, the brake on
            # guessing would (rightly) slow down so many who have never signed in there.
            "PASSBOOK_TRUSTED_PROXIES": "127.0.0.1",
            # Somebody waits for each database here; with the default they would wait up to 5 s.
            "PASSBOOK_WORKER_INTERVAL_SECONDS": "0.1",
            # One person gets many credentials here; the default of 10 would refuse them, as it should.
            "PASSBOOK_DEVICES_PER_PERSON": "100000",
        }
        self._administrator = f"bench-{secrets.token_hex(4)}"
        with self._on.database.begin() as connection:
            row = {
                "id": new_id("administrator"),
                "username": self._administrator,
                "role": "owner",
                "password_hash": passwords.hash_password(PASSWORD),
                "must_change_password": False,
            }
            connection.execute(sa.insert(administrator).values(row))
            postgres = connection.execute(sa.text("SHOW data_directory")).scalar_one()
        self._before = set(await self._all_databases())
        self._processes = {
            "couchdb": self._on.server,
            "postgres": psutil.Process(int(Path(postgres, "postmaster.pid").read_text().split()[0])),
        }
        for name, words, ready in (
            ("auth", ["auth"], "listens"),
            ("worker", ["worker", "run"], "worker: ready"),
            ("gateway", ["gateway"], "listens"),
        ):
            log = Path(outside.settings.data_dir, f"{name}.log")
            child = await self._stack.enter_async_context(running(words, self.environment, log, ready=ready))
            self._processes[name] = psutil.Process(child.process.pid)
        self._url = f"http://127.0.0.1:{auth}"

    async def provision(self, name: str) -> None:
        made = await self._http.ask(
            "POST",
            f"{self._url}/admin/people",
            json={"username": name, "kind": "customer", "clients": []},
            headers={"Authorization": f"Bearer {await self._as_administrator()}"},
            expect=(201,),
        )
        self._known.append(made["person"]["person"])
        await self._http.ask(
            "POST",
            f"{self._url}/activation",
            json={"username": name, "code": made["activation"]["code"], "password": PASSWORD},
            expect=(204,),
        )
        token = await self._token(name, PASSWORD)
        credential = await self._register(name, token)
        end = time.monotonic() + READY_WITHIN
        pause = 0.05
        while not await self.readable(credential):
            if time.monotonic() > end:
                raise NotGranted("read: not in time")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

    async def sign_in(self, name: str, password: str) -> Credential:
        return await self._register(name, await self._token(name, password))

    async def _token(self, name: str, password: str) -> str:
        form = {"grant_type": "password", "username": name, "password": password}
        given = await self._http.ask(
            "POST", f"{self._url}/oauth/token", data=form, headers={"X-Forwarded-For": _place(name)}
        )
        return str(given["access_token"])

    async def _register(self, name: str, token: str) -> Credential:
        given = await self._http.ask(
            "POST",
            f"{self._url}/devices",
            json={"name": "benchmark"},
            headers={**self._headers(name, token), "Idempotency-Key": str(uuid.uuid4())},
            expect=(201,),
        )
        self._tokens[name] = token
        return Credential(given["url"], given["username"], given["password"])

    def _headers(self, name: str, token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}", "X-Forwarded-For": _place(name)}

    async def _as_administrator(self) -> str:
        async with self._admin_turn:
            token, until = self._admin
            if time.monotonic() > until:
                form = {"grant_type": "password", "username": self._administrator, "password": PASSWORD}
                given = await self._http.ask("POST", f"{self._url}/admin/oauth/token", data=form)
                token = given["access_token"]
                self._admin = (token, time.monotonic() + given["expires_in"] / 2)
            return token

    async def readable(self, credential: Credential) -> bool:
        return await self._http.reads(credential)

    async def orphans(self) -> dict[str, int]:
        with self._on.database.begin() as connection:
            people = connection.execute(sa.select(person.c.id, person.c.username, person.c.database_name)).all()
            rows = set(connection.execute(sa.select(device.c.id).where(device.c.revoked_at.is_(None))).scalars())
        listed: set[str] = set()

        async def look(name: str) -> None:
            listed.update(await self._devices(name))

        await each(8, sorted(self._tokens), look)
        there = set(await self._all_databases())
        held = {one.database_name for one in people}
        ours = {principal(one) for one in self._known}
        strangers = 0
        for name in there - self._before - held:
            security = await self._http.ask("GET", f"{self._on.outside.couchdb_url}/{name}/_security", step="look")
            strangers += bool(ours & set(security.get("members", {}).get("names", ())))
        return {
            "credentials nobody remembers": len(rows - listed),
            "credentials remembered but gone": len(listed - rows),
            "databases without a person": strangers,
            "people without a database": len(held - there),
            "people entered more than once": len(people) - len({one.username.lower() for one in people}),
        }

    async def _devices(self, name: str) -> set[str]:
        url = f"{self._url}/devices"
        try:
            found = await self._http.ask("GET", url, headers=self._headers(name, self._tokens[name]))
        except NotGranted:  # the token has expired meanwhile
            self._tokens[name] = await self._token(name, PASSWORD)
            found = await self._http.ask("GET", url, headers=self._headers(name, self._tokens[name]))
        return {one["device"] for one in found["items"] if one["state"] == "active"}

    async def _all_databases(self) -> list[str]:
        found: list[str] = await self._http.ask("GET", f"{self._on.outside.couchdb_url}/_all_dbs", step="look")
        return found

    async def import_people(self, count: int) -> dict[str, Any]:
        """`passbook person import`: the bulk way, until the last database is there. No credentials: nobody asks."""
        file = Path(self._on.outside.settings.data_dir, "people.csv")
        run = f"bulk-{secrets.token_hex(4)}"
        _write_people(file, run, count)
        ready = sa.select(sa.func.count()).where(
            person.c.username.like(f"{run}-%"), person.c.database_ready_at.is_not(None)
        )
        before, started, ended = self.stats(), time.monotonic(), _cpu_of_ended_children()
        # With initial passwords, so that each is hashed: without, nobody could sign in.
        given = file.with_name("passwords.csv")
        await command(["person", "import", str(file), "--passwords-to", str(given)], self.environment)
        entered, own = time.monotonic() - started, _cpu_of_ended_children() - ended
        while True:
            with self._on.database.begin() as connection:
                if connection.execute(ready).scalar_one() == count:
                    break
            await asyncio.sleep(0.05)
        took = time.monotonic() - started
        return {
            "people": count,
            "entered_per_second": round(count / entered, 1),
            "with_database_per_second": round(count / took, 1),
            "cpu_seconds": {
                "import": round(own, 2),
                **{key: round(value - before[key], 2) for key, value in self.stats().items()},
            },
        }

    async def stop(self) -> None:
        await self._stack.aclose()
        async with self._http.session:
            with self._on.database.begin() as connection:
                names = list(connection.execute(sa.select(person.c.database_name)).scalars())
            await each(8, names, self._remove)

    async def _remove(self, name: str) -> None:
        url = f"{self._on.outside.couchdb_url}/{name}"
        await self._http.ask("DELETE", url, step="remove", expect=(200, 202, 404))

    def stats(self) -> dict[str, float]:
        return {name: cpu_of(process) for name, process in self._processes.items()}


class Play:
    """What is done with one side, and what came of it."""

    def __init__(self, side: Side, seconds: float) -> None:
        self.side = side
        self._seconds = seconds
        self._run = secrets.token_hex(3)
        self._number = 0
        self._people: deque[str] = deque()
        self.rows: list[dict[str, Any]] = []

    async def everything(self, levels: Sequence[int], bursts: int, crowd: int) -> None:
        """Provisioning and sign-ins of distinct people at each level, then both by a crowd with one name."""
        for level in levels:
            await self._level("provision", level, self._provision_next)
        for level in levels:
            await self._level("sign in", level, self._sign_in_next)
        await self._bursts("sign in", bursts, crowd, self._sign_in, [self._people[i] for i in range(bursts)])
        await self._bursts("provision", bursts, crowd, self._provision, [self._new_name() for _ in range(bursts)])

    def _new_name(self) -> str:
        self._number += 1
        return f"bench-{self._run}-{self._number}@example.com"

    async def _provision(self, name: str) -> None:
        await self.side.provision(name)

    async def _provision_next(self) -> None:
        name = self._new_name()
        await self.side.provision(name)
        self._people.append(name)

    async def _sign_in(self, name: str) -> Credential:
        return await self.side.sign_in(name, PASSWORD)

    async def _sign_in_next(self) -> Credential:
        # Whoever is signing in is not in the queue: at no level do two requests concern the same person.
        assert self._people, "nobody could be provisioned"
        name = self._people.popleft()
        try:
            return await self._sign_in(name)
        finally:
            self._people.append(name)

    async def _level(self, what: str, level: int, act: Callable[[], Awaitable[Any]]) -> None:
        tally = _Tally(self.side)
        until = time.monotonic() + self._seconds

        async def work() -> None:
            while time.monotonic() < until:
                await tally.time(act())

        await asyncio.gather(*(work() for _ in range(level)))
        await self._note(f"{what}, distinct people", level, tally)

    async def _bursts(
        self, what: str, bursts: int, crowd: int, act: Callable[[str], Awaitable[Any]], names: Sequence[str]
    ) -> None:
        tally = _Tally(self.side)
        for name in names[:bursts]:
            await asyncio.gather(*(tally.time(act(name)) for _ in range(crowd)))
        tally.end()
        later = 0
        for name in names:
            with suppress(NotGranted):
                await self._sign_in(name)
                later += 1
        await self._note(
            f"{what}, one person", crowd, tally, {"bursts": bursts, "who_could_sign_in_afterwards": later}
        )

    async def _note(self, what: str, level: int, tally: _Tally, more: dict[str, Any] | None = None) -> None:
        tally.end()
        credentials = [one for one in tally.results if isinstance(one, Credential)]
        read: list[bool] = []

        async def look(credential: Credential) -> None:
            read.append(await self.side.readable(credential))

        await each(8, credentials, look)
        row = {"what": what, "at_once": level, **tally.as_json(), **(more or {})}
        if credentials:
            row["credentials_that_read"] = f"{sum(read)} of {len(credentials)}"
        row["orphans_so_far"] = await self.side.orphans()
        self.rows.append(row)
        print(
            f"{self.side.label}: {what}, {level} at once: {row['per_second']}/s, {row['answers']}", file=sys.stderr
        )


class _Tally:
    """Answers, seconds and CPU of one level."""

    def __init__(self, side: Side) -> None:
        self._side = side
        side.steps.clear()
        self.answers: Counter[str] = Counter()
        self.results: list[Any] = []
        self._times: list[float] = []
        self._took = 0.0
        self._cpu = side.stats()
        self._own = cpu_seconds()
        self._started = time.monotonic()

    async def time(self, act: Awaitable[Any]) -> None:
        """Await it and note what came of it."""
        started = time.monotonic()
        try:
            self.results.append(await act)
        except NotGranted as problem:
            self.answers[str(problem)] += 1
        else:
            self.answers["granted"] += 1
            self._times.append(time.monotonic() - started)

    def end(self) -> None:
        """What comes now does not count. Can be called twice."""
        if not self._took:
            self._took = time.monotonic() - self._started
            self._cpu = {name: used - self._cpu[name] for name, used in self._side.stats().items()}
            self._own = cpu_seconds() - self._own
            self._steps = {name: statistics.median(times) for name, times in self._side.steps.items()}

    def as_json(self) -> dict[str, Any]:
        """The figures."""
        granted = self.answers["granted"]
        ordered = sorted(self._times)
        return {
            "seconds": round(self._took, 1),
            "per_second": round(granted / self._took, 2),
            "p50_ms": round(1000 * statistics.median(ordered)) if ordered else None,
            "p95_ms": round(1000 * ordered[int(0.95 * (len(ordered) - 1))]) if ordered else None,
            "answers": dict(self.answers),
            "cpu_seconds": {name: round(used, 2) for name, used in self._cpu.items()},
            "cpu_ms_each": round(1000 * sum(self._cpu.values()) / granted) if granted else None,
            "cpu_seconds_of_the_driver": round(self._own, 2),
            "steps_p50_ms": {name: round(1000 * median) for name, median in self._steps.items()},
        }


def limits(seconds: float) -> dict[str, float]:
    """Verifications of a password per second with nothing around them, on one core and on all."""
    kept = passwords.hash_password(PASSWORD)
    hasher = argon2.PasswordHasher()  # verifying takes the parameters from the hash

    def ours() -> None:
        hasher.verify(kept, PASSWORD)

    def peers() -> None:
        hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b"0" * 32, PEER_ITERATIONS)

    cores = os.cpu_count() or 1
    return {
        f"{name}_{count}_threads": round(_per_second(work, count, seconds), 1)
        for name, work in (("argon2id", ours), ("pbkdf2_sha256_600000", peers))
        for count in sorted({1, cores})
    }


def _per_second(work: Callable[[], None], threads: int, seconds: float) -> float:
    started = time.monotonic()

    def repeat(_: int) -> int:
        done = 0
        while time.monotonic() < started + seconds:
            work()
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(repeat, range(threads)))
    return done / (time.monotonic() - started)


def _place(name: str) -> str:
    """The address of somebody's phone."""
    digest = hashlib.sha256(name.encode()).digest()
    return f"10.{digest[0]}.{digest[1]}.{digest[2]}"


def _write_people(file: Path, run: str, count: int) -> None:
    with file.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(("username", "kind", "clients"))
        writer.writerows((f"{run}-{number}", "customer", "") for number in range(count))


def _cpu_of_ended_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def play(side: Side, arguments: argparse.Namespace) -> dict[str, Any]:
    """One side from its start to its end."""
    hashing = min(3.0, arguments.seconds)
    raw = {"before": await asyncio.to_thread(limits, hashing)}
    one = Play(side, arguments.seconds)
    try:
        await side.start()
        await one.everything(arguments.at_once, arguments.bursts, arguments.crowd)
        bulk = await side.import_people(arguments.bulk) if isinstance(side, Ours) and arguments.bulk else None
    finally:
        await side.stop()
    raw["after"] = await asyncio.to_thread(limits, hashing)  # other load on the machine shows in the difference
    return {"side": side.label, "hashes_per_second": raw, "rows": one.rows, **({"bulk": bulk} if bulk else {})}


def _table(found: Sequence[dict[str, Any]]) -> None:
    print_table(
        (
            "side",
            "what",
            "at once",
            "per s",
            "p50 ms",
            "p95 ms",
            "CPU ms each",
            "granted",
            "others",
            "orphans so far",
        ),
        [
            (
                side["side"],
                row["what"],
                row["at_once"],
                row["per_second"],
                row["p50_ms"],
                row["p95_ms"],
                row["cpu_ms_each"],
                row["answers"].get("granted", 0),
                "; ".join(f"{count} × {text}" for text, count in row["answers"].items() if text != "granted"),
                "; ".join(f"{count} {kind}" for kind, count in row["orphans_so_far"].items() if count),
            )
            for side in found
            for row in side["rows"]
        ],
    )


def main() -> None:
    """Run it; print a table, then the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each level")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 40], help="levels of distinct people")
    parser.add_argument("--crowd", type=int, default=40, help="requests at once for one person")
    parser.add_argument("--bursts", type=int, default=3, help="people who get such a crowd")
    parser.add_argument("--bulk", type=int, default=1000, help="people of the bulk import; 0: none")
    parser.add_argument("--only", choices=("peer", "ours"), help="one side alone")
    arguments = parser.parse_args()
    couchdb = os.environ.get("PASSBOOK_TEST_COUCHDB_URL", "").rstrip("/")
    if not couchdb:
        parser.error("set PASSBOOK_TEST_COUCHDB_URL: the peer needs a real CouchDB")
    found = []
    if arguments.only != "ours":
        found.append(asyncio.run(play(Peer(couchdb), arguments)))
    if arguments.only != "peer":
        with stage(10) as on:
            found.append(asyncio.run(play(Ours(on), arguments)))
    _table(found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
