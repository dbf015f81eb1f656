"""The audit log as administrators and operators read it; that everything gets into it, and nothing that failed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from auth_service.limits import PAIR_FREE
from passbook.audit import chain
from passbook.audit.events import Event, WrongDoor, kinds
from passbook.audit.repeats import WHILE
from passbook.audit.restores import WitnessRenewed
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.witness import note
from sync_gateway.credentials import DatabaseCredentials
from tests.auth.running import passbook
from tests.auth.test_signing_in import NEW, basic
from tests.auth.test_threats_roles import ROUTES
from tests.support.actors import TESTER
from tests.support.api import PASSWORD, Answer, Api, Crowd, serving

WHY = {"reason": "ticket 4711"}
LOG = tables.audit_event


class Office:
    """Olga, who owns everything, at the API."""

    def __init__(self, api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
        self.api, self.crowd, self.database = api, crowd, database
        self.olga = crowd.administrator("olga", "owner")
        self.token = ""

    async def arrive(self) -> Office:
        self.token = await self.api.token("olga", administrator=True)
        return self

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {"If-Match": "*", **headers}
        return await self.api.call(method, f"/admin{path}", body, token=self.token, headers=sent)

    async def phone(self, name: str) -> tuple[str, str]:
        """An access token of a person's, and a device."""
        token = await self.api.token(name)
        made = await self.api.call("POST", "/devices", {}, token=token)
        return token, str(made["device"])

    def count(self) -> int:
        with self.database.begin() as connection:
            return connection.execute(select(func.count()).select_from(LOG)).scalar_one()

    def since(self, count: int) -> list[Any]:
        with self.database.begin() as connection:
            return list(connection.execute(select(LOG).where(LOG.c.id > count).order_by(LOG.c.id)))


@pytest.fixture
async def office(api: Api, crowd: Crowd, database: ServiceDatabase) -> Office:
    return await Office(api, crowd, database).arrive()


@pytest.fixture
async def strict(
    service_url: str, couchdb_url: str, crowd: Crowd, database: ServiceDatabase
) -> AsyncIterator[Office]:
    """Where two administrators are wanted, and CouchDB can be reached."""
    async with serving(service_url, {"PASSBOOK_SECOND_APPROVER": "true"}, couchdb_url=couchdb_url) as api:
        yield await Office(api, crowd, database).arrive()


async def people_s_day(office: Office) -> None:
    """What a person does, and somebody who is not them."""
    api = office.api
    office.crowd.person("amina")
    # With the device go the sign-ins that belong to it or to none.
    theirs, device = await office.phone("amina")
    await api.call("DELETE", f"/devices/{device}", token=theirs)
    first = await api.sign_in("amina")
    await api.sign_in("nobody")
    token = await api.token("amina")
    await api.call("POST", "/password", {"current": "wrong", "new": NEW}, token=token)
    await api.call("POST", "/password", {"current": PASSWORD, "new": NEW}, token=token)
    await api.call("GET", "/admin/me", token=token)
    second = await api.refresh(first["refresh_token"])
    await api.refresh(second["refresh_token"])
    await api.refresh(first["refresh_token"])
    other = await api.sign_in("amina", NEW)
    await api.call("POST", "/oauth/revoke", form={"token": other["refresh_token"]})
    for _ in range(PAIR_FREE + 1):
        await api.sign_in("guessed")


