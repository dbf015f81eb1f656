"""What one administrator cannot do alone: see everybody's data, be their own second approver, do without end."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from auth_service import sensitivity
from auth_service.api import acts
from auth_service.approvals import Approval
from auth_service.callers import AdministratorCaller
from auth_service.service import Service
from passbook.audit.chain import Actor
from passbook.errors import PassbookError, Refused, TooMany
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from tests.auth.running import passbook
from tests.support import truth
from tests.support.api import PASSWORD, SECRET, Answer, Api, Crowd, serving
from tests.support.databases import Postgres

WHY = {"reason": "ticket 4711"}
ANY = {"If-Match": "*"}
TWO = {"PASSBOOK_SECOND_APPROVER": "true"}
CHOSEN = "seven blue boats sail"
ROLES = {"olga": "owner", "otto": "owner", "omar": "owner", "mina": "manager", "musa": "manager", "sami": "support"}


class Office:
    """Olga, Otto and Omar, owners; Mina and Musa, managers; Sami, support. The operator made them all."""

    def __init__(self, api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
        self.api, self.crowd, self.database = api, crowd, database
        self.ids: dict[str, str] = {}
        self.tokens: dict[str, str] = {}

    async def arrive(self) -> Office:
        for name, role in ROLES.items():
            self.ids[name] = self.crowd.administrator(name, role)
            await self.sign_in(name)
        return self

    async def sign_in(self, name: str, password: str = PASSWORD) -> None:
        answer = await self.api.sign_in(name, password, administrator=True)
        assert answer.status == 200, answer.body
        self.tokens[name] = answer["access_token"]

    async def __call__(self, who: str, method: str, path: str, body: Any = None) -> Answer:
        return await self.api.call(method, f"/admin{path}", body, token=self.tokens[who], headers=ANY)

    async def approve(self, who: str, asked: Answer) -> Answer:
        assert asked.status == 202, asked.body
        return await self(who, "POST", f"/approvals/{(asked.body.get('approval') or {})}/approve")

    async def newcomer(self, asked: Answer, approver: str, name: str, *, new: bool = True) -> None:
        """Whoever was asked for is approved, chooses a password with the code, and signs in."""
        done = await self.approve(approver, asked)
        assert done.status == 200, done.body
        chosen = {"username": name, "code": done["activation"]["code"], "password": CHOSEN}
        assert (await self.api.call("POST", "/admin/activation", chosen)).status == 204
        await self.sign_in(name, CHOSEN)

    def told(self, event: str, **detail: Any) -> list[Any]:
        """The rows of an event with these facts."""
        rows = [row for row in truth.events(self.database) if row.event == event]
        return [row for row in rows if detail.items() <= row.detail.items()]

    def clients(self, person: str) -> int:
        with self.database.begin() as connection:
            links = tables.person_client.c.person_id == person
            return len(connection.execute(select(tables.person_client).where(links)).all())

    def later(self, *, days: int = 0, hours: int = 0) -> None:
        """So much time passes: what was counted and recorded is so much older."""
        moved = f"interval '{days} days {hours} hours'"
        with self.database.begin() as connection:
            connection.execute(text("ALTER TABLE audit_event DISABLE TRIGGER only_grows"))
            connection.execute(text(f"UPDATE audit_event SET at = at - {moved}"))
            connection.execute(text("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER only_grows"))
            connection.execute(text(f"UPDATE administrator_act SET at = at - {moved}"))


@asynccontextmanager
async def office_at(
    service_url: str, crowd: Crowd, database: ServiceDatabase, **more: str
) -> AsyncIterator[Office]:
    async with serving(service_url, more) as api:
        yield await Office(api, crowd, database).arrive()


@pytest.fixture
async def office(service_url: str, crowd: Crowd, database: ServiceDatabase) -> AsyncIterator[Office]:
    """Where a second administrator is wanted."""
    async with office_at(service_url, crowd, database, **TWO) as one:
        yield one


@pytest.fixture
async def small(service_url: str, crowd: Crowd, database: ServiceDatabase) -> AsyncIterator[Office]:
    """Where one administrator does everything, within bounds."""
    async with office_at(service_url, crowd, database) as one:
        yield one


# A manager who would see everybody


async def test_T33_an_agent_over_all_clients_waits_for_another(office: Office) -> None:
    everything = list(range(1, 983))
    asked = await office("mina", "POST", "/people", {"username": "agent", "kind": "agent", "clients": everything})
    assert asked.status == 202, asked.body
    nobody = await office("mina", "GET", "/people?text=agent")
    assert nobody["items"] == []
    own = await office.approve("mina", asked)
    assert (own.status, own.code) == (403, "second_approver")
    done = await office.approve("musa", asked)
    assert done.status == 200
    (agent,) = (await office("mina", "GET", "/people?text=agent"))["items"]
    assert office.clients(agent["person"]) == len(everything)
    # The name of the person is kept with the person alone; the code goes to who approved, to hand over.
    assert "username" not in done["arguments"]
    assert done["activation"]["state"] == "hand_over"
    (made,) = office.told("PersonCreated", clients=everything)
    assert made.actor == office.ids["musa"]
    (wanted,) = office.told("ApprovalRequested", action="create_person")
    assert wanted.actor == office.ids["mina"]
    assert office.told("ApprovalDenied", why="asked")[0].actor == office.ids["mina"]


async def test_T33_links_one_by_one_are_counted_together(office: Office) -> None:
    """Neither a person's whole nor the sum of an hour gets past the number, however it is split."""
    agent = (await office("mina", "POST", "/people", {"username": "agent", "kind": "agent"}))["person"]["person"]
    path = f"/people/{agent}/clients"
    for first in range(1, 200, 50):
        assert (await office("mina", "POST", path, {"clients": list(range(first, first + 50))})).status == 200
    for client in (201, 202):
        assert (await office("mina", "POST", path, {"clients": [client]})).status == 202
    assert office.clients(agent) == 200
    # Musa has linked nothing in this hour; it is the person who would see too much.
    assert (await office("musa", "POST", path, {"clients": [201]})).status == 202
    # And it is Mina who has opened too much in this hour, to whomever.
    other = office.crowd.person("other", clients=())
    assert (await office("mina", "POST", f"/people/{other}/clients", {"clients": [1]})).status == 202
    assert (await office("musa", "POST", f"/people/{other}/clients", {"clients": [1]})).status == 200
    office.later(hours=1)
    assert (await office("mina", "POST", f"/people/{other}/clients", {"clients": [2]})).status == 200


