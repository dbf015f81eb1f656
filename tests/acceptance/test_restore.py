"""The restore drill: a service database is restored from a back-up, and nobody comes in again who was out."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from auth_service import devices, granting, people, wiping
from auth_service.devices import Credential, Terms
from passbook.audit import chain
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.witness import note
from tests.auth.running import Running, clean
from tests.support.actors import TESTER
from tests.support.api import PASSWORD, SECRET, Crowd
from tests.support.databases import Postgres
from tests.support.processes import ask, eventually
from tests.support.stage import Stage

TERMS = Terms("http://127.0.0.1:1", 90, 10)
OUT = ("revoked", "wiped", "suspended", "erased")


@dataclass
class Drill:
    """An installation with people and devices, its back-up, and processes on it."""

    stage: Stage
    pg: Postgres
    directory: Path
    stack: ExitStack
    people: dict[str, str] = field(default_factory=dict)
    devices: dict[str, Credential] = field(default_factory=dict)
    started: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.stage.environment,
            "PASSBOOK_AUTH_SECRET": SECRET,
            "PASSBOOK_GATEWAY_ADMIN_PORT": "0",
            "PASSBOOK_WORKER_INTERVAL_SECONDS": "1",
        }

    @property
    def name(self) -> str:
        return str(self.stage.database.url.database)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A command, run to its end."""
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "passbook", *arguments],
            env=clean(self.environment | settings),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def done(self, *arguments: str) -> Any:
        """What a command printed that must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str, **settings: str) -> Running:
        """A process that serves, or tries to."""
        self.started += 1
        process = Running(self.directory / str(self.started), self.environment | settings, *arguments)
        self.stack.callback(process.end)
        return process

    def populate(self) -> None:
        self.done("init")
        crowd = Crowd(self.stage.database)
        clients = self.stage.institution.active_clients
        for number, username in enumerate(("live", *OUT, "narrowed", "renewed")):
            self.people[username] = crowd.person(username, clients=clients[number : number + 2])
            self.register(username)
        self.done("worker", "once")

    def register(self, username: str) -> None:
        with self.stage.database.begin() as connection:
            self.devices[username] = devices.add(connection, TESTER, username, terms=TERMS)

    def backed_up(self) -> None:
        self.stage.database.dispose()
        self.pg.copy(self.name, f"{self.name}_backup")
        self.stack.callback(self.pg.drop, f"{self.name}_backup")

    def restore(self, *, as_a_disk: bool = False) -> None:
        """Put the back-up in the database's place; `as_a_disk` as if its files were: with the names that it had."""
        self.stage.database.dispose()
        self.pg.copy(f"{self.name}_backup", self.name)
        if as_a_disk:
            with self.fresh().begin() as connection:
                note.write(connection, note.read(connection).anchor)

    def fresh(self) -> ServiceDatabase:
        """The service database, with no memory of another."""
        one = ServiceDatabase(self.stage.outside.service_url)
        self.stack.callback(one.dispose)
        return one

    def take_away(self) -> None:
        """Everything that takes something away from somebody."""
        database, device = self.stage.database, self.devices
        with database.begin() as connection:
            devices.revoke(connection, TESTER, device["revoked"].device)
            devices.revoke(connection, TESTER, device["wiped"].device)
            people.suspend(connection, TESTER, "suspended")
            client = people.show(connection, "narrowed").clients[0]
            granting.unlink(connection, TESTER, "narrowed", [client])
            granting.permit(connection, TESTER, "narrowed", deny=["transactions"])
            people.reset_password(connection, TESTER, "renewed", "another", revoke_devices=True)
        with database.begin() as connection:
            wiping.order(connection, TESTER, device["wiped"].device, secret=SECRET, issuer="", reason="")
        self.done("person", "delete", "erased")
        self.people["newcomer"] = Crowd(database).person(
            "newcomer", clients=self.stage.institution.active_clients[9:10]
        )
        eventually(lambda: self.has_database("newcomer"), "the worker makes a database")

    def database_of(self, username: str) -> str:
        with self.fresh().begin() as connection:
            query = sa.select(tables.person.c.database_name).where(tables.person.c.id == self.people[username])
            return str(connection.execute(query).scalar_one())

    def has_database(self, username: str) -> bool:
        return "error" not in (
            ask(self.stage.outside.couchdb_url, f"/{self.database_of(username)}") or {"error": ""}
        )

    def head(self) -> chain.Head:
        with self.stage.database.begin() as connection:
            found = chain.head(connection)
        assert found is not None
        return found

    def witnessed_up_to_now(self) -> None:
        """Wait until the witness has everything that was taken away."""
        with self.stage.database.begin() as connection:
            query = sa.select(sa.func.max(tables.audit_event.c.id)).where(
                tables.audit_event.c.event.in_(["PersonCreated", "PersonDeleted", "DeviceRevoked", "PasswordReset"])
            )
            row = connection.execute(query).scalar_one()
        eventually(
            lambda: int(str(self.done("witness", "show")["witness"]).split(":")[0]) >= row, "the witness has it"
        )

    def closed(self) -> bool:
        with self.fresh().begin() as connection:
            return not connection.execute(sa.select(tables.tenant.c.open)).scalar_one()