async def office_day(office: Office) -> None:
    """What administrators do."""
    made = await office("POST", "/people", {"username": "bela", "clients": [1]})
    bela = made["person"]["person"]
    for method, path, body in (
        ("PATCH", f"/people/{bela}", {"kind": "agent"}),
        ("POST", f"/people/{bela}/clients", {"clients": [2]}),
        ("DELETE", f"/people/{bela}/clients/1", None),
        ("PUT", f"/people/{bela}/permissions", {"permissions": ["loans"]}),
        ("POST", f"/people/{bela}/suspend", WHY),
        ("POST", f"/people/{bela}/restore", WHY),
        ("POST", f"/people/{bela}/sign-out", WHY),
        ("POST", f"/people/{bela}/reset-password", {}),
        ("GET", f"/people/{bela}", None),
        ("GET", "/people", None),
        ("GET", "/audit", None),
        ("PUT", "/tenant", {"open": False, **WHY}),
        ("PUT", "/tenant", {"open": True, **WHY}),
    ):
        answer = await office(method, path, body)
        assert answer.status in (200, 201), (path, answer.body)
    await newcomers(office, made["activation"]["code"])
    asked = await office("POST", f"/people/{bela}/erase", WHY)
    assert asked.status == 202
    api = office.api
    assert (await office("POST", f"/approvals/{asked['approval']}/approve")).status == 403
    otto = await api.token("otto", administrator=True)
    body = {"current": PASSWORD, "new": NEW}
    assert (await api.call("POST", "/admin/password", body, token=otto)).status == 200
    office.crowd.administrator("sami", "support")
    sami = await api.token("sami", administrator=True)
    assert (await api.call("POST", f"/admin/approvals/{asked['approval']}/approve", token=sami)).status == 403
    assert (await api.call("POST", f"/admin/approvals/{asked['approval']}/approve", token=otto)).status == 403
    omar = await api.token("omar", administrator=True)
    assert (await api.call("POST", f"/admin/approvals/{asked['approval']}/approve", token=omar)).status == 200


async def newcomers(office: Office, old_code: str) -> None:
    """Otto is made, promoted and reset, by two; people and administrators choose passwords with codes."""
    api = office.api
    office.crowd.administrator("omar", "owner")
    omar = await api.token("omar", administrator=True)
    for method, path, body in (
        ("POST", "/administrators", {"username": "otto", "role": "support"}),
        ("PATCH", "/administrators/otto", {"role": "owner"}),
        ("POST", "/administrators/otto/reset-password", {}),
    ):
        waiting = await office(method, path, body)
        assert waiting.status == 202, waiting.body
        approved = await api.call("POST", f"/admin/approvals/{waiting['approval']}/approve", token=omar)
        assert approved.status == 200, approved.body
    chosen = {"username": "otto", "code": approved["activation"]["code"], "password": PASSWORD}
    assert (await api.call("POST", "/admin/activation", chosen)).status == 204
    made = await office("POST", "/people", {"username": "dora"})
    chosen = {"username": "dora", "code": made["activation"]["code"], "password": PASSWORD}
    assert (await api.call("POST", "/activation", chosen | {"code": old_code})).status == 401
    assert (await api.call("POST", "/activation", chosen)).status == 204


async def delivered_day(service_url: str) -> None:
    """Where codes are delivered, and one administrator does little in an hour."""
    settings = {"PASSBOOK_ACTIVATION_COMMAND": "true", "PASSBOOK_HOURLY_ACTS": "suspend_person=1"}
    async with serving(service_url, settings) as api:
        token = await api.token("olga", administrator=True)
        made = await api.call("POST", "/admin/people", {"username": "esi"}, token=token)
        assert made["activation"]["state"] == "sent"
        path = f"/admin/people/{made['person']['person']}/suspend"
        # Once in this hour already.
        assert (await api.call("POST", path, WHY, token=token)).status == 429


async def lost_phone(office: Office, service_url: str) -> None:
    """A phone is told to wipe, and says to a gateway that it has."""
    office.crowd.person("chike")
    token = await office.api.token("chike")
    phone = await office.api.call("POST", "/devices", {}, token=token)
    assert (await office("POST", f"/devices/{phone['device']}/wipe", WHY)).status == 200
    with office.database.begin() as connection:
        nonce = connection.execute(select(tables.wipe_order.c.nonce)).scalar_one()
    gateway = DatabaseCredentials.at(service_url)
    await gateway.confirm([basic(phone["username"], phone["password"])["Authorization"]], nonce)
    await gateway.close()


def operator_s_day(service_url: str, directory: Path) -> None:
    """What is done at the command line alone."""
    people = directory / "people.csv"
    people.write_text("username,clients\nimported-one,17\n")
    for arguments in (
        ("person", "import", str(people)),
        ("auth", "rotate-keys"),
        ("audit", "verify"),
    ):
        done = passbook(service_url, directory, *arguments)
        assert done.returncode == 0, done.stderr