async def test_T33_where_one_is_alone_the_hour_bounds(small: Office) -> None:
    agent = small.crowd.person("agent", clients=())
    path = f"/people/{agent}/clients"
    much = await small("mina", "POST", path, {"clients": list(range(1, 983))})
    assert (much.status, much.code) == (403, "too_much_at_once")
    assert "command line" in much["message"]
    assert (await small("mina", "POST", path, {"clients": list(range(1, 201))})).status == 200
    more = await small("mina", "POST", path, {"clients": [201]})
    assert (more.status, more.code) == (429, "hourly_bound")
    assert 3500 < int(more.headers["Retry-After"]) <= 3600
    assert more["detail"]["limit"] == "hourly"
    # Neither a new session nor a new person changes it; that it happened is on record, once.
    await small.sign_in("mina")
    for _ in range(3):
        created = await small("mina", "POST", "/people", {"username": "another", "clients": [300]})
        assert (created.status, created.code) == (429, "hourly_bound")
    assert small.clients(agent) == 200
    (told,) = small.told("HourlyBoundReached", action="link_clients")
    assert told.actor == small.ids["mina"]
    assert len(small.told("HourlyBoundReached")) == 2
    small.later(hours=1)
    assert (await small("mina", "POST", path, {"clients": [201]})).status == 200


async def test_T33_forty_at_once_are_counted_as_forty(small: Office) -> None:
    people = [small.crowd.person(f"person {number}", clients=()) for number in range(40)]
    many = [list(range(100 * number, 100 * number + 10)) for number in range(1, 41)]
    answers = await asyncio.gather(
        *(
            small("mina", "POST", f"/people/{person}/clients", {"clients": clients})
            for person, clients in zip(people, many, strict=True)
        )
    )
    assert sorted(answer.status for answer in answers) == [200] * 20 + [429] * 20
    assert sum(small.clients(person) for person in people) == 200


# Somebody else's password