@pytest.fixture
def drill(stage: Stage, pg: Postgres, tmp_path: Path) -> Iterator[Drill]:
    with ExitStack() as stack:
        one = Drill(stage, pg, tmp_path, stack)
        one.populate()
        yield one


def at_gateway(gateway: str, credential: Credential, path: str = "/passbook/_changes?since=0") -> tuple[int, Any]:
    secret = base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
    return _asked(f"{gateway}{path}", {"Authorization": f"Basic {secret}"})


def signed_in(auth: str, username: str) -> tuple[int, Any]:
    form = f"grant_type=password&username={username}&password={PASSWORD.replace(' ', '+')}"
    return _asked(f"{auth}/oauth/token", {"Content-Type": "application/x-www-form-urlencoded"}, form.encode())


def _asked(url: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def origin(url: str) -> str:
    return "/".join(url.split("/")[:3])


def test_T32_nobody_comes_in_again_after_a_restore(drill: Drill) -> None:
    erased = drill.database_of("erased")
    drill.backed_up()
    worker = drill.start("worker", "run")
    eventually(lambda: "worker: ready" in worker.logged.read_text(), "the worker runs")
    drill.take_away()
    drill.witnessed_up_to_now()
    newcomers = drill.database_of("newcomer")
    worker.stop()
    anchor = drill.head()

    drill.restore()
    # People's side cannot look at CouchDB: it waits for somebody who can, and hears the worst.
    waiting = drill.start("auth", "--port", "0", "--only", "people")
    eventually(lambda: "waiting until somebody compares" in waiting.logged.read_text(), "people's side waits")
    for arguments in (
        ("person", "list"),
        ("gateway", "--port", "0"),
        ("auth", "--port", "0", "--only", "administration"),
        ("auth", "--port", "0"),
        ("worker", "once"),
        ("worker", "run"),
        ("verify", "--repair"),
        ("init",),
        ("access", "on", "--reason", "never mind"),
    ):
        refused = drill.run(*arguments)
        assert refused.returncode == 3, (arguments, refused.stderr)
        assert arguments == ("person", "list") or "passbook restored" in refused.stderr, arguments
        assert "Traceback" not in refused.stderr
    assert waiting.process.wait(30) == 3
    assert "passbook restored" in waiting.logged.read_text()
    assert drill.closed()
    assert ask(drill.stage.outside.couchdb_url, f"/{erased}").get("error") == "not_found"

    # The remedy asks for a reason and for the last anchor, says what it would do, and does it.
    assert drill.run("restored", "--without-anchor").returncode == 2
    asked = drill.run("restored", "--reason", "drill")
    assert asked.returncode == 2
    assert "audit anchor" in asked.stderr
    tried = drill.done("restored", "--dry-run")
    assert drill.closed()
    did = drill.done("restored", "--reason", "drill", "--anchor", str(anchor))
    assert did["open"] is True
    assert did["until"] == anchor.id
    for facts in (tried, did):
        assert set(facts["devices_revoked"]) == {
            drill.devices[name].device for name in ("revoked", "wiped", "renewed")
        }
        assert facts["people_suspended"] == [drill.people["suspended"]]
        assert facts["people_erased"] == [drill.people["erased"]]
        assert facts["people_without_password"] == [drill.people["renewed"]]
        assert facts["people_permitted_less"] == [drill.people["narrowed"]]
        assert facts["clients_unlinked"] == 1
        assert len(facts["people_missing"]) == 1
    assert did["wipes_ordered"] == [drill.devices["wiped"].device]
    assert ask(drill.stage.outside.couchdb_url, f"/{newcomers}").get("error") == "not_found"
    again = drill.run("restored", "--reason", "drill", "--without-anchor")
    assert again.returncode == 2
    assert "not an older one" in again.stderr

    # Nobody who was out is in; the others go on, with the copy they have.
    assert drill.run("verify", "--repair").returncode == 0
    assert ask(drill.stage.outside.couchdb_url, f"/{erased}").get("error") == "not_found"
    gateway = origin(drill.start("gateway", "--port", "0").url)
    auth = origin(drill.start("auth", "--port", "0", "--only", "people").url)
    codes = {name: at_gateway(gateway, credential) for name, credential in drill.devices.items()}
    assert codes["live"][0] == codes["narrowed"][0] == 200
    since = codes["live"][1]["last_seq"]
    assert at_gateway(gateway, drill.devices["live"], f"/passbook/_changes?since={since}")[1]["results"] == []
    assert {name: codes[name][1]["code"] for name in codes.keys() - {"live", "narrowed"}} == {
        "revoked": "revoked",
        "wiped": "revoked",
        "renewed": "revoked",
        "suspended": "suspended",
        "erased": "unknown",
    }
    assert codes["wiped"][1]["wipe"]
    assert signed_in(auth, "live")[0] == 200
    for username in ("suspended", "erased", "renewed", "newcomer"):
        status, body = signed_in(auth, username)
        assert status >= 400, (username, body)

    # The audit log tells of the gap, and still proves what was before it and what came after.
    verified = drill.done("audit", "verify", "--anchor", str(anchor))
    assert verified["ok"] is True
    assert len(verified["lost"]) == 1
    wrong = chain.Head(1, anchor.hash)
    assert drill.run("audit", "verify", "--anchor", str(wrong)).returncode == 1


def test_T32_running_processes_notice_that_the_database_was_restored_beneath_them(drill: Drill) -> None:
    drill.backed_up()
    worker = drill.start("worker", "run")
    gateway = drill.start("gateway", "--port", "0", PASSBOOK_LOG_LEVEL="debug")
    auth = drill.start("auth", "--port", "0", "--only", "people")
    administration = drill.start("auth", "--port", "0", "--only", "administration")
    door = origin(gateway.url)
    assert auth.url != administration.url
    with drill.stage.database.begin() as connection:
        devices.revoke(connection, TESTER, drill.devices["revoked"].device)
    drill.witnessed_up_to_now()
    assert at_gateway(door, drill.devices["revoked"])[0] == 401
    seen = rf"audit_log_seen +row={drill.head().id}\b"
    eventually(lambda: re.search(seen, gateway.logged.read_text()), "the gateway has seen the log")
    drill.restore(as_a_disk=True)
    let_in = 0
    while gateway.process.poll() is None:
        try:
            let_in += at_gateway(door, drill.devices["revoked"])[0] == 200
        except OSError:
            break
    assert let_in == 0
    for process in (worker, gateway, auth, administration):
        assert process.process.wait(30) == 3, process.logged.read_text()
        assert "passbook restored" in process.logged.read_text()
    assert drill.closed()


def test_T32_a_disk_put_back_is_found_by_the_worker_and_closes_the_gateway(drill: Drill) -> None:
    """The files of PostgreSQL from before: same names, and a young note, so that a gateway starts on it."""
    drill.backed_up()
    with drill.stage.database.begin() as connection:
        devices.revoke(connection, TESTER, drill.devices["revoked"].device)
    drill.done("worker", "once")
    drill.restore(as_a_disk=True)
    door = origin(drill.start("gateway", "--port", "0").url)
    refused = drill.run("worker", "once")
    assert refused.returncode == 3
    assert "passbook restored" in refused.stderr
    for name in ("revoked", "live"):
        status, body = at_gateway(door, drill.devices[name])
        assert (status, body["code"]) == (401, "maintenance")
    assert drill.run("gateway", "--port", "0").returncode == 3


def test_T32_a_lost_witness_is_made_anew_by_an_explicit_act(drill: Drill) -> None:
    shown = drill.done("witness", "show")
    assert shown["older"] is False
    ask(drill.stage.outside.couchdb_url, f"/{shown['database']}", "DELETE")
    for arguments in (("worker", "once"), ("init",), ("verify",)):
        refused = drill.run(*arguments)
        assert refused.returncode == 3, refused.stderr
        assert "witness renew" in refused.stderr
    assert drill.run("witness", "renew", "--reason", "CouchDB lost").returncode == 2
    other = chain.Head(drill.head().id, "0" * 64)
    assert drill.run("witness", "renew", "--reason", "CouchDB lost", "--anchor", str(other)).returncode == 3
    drill.done("witness", "renew", "--reason", "CouchDB lost", "--anchor", str(drill.head()))
    assert drill.done("witness", "show")["older"] is False
    drill.done("worker", "once")
    assert drill.run("verify").returncode == 0


def test_T32_restored_with_the_witness_lost_too(drill: Drill) -> None:
    drill.backed_up()
    with drill.stage.database.begin() as connection:
        devices.revoke(connection, TESTER, drill.devices["revoked"].device)
    anchor = drill.head()
    ask(drill.stage.outside.couchdb_url, f"/{drill.done('witness', 'show')['database']}", "DELETE")
    drill.restore()
    assert drill.run("worker", "once").returncode == 3
    arguments = ("restored", "--reason", "all lost", "--anchor", str(anchor), "--revoke-every-device")
    did = drill.done(*arguments)
    assert (did["until"], did["rows_known"], did["open"]) == (anchor.id, 0, True)
    assert set(did["devices_revoked"]) == {one.device for one in drill.devices.values()}
    drill.done("worker", "once")
    assert drill.done("audit", "verify", "--anchor", str(anchor))["ok"] is True