def restored_day(database: ServiceDatabase) -> None:
    """The service database turns out to be a back-up, and CouchDB is lost with the witness."""
    with database.begin() as connection:
        note.write_older(connection, chain.Head(1_000, "0" * 64))
    with database.begin() as connection:
        chain.go_on(connection, TESTER, common=1, until=None, reason="")
        chain.record(connection, TESTER, WitnessRenewed())


async def test_everything_that_can_be_recorded_is(strict: Office, service_url: str, tmp_path: Path) -> None:
    await people_s_day(strict)
    await lost_phone(strict, service_url)
    await office_day(strict)
    await delivered_day(service_url)
    operator_s_day(service_url, tmp_path)
    for _ in range((WrongDoor.in_full or 0) + 1):
        await strict.api.call("GET", "/me", token=strict.token)
    with strict.database.begin() as connection:
        connection.execute(update(tables.audit_repeat).values(since=func.now() - WHILE))
    with strict.database.begin() as connection:
        chain.tell_repeats(connection)
    restored_day(strict.database)
    rows = strict.since(0)
    assert {row.event for row in rows} == kinds().keys() - BY_A_WORKER
    for row in rows:
        # Each is what its class says, no more and no less.
        expected = {field.name for field in fields(kinds()[row.event])}
        detail = json.loads(row.detail)
        assert detail.keys() == expected - {"person", "device"}, row.event
        assert (row.device is not None) == ("device" in expected), row.event
        assert row.person is not None or "person" not in expected or row.event in MAYBE_OF_NOBODY, row.event
        if row.event in OF_NO_REQUEST:
            assert (row.request_id, row.address) == ("", "")
            continue
        assert row.request_id or row.actor == TESTER.id or row.event == "Repeated"
        assert row.actor_kind in ("person", "administrator", "operator", "anonymous", "worker")
        assert row.address == ("" if row.actor_kind == "operator" else "127.0.0.0/24"), row.event
        if detail.get("why") == "unknown_name":
            assert (row.person, detail["administrator"]) == (None, None)
        for name in ("amina", "bela", "otto", "chike", "dora", "esi", "nobody", "guessed", "imported-one"):
            assert name not in " ".join(str(value) for value in row), row
    with strict.database.begin() as connection:
        assert chain.verify(connection).ok


#: What a device says to a gateway, which knows no address that means anything; and what nobody's request did.
OF_NO_REQUEST = {"WipeConfirmed", "OlderDatabaseFound"}
#: What a worker finds; its own tests see it recorded (`tests/worker/test_upkeep.py`).
BY_A_WORKER = {"DatabaseClosed"}
#: Events that may be of a person, of an administrator, or of nobody who is known.
MAYBE_OF_NOBODY = {
    "Repeated",
    "SignInFailed",
    "SignInSlowed",
    "SessionRefreshed",
    "RefreshTokenReused",
    "SessionEnded",
    "PasswordChangeRefused",
    "ActivationCodeMade",
    "ActivationCodeDelivered",
    "ActivationRefused",
}

#: What a read of administration leaves in the log; None with the reason why nothing.
READS: dict[str, str | None] = {
    "/admin/people": "PeopleListed",
    "/admin/people/{person}": "PersonRead",
    "/admin/people/{person}/changes": "PersonRead",
    "/admin/people/{person}/devices": "PersonRead",
    "/admin/people/{person}/preview": "PersonRead",
    "/admin/devices": "PeopleListed",
    "/admin/devices/{device}": "PersonRead",
    "/admin/audit": "AuditRead",
    "/admin/me": None,  # who one is oneself
    "/admin/tenant": None,  # nothing about anybody
    "/admin/administrators": None,  # colleagues, not the people whose data this keeps
    "/admin/approvals": None,  # what was asked for is on record already; ids alone
    "/admin/audit/head": None,  # a number and a hash
}