async def test_T33_an_agents_reset_opens_all_the_agent_sees(office: Office) -> None:
    agent = office.crowd.person("agent", clients=tuple(range(1, 400)))
    asked = await office("mina", "POST", f"/people/{agent}/reset-password", {})
    assert asked.status == 202
    assert (await office.api.sign_in("agent")).status == 200, "nothing has happened"
    done = await office.approve("musa", asked)
    assert done["activation"]["code"]
    assert (await office.api.sign_in("agent")).status == 400


async def test_T33_resets_are_bounded(small: Office) -> None:
    for number in range(21):
        person = small.crowd.person(f"person {number}")
        answer = await small("mina", "POST", f"/people/{person}/reset-password", {})
        assert answer.status == (200 if number < 20 else 429), answer.body
        assert answer.status == 429 or answer["initial_password"] is None
    assert (await small.api.sign_in("person 20")).status == 200, "what was refused was not done"
    assert len(small.told("PasswordReset")) == 20


async def test_T33_a_code_is_good_once_and_its_owner_sees_that_it_was_used(small: Office) -> None:
    """Mina redeems the customer's code herself: the customer's own try says so, and the log tells."""
    amina = small.crowd.person("amina")
    answer = await small("mina", "POST", f"/people/{amina}/reset-password", {})
    code = answer["activation"]["code"]
    chosen = {"username": "Amina ", "code": code.replace("-", " ").upper(), "password": CHOSEN}
    weak = await small.api.call("POST", "/activation", chosen | {"password": "password12"})
    assert (weak.status, weak.code) == (400, "weak_password")
    assert (await small.api.call("POST", "/activation", chosen)).status == 204
    late = await small.api.call("POST", "/activation", chosen)
    assert (late.status, late.code) == (409, "code_used")
    assert "somebody else has chosen your password" in late["message"]
    assert (await small.api.sign_in("amina", CHOSEN))["must_change_password"] is False
    assert [row.person for row in small.told("PersonActivated")] == [amina]
    assert small.told("ActivationRefused", why="code_used")
    # The next code makes the last one nothing.
    again = await small("mina", "POST", f"/people/{amina}/reset-password", {})
    assert (await small.api.call("POST", "/activation", chosen)).status == 401
    with small.database.begin() as connection:
        connection.execute(text("UPDATE activation SET expires_at = now() - interval '1 second'"))
    old = await small.api.call("POST", "/activation", chosen | {"code": again["activation"]["code"]})
    assert (old.status, old.code) == (409, "code_expired")
    with small.database.begin() as connection:
        rows = connection.execute(text("SELECT activation::text FROM activation")).scalars().all()
    assert code not in str(rows)
    assert again["activation"]["code"] not in str(rows)


async def test_T33_codes_are_guessed_like_passwords(small: Office) -> None:
    amina = small.crowd.person("amina")
    right = (await small("mina", "POST", f"/people/{amina}/reset-password", {}))["activation"]["code"]

    async def redeem(name: str, code: str) -> Answer:
        return await small.api.call("POST", "/activation", {"username": name, "code": code, "password": CHOSEN})

    known, unknown = [], []
    for number in range(7):
        known.append(await redeem("amina", f"aaaa-bbbb-cccc-ddd{number}"))
        unknown.append(await redeem("nobody", f"aaaa-bbbb-cccc-ddd{number}"))
    # A name that nobody has gets the same answers, and the same waits.
    for one, other in zip(known, unknown, strict=True):
        facts = [{**answer.body, "request_id": "", "detail": None} for answer in (one, other)]
        assert (one.status, facts[0]["code"]) == (other.status, facts[1]["code"])
    assert [answer.status for answer in known] == [401] * 5 + [429] * 2
    # An administrator's code opens nothing for a person of the same name, and the reverse.
    small.crowd.administrator("amina", "support")
    crossed = {"username": "amina", "code": right, "password": CHOSEN}
    assert (await small.api.call("POST", "/admin/activation", crossed)).status == 401