async def test_every_look_at_a_person_is_on_record(office: Office) -> None:
    assert {path for method, path in ROUTES if method == "GET"} == READS.keys()
    amina = office.crowd.person("amina")
    _, device = await office.phone("amina")
    reads = [("GET", path, None, event) for path, event in READS.items()]
    reads.append(("POST", "/admin/people/{person}/preview", {"clients": [5]}, "PersonRead"))
    for method, path, body, expected in reads:
        before = office.count()
        real = path.removeprefix("/admin").format(person=amina, device=device)
        answer = await office(method, real, body)
        assert answer.status == 200, path
        written = office.since(before)
        if expected is None:
            assert written == [], path
            continue
        (row,) = written
        assert (row.event, row.actor_kind, row.actor) == (expected, "administrator", office.olga), path
        assert row.request_id == answer.headers["X-Request-Id"]
        assert row.person == (amina if expected == "PersonRead" else None)
        if expected in ("PeopleListed", "AuditRead"):
            assert json.loads(row.detail)["shown"] == len(answer["items"])


async def test_what_was_sought_is_not_kept(office: Office) -> None:
    """It may be a name: how many were shown is."""
    office.crowd.person("amina")
    before = office.count()
    await office("GET", "/people?text=amina")
    await office("GET", "/audit?person=amina&actor=amina")
    for row in office.since(before):
        assert "amina" not in " ".join(str(value) for value in row)


async def test_what_fails_leaves_nothing(office: Office) -> None:
    amina = office.crowd.person("amina")
    office.crowd.person("bela")
    before = office.count()
    for method, path, body, headers, status in (
        ("GET", "/people/person-none", None, {}, 404),
        ("GET", "/devices/device-none", None, {}, 404),
        ("GET", "/people/person-none/preview", None, {}, 404),
        ("POST", "/people", {"username": "amina"}, {}, 409),
        ("POST", "/people", {"username": "chike", "password": "short"}, {}, 400),
        ("POST", "/people", {"username": "a:b"}, {}, 400),
        ("PATCH", f"/people/{amina}", {"username": "bela"}, {}, 409),
        ("PATCH", f"/people/{amina}", {"kind": "agent"}, {"If-Match": '"99"'}, 412),
        ("PATCH", f"/people/{amina}", {"kind": "agent"}, {"If-Match": "nonsense"}, 400),
        ("DELETE", f"/people/{amina}/clients/99", None, {}, 400),
        ("POST", f"/people/{amina}/clients", {"clients": [-1]}, {}, 422),
        ("POST", "/people/person-none/suspend", WHY, {}, 404),
        ("POST", "/people/person-none/erase", WHY, {}, 404),
        ("POST", "/devices/device-none/revoke", WHY, {}, 404),
        ("POST", "/devices/device-none/wipe", WHY, {}, 404),
        ("POST", "/devices/revoke", {"devices": ["device-none"], **WHY}, {}, 404),
        ("POST", "/administrators", {"username": "olga", "role": "owner"}, {}, 409),
        ("PATCH", f"/administrators/{office.olga}", {"state": "suspended"}, {}, 409),
        ("POST", f"/administrators/{office.olga}/reset-password", {}, {}, 409),
        ("POST", "/approvals/approval-none/approve", None, {}, 404),
        ("POST", "/approvals/approval-none/refuse", None, {}, 404),
        ("GET", "/people?after=nonsense", None, {}, 400),
        ("GET", "/devices?after=device-none", None, {}, 400),
        ("GET", "/audit?before=0", None, {}, 422),
    ):
        answer = await office(method, path, body, **headers)
        assert answer.status == status, (path, answer.body)
        assert office.since(before) == [], path


async def test_what_changes_nothing_leaves_nothing(office: Office) -> None:
    """Asked for again: what is so already is not done a second time, and is not on record as if it were."""
    amina = office.crowd.person("amina", clients=(17,))
    _, device = await office.phone("amina")
    for method, path, body in (
        ("POST", f"/people/{amina}/suspend", WHY),
        ("POST", f"/people/{amina}/restore", WHY),
        ("POST", f"/devices/{device}/revoke", WHY),
        ("POST", f"/devices/{device}/wipe", WHY),
        ("POST", f"/people/{amina}/clients", {"clients": [18]}),
        ("PUT", f"/people/{amina}/permissions", {"permissions": ["loans"]}),
        ("PATCH", f"/people/{amina}", {"kind": "agent"}),
        ("PUT", "/tenant", {"open": False, **WHY}),
        ("PUT", "/tenant", {"open": True, **WHY}),
    ):
        before = office.count()
        assert (await office(method, path, body)).status == 200
        once = office.count()
        assert once == before + 1, path
        assert (await office(method, path, body)).status == 200
        assert office.since(once) == [], path