async def test_T33_nobody_reads_a_code_or_a_password_where_codes_are_delivered(
    service_url: str, crowd: Crowd, database: ServiceDatabase, tmp_path: Path
) -> None:
    post, program = tmp_path / "post.jsonl", tmp_path / "deliver.py"
    program.write_text(
        f"import os, sys\nopen({str(post)!r}, 'a').write(sys.stdin.read() + '\\n')\n"
        "sys.exit(any(name.startswith('PASSBOOK_') for name in os.environ))\n"
    )
    delivering = {"PASSBOOK_ACTIVATION_COMMAND": f"{sys.executable} {program}"}
    async with office_at(service_url, crowd, database, **delivering) as office:
        amina = crowd.person("amina", clients=(7, 8))
        for body in ({"password": PASSWORD}, {"credential": "initial_password"}):
            refused = await office("mina", "POST", f"/people/{amina}/reset-password", body)
            assert (refused.status, refused.code) == (400, "password_not_shown")
            refused = await office("mina", "POST", "/people", {"username": "new", **body})
            assert (refused.status, refused.code) == (400, "password_not_shown")
        answer = await office("mina", "POST", f"/people/{amina}/reset-password", {})
        assert answer["activation"]["state"] == "sent"
        assert (answer["activation"]["code"], answer["initial_password"]) == (None, None)
        told = json.loads(post.read_text())
        assert (told["person"], told["username"], told["clients"]) == (amina, "amina", [7, 8])
        assert told["code"] not in answer.raw.decode()
        chosen = {"username": "amina", "code": told["code"], "password": CHOSEN}
        assert (await office.api.call("POST", "/activation", chosen)).status == 204
        assert office.told("ActivationCodeDelivered", delivered=True)
        program.write_text("raise SystemExit(1)")
        failed = await office("mina", "POST", f"/people/{amina}/reset-password", {})
        assert (failed.status, failed["activation"]["state"]) == (200, "not_sent")
        assert office.told("ActivationCodeDelivered", delivered=False)


@pytest.mark.parametrize("administrator", [False, True])
async def test_T33_an_initial_password_expires(small: Office, administrator: bool) -> None:
    table = tables.administrator if administrator else tables.person
    body = {"username": "newcomer", "credential": "initial_password"}
    path = "/administrators" if administrator else "/people"
    made = await small("olga", "POST", path, body | ({"role": "support"} if administrator else {}))
    initial = made["initial_password"]
    assert (await small.api.sign_in("newcomer", initial, administrator=administrator)).status == 200
    with small.database.begin() as connection:
        newcomer = table.c.username == "newcomer"
        old = table.c.created_at - text("interval '30 days'")
        connection.execute(update(table).where(newcomer).values(created_at=old))
    late = await small.api.sign_in("newcomer", initial, administrator=administrator)
    assert (late.status, late.code) == (400, "initial_password_expired")
    assert "activation code" in late["message"]
    assert small.told("SignInFailed", why="initial_password_expired")
    with small.database.begin() as connection:
        connection.execute(update(table).where(newcomer).values(must_change_password=False))
    assert (await small.api.sign_in("newcomer", initial, administrator=administrator)).status == 200


async def test_T33_support_cannot_refuse_what_it_could_not_ask_for(office: Office) -> None:
    amina = office.crowd.person("amina")
    asked = await office("olga", "POST", f"/people/{amina}/erase", {"reason": "ticket 4711"})
    assert asked.status == 202, asked.body
    path = f"/approvals/{(asked.body.get('approval') or {})}/refuse"
    refused = await office("sami", "POST", path)
    assert (refused.status, refused.code) == (403, "role")
    assert (await office("olga", "POST", path)).status == 200, "whoever asked may take it back"


async def test_T22_a_code_opens_nothing_under_another_name(small: Office) -> None:
    small.crowd.person("bela")
    made = await small("olga", "POST", "/people", {"username": "newcomer"})
    chosen = {"code": made["activation"]["code"], "password": CHOSEN}
    for more in ({"username": "bela"}, {"username": made["person"]["person"]}):
        assert (await small.api.call("POST", "/activation", chosen | more)).status == 401, more
    assert (await small.api.call("POST", "/activation", chosen | {"username": "newcomer"})).status == 204
    assert (await small.api.sign_in("newcomer", CHOSEN)).status == 200
    assert (await small.api.sign_in("bela", CHOSEN)).status == 400


async def test_T18_guesses_at_a_name_keep_nobody_from_using_their_code(small: Office) -> None:
    made = await small("olga", "POST", "/people", {"username": "newcomer"})
    right = {"username": "newcomer", "code": made["activation"]["code"], "password": CHOSEN}
    wrong = right | {"code": "aaaa-aaaa-aaaa-aaaa"}
    guesses = [await small.api.call("POST", "/activation", wrong) for _ in range(30)]
    assert guesses[-1].status == 429
    assert 0 < len(small.told("ActivationRefused")) <= 5, "repeats are a number"
    # A password that will not do is held against nobody either.
    weak = await small.api.call("POST", "/activation", right | {"password": "password12"})
    assert weak.code == "weak_password"
    assert (await small.api.call("POST", "/activation", right)).status == 204


def test_T33_the_operator_can_make_codes_too(service_url: str, database: ServiceDatabase, tmp_path: Path) -> None:
    for arguments in (
        ("person", "add", "--username", "amina"),
        ("person", "reset-password", "amina"),
        ("administrator", "add", "--username", "olga", "--role", "owner"),
        ("administrator", "reset-password", "olga"),
    ):
        done = passbook(service_url, tmp_path, *arguments, "--activation", "--json")
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        assert "initial_password" not in made
        assert made["username"] in arguments
        assert len(made["activation_code"]) == 19
    with database.begin() as connection:
        assert len(connection.execute(select(tables.activation)).all()) == 2
    both = passbook(service_url, tmp_path, "person", "reset-password", "amina", "--activation", "--password-stdin")
    assert both.returncode == 2
    truth.check(database)


# An owner who would be two


async def test_T33_administrators_are_made_by_two(office: Office) -> None:
    for path, body in (
        ("/administrators", {"username": "puppet", "role": "owner"}),
        (f"/administrators/{office.ids['mina']}/reset-password", {}),
    ):
        asked = await office("olga", "POST", path, body)
        assert asked.status == 202, asked.body
    for body in ({"role": "owner"}, {"role": "support"}, {"role": "owner", "state": "suspended"}):
        assert (await office("olga", "PATCH", f"/administrators/{office.ids['mina']}", body)).status == 202
    found = {one["username"]: one["role"] for one in (await office("olga", "GET", "/administrators"))["items"]}
    assert found == ROLES
    kept = await office("olga", "POST", "/administrators", {"username": "x", "role": "owner", "password": PASSWORD})
    assert (kept.status, kept.code) == (400, "password_not_kept")
    # To keep somebody out takes one, but not of all others.
    for name, status in (("mina", 200), ("musa", 200), ("sami", 200), ("otto", 202)):
        answer = await office("olga", "PATCH", f"/administrators/{office.ids[name]}", {"state": "suspended"})
        assert answer.status == status, (name, answer.body)


async def test_T33_who_was_made_or_reset_by_somebody_approves_nothing_of_theirs(office: Office) -> None:
    amina = office.crowd.person("amina")
    made = await office("olga", "POST", "/administrators", {"username": "puppet", "role": "owner"})
    await office.newcomer(made, "otto", "puppet")
    asked = await office("olga", "POST", f"/people/{amina}/erase", WHY)
    denied = await office.approve("puppet", asked)
    assert (denied.status, denied.code) == (403, "not_independent")
    assert "14 days" in denied["message"]
    assert "command line" in denied["message"]
    # Neither the other way round, nor for who approved the making and may have been handed the code.
    for asker, approver in (("puppet", "olga"), ("otto", "puppet"), ("puppet", "otto")):
        turned = await office(asker, "POST", f"/people/{amina}/erase", WHY)
        assert (await office.approve(approver, turned)).code == "not_independent", (asker, approver)
    assert len(office.told("ApprovalDenied", why="dependent")) == 4
    # Olga and Otto are still two.
    other = await office("olga", "POST", f"/people/{amina}/erase", WHY)
    office.later(days=14)
    assert (await office.approve("puppet", asked)).status == 200
    assert (await office.approve("otto", other)).status == 404


async def test_T33_dependence_goes_through_any_number_of_steps(office: Office) -> None:
    """Olga makes Paul, Paul makes Petra: Petra approves neither for Paul nor for Olga."""
    for asker, approver, name in (("olga", "otto", "paul"), ("paul", "omar", "petra")):
        made = await office(asker, "POST", "/administrators", {"username": name, "role": "owner"})
        await office.newcomer(made, approver, name)
    office.crowd.administrator("third", "owner")
    for asker in ("olga", "paul"):
        asked = await office(asker, "POST", f"/people/{office.crowd.person(f'for {asker}')}/erase", WHY)
        assert (await office.approve("petra", asked)).code == "not_independent"
    await office.sign_in("third")
    assert (await office.approve("third", asked)).status == 200