async def filled(office: Office) -> dict[str, Any]:
    """A log with different people, devices, actors and times in it."""
    ids: dict[str, Any] = {name: office.crowd.person(name) for name in ("amina", "bela")}
    for name in ("amina", "bela"):
        _, ids[f"device of {name}"] = await office.phone(name)
        await office("POST", f"/people/{ids[name]}/suspend", WHY)
        await office("POST", f"/people/{ids[name]}/restore", {"reason": "it was a mistake"})
    return ids


async def test_filters_of_the_log(office: Office) -> None:
    ids = await filled(office)
    everything = (await office("GET", "/audit?limit=500"))["items"]
    assert len(everything) == office.count() - 1  # all but the reading itself
    for query, fits in (
        ("event=PersonSuspended", lambda row: row["event"] == "PersonSuspended"),
        (f"person={ids['amina']}", lambda row: row["person"] == ids["amina"]),
        (f"actor={office.olga}", lambda row: row["actor"] == office.olga),
        (f"actor={ids['bela']}", lambda row: row["actor"] == ids["bela"]),
        (f"device={ids['device of bela']}", lambda row: row["device"] == ids["device of bela"]),
        (f"person={ids['bela']}&event=DeviceRegistered", lambda row: row["device"] == ids["device of bela"]),
        ("event=NoSuchEvent", lambda _: False),
        ("person=amina", lambda _: False),
    ):
        found = (await office("GET", f"/audit?limit=500&{query}"))["items"]
        expected = [row for row in everything if fits(row)]
        assert [row for row in found if row["event"] != "AuditRead"] == [
            row for row in expected if row["event"] != "AuditRead"
        ], query
        assert bool(expected) == (query not in ("event=NoSuchEvent", "person=amina"))
    # Each row as it was recorded.
    suspended = next(row for row in everything if row["event"] == "PersonSuspended")
    assert suspended["reason"] == WHY["reason"]
    assert suspended.keys() == {column.name for column in LOG.c} - {"hash", "previous_hash"}


async def test_times_of_the_log(office: Office) -> None:
    await filled(office)
    everything = (await office("GET", "/audit?limit=500"))["items"]
    middle = everything[len(everything) // 2]["at"]
    quoted = middle.replace("+", "%2B")
    later = (await office("GET", f"/audit?limit=500&since={quoted}"))["items"]
    earlier = (await office("GET", f"/audit?limit=500&until={quoted}"))["items"]
    assert [row["id"] for row in earlier] == [row["id"] for row in everything if row["at"] < middle]
    assert {row["id"] for row in later} >= {row["id"] for row in everything if row["at"] >= middle}
    assert not {row["id"] for row in later} & {row["id"] for row in earlier}
    assert (await office("GET", "/audit?until=1999-01-01T00:00:00Z"))["items"] == []


async def test_pages_of_the_log_while_it_grows(office: Office) -> None:
    """Every row once, although reading it makes it longer."""
    await filled(office)
    before = office.count()
    seen: list[int] = []
    path = "/audit?limit=3"
    while True:
        page = await office("GET", path)
        assert len(page["items"]) <= 3
        seen += [row["id"] for row in page["items"]]
        if page["next"] is None:
            break
        path = f"/audit?limit=3&before={page['next']}"
    assert seen == list(range(before, 0, -1))


async def test_the_log_outlives_whom_it_tells_of(
    service_url: str, couchdb_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    """Erased: nobody can tell whose the id was, and what was done with it still stands, unbroken."""
    async with serving(service_url, couchdb_url=couchdb_url) as api:
        office = await Office(api, crowd, database).arrive()
        ids = await filled(office)
        assert (await office("POST", f"/people/{ids['amina']}/erase", WHY))["state"] == "done"
        found = (await office("GET", f"/audit?person={ids['amina']}&limit=500"))["items"]
        assert {"PersonCreated", "PersonSuspended", "PersonDeleted", "PersonErased"} <= {r["event"] for r in found}
        assert "amina" not in json.dumps(found)
    with database.begin() as connection:
        assert chain.verify(connection).ok


async def test_the_command_line_reads_the_same_log(office: Office, service_url: str, tmp_path: Path) -> None:
    ids = await filled(office)
    everything = (await office("GET", "/audit?limit=500"))["items"]

    def listed(*arguments: str) -> Any:
        done = passbook(service_url, tmp_path, "audit", "list", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return [row for row in json.loads(done.stdout) if row["event"] != "AuditRead"]

    def ids_of(rows: Any) -> list[int]:
        return [row["id"] for row in rows if row["event"] != "AuditRead"]

    assert ids_of(listed("--limit", "500")) == ids_of(everything)
    of_amina = [row for row in everything if row["person"] == ids["amina"]]
    # At the keyboard a person may be named, too.
    for name in ("amina", ids["amina"]):
        assert ids_of(listed("--person", name)) == ids_of(of_amina)
    assert ids_of(listed("--event", "PersonSuspended", "--actor", office.olga, "--limit", "1")) == ids_of(
        [row for row in everything if row["event"] == "PersonSuspended"][:1]
    )
    assert ids_of(listed("--before", "3")) == [2, 1]
    assert listed("--until", "2001-01-01") == []
    # Whoever reads at the keyboard is on record as well.
    with office.database.begin() as connection:
        reads = chain.entries(connection, event="AuditRead")
    assert {(one.actor_kind, one.detail["shown"] >= 0) for one in reads if one.actor_kind == "operator"} == {
        ("operator", True)
    }
    shown = passbook(service_url, tmp_path, "audit", "list", "--limit", "5")
    assert "PersonRestored" in passbook(service_url, tmp_path, "audit", "list").stdout
    assert shown.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--event", "NoSuch"), "is no event"),
        (("list", "--since", "yesterday"), "is no time"),
        (("verify", "--anchor", "nonsense"), "is no anchor"),
        (("verify", "--anchor", "1:00"), "is no anchor"),
    ],
)
def test_what_cannot_be_read_is_refused(
    service_url: str, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = passbook(service_url, tmp_path, "audit", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


async def test_an_event_and_what_it_tells_of_stand_or_fall_together(office: Office) -> None:
    """A transaction that is taken back takes its events along, and leaves no gap."""
    from auth_service import people

    office.crowd.person("amina")
    before = office.count()

    def suspend_and_fail() -> None:
        with office.database.begin() as connection:
            people.suspend(connection, TESTER, "amina")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        suspend_and_fail()
    assert office.count() == before
    with office.database.begin() as connection:
        people.suspend(connection, TESTER, "amina")
    assert [row.id for row in office.since(before)] == [before + 1]
    with office.database.begin() as connection:
        assert chain.verify(connection).ok


def test_every_event_says_what_it_means() -> None:
    for name, kind in kinds().items():
        assert issubclass(kind, Event)
        assert kind.__doc__
        assert kind.__doc__.strip().endswith("."), name
        assert not {"password", "secret", "token", "username"} & kind.__dataclass_fields__.keys(), name


async def test_an_anchor_goes_to_the_operators_log(
    office: Office, database: ServiceDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where logs are kept elsewhere, a log made anew is found out: the head is said when it has moved."""
    from auth_service.api.app import _sweep_once

    assert office.api.service is not None
    with database.begin() as connection:
        head = chain.head(connection)
        # Old enough for the sweep, to see that it works.
        connection.execute(update(tables.session).values(ended_at=func.now() - timedelta(days=40)))
    capsys.readouterr()
    assert _sweep_once(office.api.service, None) == head
    assert "audit anchor" not in capsys.readouterr().out
    assert _sweep_once(office.api.service, chain.Head(1, "0" * 64)) == head
    assert str(head) in capsys.readouterr().out
    with database.begin() as connection:
        assert connection.execute(select(func.count()).select_from(tables.session)).scalar_one() == 0