@pytest.mark.parametrize("how", ["reset", "promoted", "restored"])
async def test_T33_a_second_one_taken_over_after_the_asking_is_none(office: Office, how: str) -> None:
    """Olga asks, gets a colleague's account into her hands (Otto agrees to that), and would approve with it."""
    path = f"/administrators/{office.ids['mina']}"
    if how == "restored":
        assert (await office("otto", "PATCH", path, {"role": "owner"})).status == 202
        assert (await office("otto", "PATCH", path, {"state": "suspended"})).status == 200
    devices = [await device(office, name) for name in ("amina", "baraka")]
    asked = await office("olga", "POST", "/devices/revoke", {"devices": devices, **WHY})
    method, where, body = {
        "reset": ("POST", f"{path}/reset-password", {}),
        "promoted": ("PATCH", path, {"role": "owner"}),
        "restored": ("PATCH", path, {"state": "active"}),
    }[how]
    taking = await office("olga", method, where, body)
    if how == "reset":
        await office.newcomer(taking, "otto", "mina")
    else:
        assert (await office.approve("otto", taking)).status == 200
        await office.sign_in("mina")
    approval = {**asked.body["approval"]}["approval"]
    denied = await office("mina", "POST", f"/approvals/{approval}/approve")
    assert (denied.status, denied.code) == (403, "not_independent")
    assert (await office("otto", "POST", f"/approvals/{approval}/approve")).status == 200


async def test_T33_of_two_owners_one_made_the_other_and_they_are_told_what_to_do(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    crowd.administrator("olga", "owner")
    async with serving(service_url) as api:
        token = await api.token("olga", administrator=True)
        body = {"username": "otto", "role": "owner", "password": PASSWORD}
        assert (await api.call("POST", "/admin/administrators", body, token=token)).status == 201
    amina = crowd.person("amina")
    async with serving(service_url, TWO) as api:
        token = await api.token("olga", administrator=True)
        asked = await api.call("POST", f"/admin/people/{amina}/erase", WHY, token=token)
        assert (asked.status, asked.code) == (409, "nobody_to_approve")
        assert "From 20" in asked["message"]
        assert "passbook administrator add" in asked["message"]
        # The operator makes another, who is nobody's.
        crowd.administrator("omar", "owner")
        asked = await api.call("POST", f"/admin/people/{amina}/erase", WHY, token=token)
        assert asked.status == 202
        omar = await api.token("omar", administrator=True)
        path = f"/admin/approvals/{asked['approval']}/approve"
        assert (await api.call("POST", path, token=omar)).status == 200


async def test_T33_whom_it_concerns_does_not_approve_it(office: Office) -> None:
    asked = await office("olga", "POST", f"/administrators/{office.ids['otto']}/reset-password", {})
    assert (await office.approve("otto", asked)).code == "second_approver"
    assert (await office.approve("omar", asked)).status == 200


async def test_T33_who_asked_and_is_out_meanwhile_gets_nothing(office: Office) -> None:
    asked = await office("olga", "POST", f"/people/{office.crowd.person('amina')}/erase", WHY)
    assert (
        await office("otto", "PATCH", f"/administrators/{office.ids['olga']}", {"state": "suspended"})
    ).status == 200
    late = await office.approve("otto", asked)
    assert (late.status, late.code) == (409, "asker_out")


# Support who wipes phones


async def device(office: Office, name: str) -> str:
    """A phone of somebody new."""
    office.crowd.person(name)
    token = await office.api.token(name)
    return str((await office.api.call("POST", "/devices", {}, token=token))["device"])


@pytest.mark.parametrize("second", [False, True])
async def test_T33_phones_wiped_one_by_one_come_to_an_end(
    service_url: str, crowd: Crowd, database: ServiceDatabase, second: bool
) -> None:
    more = {**(TWO if second else {}), "PASSBOOK_HOURLY_ACTS": "wipe_device=2"}
    async with office_at(service_url, crowd, database, **more) as office:
        phones = [await device(office, name) for name in ("amina", "baraka", "chike")]
        for phone in phones[:2]:
            assert (await office("sami", "POST", f"/devices/{phone}/wipe", WHY))["wipe"] == "ordered"
        third = await office("sami", "POST", f"/devices/{phones[2]}/wipe", WHY)
        seen = await office("sami", "GET", f"/devices/{phones[2]}")
        # The access of a lost phone ends whatever becomes of its copy.
        assert (seen["state"], seen["wipe"]) == ("revoked", None)
        if second:
            assert (await office.approve("otto", third)).status == 200
            assert (await office("sami", "GET", f"/devices/{phones[2]}"))["wipe"] == "ordered"
        else:
            assert (third.status, third.code) == (429, "hourly_bound")
            assert office.told("HourlyBoundReached", action="wipe_device")[0].actor == office.ids["sami"]


async def test_T33_many_accounts_of_one_hand_have_one_bound(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    async with office_at(service_url, crowd, database, PASSBOOK_HOURLY_ACTS="wipe_device=2") as office:
        phones = [await device(office, name) for name in ("amina", "baraka", "chike")]
        for name in ("helper", "hand"):
            body = {"username": name, "role": "owner", "password": PASSWORD}
            maker = "olga" if name == "helper" else "helper"
            made = await office(maker, "POST", "/administrators", body)
            assert made.status == 201, made.body
            with database.begin() as connection:
                connection.execute(update(tables.administrator).values(must_change_password=False))
            await office.sign_in(name)
        for who, phone, status in zip(("olga", "helper", "hand"), phones, (200, 200, 429), strict=True):
            answer = await office(who, "POST", f"/devices/{phone}/wipe", WHY)
            assert answer.status == status, (who, answer.body)
        assert (await office("sami", "POST", f"/devices/{phones[2]}/wipe", WHY)).status == 200


async def test_T33_a_stolen_van_of_phones_is_no_dead_end(
    service_url: str, crowd: Crowd, database: ServiceDatabase
) -> None:
    """More than the hourly number, at once: with another's consent; and where nobody is, the owner's switch."""
    bound = {"PASSBOOK_HOURLY_ACTS": "revoke_device=2,revoke_devices=2"}
    async with office_at(service_url, crowd, database, **TWO, **bound) as office:
        phones = [await device(office, f"person {number}") for number in range(3)]
        asked = await office("sami", "POST", "/devices/revoke", {"devices": phones, **WHY})
        approval = asked["approval"]["approval"]
        assert (await office("otto", "POST", f"/approvals/{approval}/approve")).status == 200
        for phone in phones:
            assert (await office("sami", "GET", f"/devices/{phone}"))["state"] == "revoked"
        phones = [await device(office, f"somebody {number}") for number in range(3)]
    async with serving(service_url, bound) as api:
        token = await api.token("olga", administrator=True)
        many = await api.call("POST", "/admin/devices/revoke", {"devices": phones, **WHY}, token=token)
        assert (many.status, many.code) == (403, "too_much_at_once")
        off = {"open": False, "reason": "a van of phones was stolen"}
        assert (await api.call("PUT", "/admin/tenant", off, token=token)).status == 200


def test_T33_numbers_that_cannot_be_are_refused() -> None:
    assert sensitivity.hourly("wipe_device=30, reset_password = 5")["wipe_device"] == 30
    for wrong in ("wipe_device", "wipe_device=0", "wipe_device=-1", "wipe_devices=3", "switch_access=3", "=3"):
        with pytest.raises(Refused, match="PASSBOOK_HOURLY_ACTS"):
            sensitivity.hourly(wrong)


# Any history


@dataclass
class Keyboard:
    """An administrator's request, as the routes have it, without HTTP."""

    service: Service
    by: Actor

    @contextmanager
    def enter(self, needed: str, act: str) -> Iterator[Any]:
        with self.service.database.begin() as connection:
            row = connection.execute(
                select(tables.administrator).where(tables.administrator.c.id == self.by.id)
            ).one()
            if row.state != "active" or ROLE.index(row.role) < ROLE.index(needed):
                raise Refused(act)
            yield connection, AdministratorCaller(row.id, row.username, row.role, "", False)


ROLE = ("support", "manager", "owner")


@dataclass
class Plot:
    """Accounts, and which humans can use each: the model knows no more than who was handed what."""

    service: Service
    accounts: list[str] = field(default_factory=list)
    #: Account → humans who may sign in with it.
    users: dict[str, set[str]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    done: list[tuple[str, str]] = field(default_factory=list)
    names: int = 0

    def desk(self, which: int) -> Keyboard:
        return Keyboard(self.service, Actor("administrator", self.accounts[which % len(self.accounts)], "plot", ""))

    def act(self, who: int, action: str, whom: int) -> None:
        desk, whom_id = self.desk(who), self.accounts[whom % len(self.accounts)]
        arguments: dict[str, Any] = {"administrator": whom_id}
        if action == sensitivity.ADD_ADMINISTRATOR:
            self.names += 1
            arguments = {"username": f"account {self.names}", "role": "owner"}
        elif action == sensitivity.CHANGE_ROLE:
            arguments |= {"role": "owner", "state": None}
        elif action == sensitivity.SUSPEND_ADMINISTRATOR:
            arguments |= {"role": None, "state": "suspended"}
        elif action == sensitivity.RESTORE_ADMINISTRATOR:
            arguments |= {"role": None, "state": "active"}
        elif action == sensitivity.ERASE_PERSON:
            self.names += 1
            arguments = {"person": Crowd(self.service.database).person(f"person {self.names}")}
        try:
            made = acts.submit(desk, action, arguments, "plot")  # type: ignore[arg-type]
        except (Refused, TooMany):
            return
        if isinstance(made, Approval):
            self.waiting.append(made.approval)
            self.asked[made.approval] = desk.by.id

    def approve(self, who: int, which: int) -> None:
        if not self.waiting:
            return
        approval, desk = self.waiting[which % len(self.waiting)], self.desk(who)
        before = self.versions()
        try:
            decided, done = acts.decide(desk, approval, approve=True)  # type: ignore[arg-type]
        except PassbookError:
            return
        self.waiting.remove(approval)
        asker, approver = self.asked[approval], desk.by.id
        # One human who can use both accounts would have done it alone.
        assert self.users[asker].isdisjoint(self.users[approver]), (decided.action, self.users)
        self.done.append((asker, approver))
        made = decided.arguments.get("administrator")
        if isinstance(done, acts.Access) and decided.action == sensitivity.ADD_ADMINISTRATOR:
            made = done.whom.administrator  # type: ignore[union-attr]
            self.accounts.append(made)
            self.users[made] = {made}
        changed = made is not None and self.versions()[made] != before.get(made)
        if changed and decided.action != sensitivity.SUSPEND_ADMINISTRATOR:
            # Whoever asked or approved may have been handed the access, and whoever can be them.
            self.users[made] |= self.users[asker] | self.users[approver]

    def versions(self) -> dict[str, int]:
        one = tables.administrator
        with self.service.database.begin() as connection:
            return {row.id: row.version for row in connection.execute(select(one.c.id, one.c.version))}


_MOVES = st.one_of(
    st.tuples(
        st.just("act"),
        st.integers(0, 6),
        st.sampled_from(
            (
                sensitivity.ADD_ADMINISTRATOR,
                sensitivity.RESET_ADMINISTRATOR,
                sensitivity.CHANGE_ROLE,
                sensitivity.SUSPEND_ADMINISTRATOR,
                sensitivity.RESTORE_ADMINISTRATOR,
                sensitivity.ERASE_PERSON,
            )
        ),
        st.integers(0, 6),
    ),
    st.tuples(st.just("approve"), st.integers(0, 6), st.integers(0, 4)),
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(moves=st.lists(_MOVES, min_size=10, max_size=30))
def test_T33_no_history_lets_one_human_do_what_takes_two(pg: Postgres, migrated: str, moves: list[Any]) -> None:
    with pg.database(migrated) as url:
        database = ServiceDatabase(url)
        service = Service.build(
            Settings.load({**TWO, "PASSBOOK_HOURLY_ACTS": "suspend_administrator=1"}), database, secret=SECRET
        )
        plot = Plot(service)
        try:
            for name in ("olga", "otto", "omar"):
                made = Crowd(database).administrator(name, "owner")
                plot.accounts.append(made)
                plot.users[made] = {made}
            for name, *arguments in moves:
                getattr(plot, name)(*arguments)
            truth.check(database)
        finally:
            service.hashing.close()
            database.dispose()
