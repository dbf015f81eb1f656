"""Whoever is erased leaves an opaque id in the audit log, and nothing else: no name, copy, row or line in a log."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from yarl import URL

from auth_service import people
from auth_service.limits import account_key
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.credentials import DatabaseCredentials
from tests.support import truth
from tests.support.actors import TESTER
from tests.support.api import PASSWORD, Answer, Api, Crowd, serving
from tests.support.couch import Couch
from tests.support.killing import passbook
from tests.support.postgres_door import Command, command
from tests.support.stage import Stage

#: What is looked for: it stands in every field that can hold something about the person.
CANARY = "Zvakanaka-Chirikure-4711"
#: What the log is still to tell of repeats, by ids as it does, for some minutes.
OF_THE_LOG = ["audit_repeat.person"]
#: The administrator's, which the audit log must not tell either.
OWNER = "Rumbidzai-Owner-0815"
INITIAL, NEW = PASSWORD, "seven blue boats sail south"
REASON = {"reason": "asked for erasure, ticket 4711"}


@pytest.fixture
async def couch(stage: Stage) -> AsyncIterator[Couch]:
    async with aiohttp.ClientSession() as session:
        yield Couch(session, stage.outside.couchdb_url)


@pytest.fixture
async def process(stage: Stage) -> AsyncIterator[Command]:
    """`passbook auth`, which logs all that it can."""
    running = await command({**stage.environment, "PASSBOOK_LOG_LEVEL": "debug", "PASSBOOK_LOG_FORMAT": "json"})
    yield running
    await running.end()


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def traces(database: ServiceDatabase, *needles: str) -> list[str]:
    """Where one of these is in the service database: in text, in any case, or in bytes."""
    wanted = [needle.lower() for needle in needles]
    wanted += [needle.lower().encode().hex() for needle in needles] + [needle.encode().hex() for needle in needles]
    return sorted(
        {
            f"{table}.{column}"
            for table, rows in truth.everything(database).items()
            for row in rows
            for column, value in row.items()
            if value is not None and any(needle in value.lower() for needle in wanted)
        }
    )


async def documents(couch: Couch) -> str:
    """Everything in every database of CouchDB, as text.

    Without `_global_changes`, where there is one: CouchDB's own list of the databases that changed, by their names,
    which are random and name nobody.
    """
    found = []
    for name in set(await couch.ask("GET", "_all_dbs")) - {"_global_changes"}:
        found += [name, json.dumps(await couch.ask("GET", f"{name}/_all_docs?include_docs=true"))]
    return "\n".join(found)


async def a_full_life(stage: Stage, api: Api, owner: str, directory: Path) -> tuple[str, Answer, str]:
    """Somebody who did all that leaves a trace: their id, a device's credential, a token."""

    async def admin(method: str, path: str, body: Any = None, expected: int = 200) -> Answer:
        answer = await api.call(method, f"/admin{path}", body, token=owner, headers={"If-Match": "*"})
        assert answer.status == expected, answer.body
        return answer

    client = stage.institution.customer
    stage.change(
        "UPDATE m_client SET display_name = :name, firstname = :name WHERE id = :id", name=CANARY, id=client
    )
    made = await admin("POST", "/people", {"username": "to be renamed", "clients": [client]}, 201)
    person = made["person"]["person"]
    await admin("PATCH", f"/people/{person}", {"username": CANARY})
    await admin("POST", f"/people/{person}/reset-password", {"password": INITIAL})
    for typed in (CANARY, CANARY.upper(), f" {CANARY} "):
        assert (await api.sign_in(typed, "a wrong password")).status == 400
    first = await api.sign_in(CANARY, INITIAL)
    assert first.status == 200, first.body
    changed = await api.call("POST", "/password", {"current": INITIAL, "new": NEW}, token=first["access_token"])
    assert changed.status == 200, changed.body
    weak = await api.call("POST", "/password", {"current": NEW, "new": f"{CANARY}!"}, token=first["access_token"])
    assert weak.code == "weak_password"
    token = (await api.refresh(first["refresh_token"]))["access_token"]
    device = await api.call(
        "POST",
        "/devices",
        {"name": f"phone of {CANARY}", "platform": CANARY},
        token=token,
        headers={"Idempotency-Key": f"{CANARY}-{CANARY}"},
    )
    assert device.status == 201, device.body
    assert (await api.sign_in(CANARY, "a wrong password")).status == 400
    basic = aiohttp.encode_basic_auth(CANARY, NEW)
    assert (await api.call("POST", "/authentication", headers={"Authorization": basic})).status == 200
    await admin("POST", f"/people/{person}/clients", {"clients": [stage.institution.agent_clients[0]]})
    await admin("PUT", f"/people/{person}/permissions", {"permissions": ["profile", "loans", "transactions"]})
    await admin("GET", f"/people/{person}/preview")
    await admin("POST", f"/people/{person}/preview", {"permissions": ["profile"]})
    found = await admin("GET", str(URL("/people").with_query(text=CANARY)))
    assert [one["person"] for one in found["items"]] == [person]
    file = directory / "people.csv"
    file.write_text(f"username,clients,permissions\n{CANARY},{client},profile loans savings\n")
    status, output, errors = await passbook(
        "person", "import", str(file), "--update", "--json", environment=stage.environment
    )
    assert status == 0, errors
    assert CANARY in output
    await stage.run()
    gateway = DatabaseCredentials.at(stage.outside.service_url)
    assert await truth.gateway_says(gateway, device["username"], device["password"]) == person
    await gateway.seen(device["device"])
    await gateway.close()
    return person, device, token


async def test_whoever_is_erased_is_found_nowhere(
    stage: Stage, couch: Couch, process: Command, tmp_path: Path
) -> None:
    Crowd(stage.database).administrator(OWNER, "owner")
    async with aiohttp.ClientSession() as session:
        api = Api(process.url, session)
        owner = (await api.sign_in(OWNER, administrator=True))["access_token"]
        person, device, token = await a_full_life(stage, api, owner, tmp_path)
        name = stage.database_of(CANARY)
        # Whatever looks for traces finds them as long as they are there.
        assert traces(stage.database, CANARY) == ["device.name", "device.platform", "person.username"]
        assert {"device.person_id", "session.person_id", "familiar_place.principal"} < set(
            traces(stage.database, person)
        )
        counted = account_key("passbook", CANARY).hex()
        assert any(counted in (row["bucket"] or "") for row in truth.everything(stage.database)["sign_in_counter"])
        assert CANARY in await documents(couch)

        erased = await api.call("POST", f"/admin/people/{person}/erase", REASON, token=owner)
        assert erased.body == {"person": person, "state": "done"}

        assert traces(stage.database, CANARY, OWNER) == ["administrator.username"]
        assert traces(stage.database, person, device["device"]) == [
            "audit_event.actor",
            "audit_event.device",
            "audit_event.person",
            "audit_repeat.actor",
            *OF_THE_LOG,
        ]
        assert traces(stage.database, name) == []
        left = truth.everything(stage.database)["sign_in_counter"]
        assert not [row for row in left if counted in (row["bucket"] or "")]
        everything = await documents(couch)
        assert name not in everything
        assert CANARY not in everything
        assert (await api.call("GET", "/me", token=token)).status == 401
        gone = await api.call("GET", f"/admin/people/{person}", token=owner)
        assert gone.status == 404
        # The name is free, and whoever has it now has nothing of who had it before.
        again = await api.call("POST", "/admin/people", {"username": CANARY}, token=owner)
        assert again.status == 201
        assert again["person"]["person"] != person
    status, said = await process.end()
    assert status == 0
    assert '"route": "/admin/people/{person}/erase"' in said, "it did log what it was asked"
    for needle in (CANARY, OWNER, INITIAL, NEW, device["password"], name):
        assert needle.lower() not in said.lower()
        assert needle.encode().hex() not in said


async def test_the_audit_log_keeps_no_personal_data(stage: Stage, process: Command, tmp_path: Path) -> None:
    Crowd(stage.database).administrator(OWNER, "owner")
    async with aiohttp.ClientSession() as session:
        api = Api(process.url, session)
        owner = (await api.sign_in(OWNER, administrator=True))["access_token"]
        person, _, _ = await a_full_life(stage, api, owner, tmp_path)
    rows = truth.everything(stage.database)["audit_event"]
    assert len({row["event"] for row in rows if row["person"] == person}) >= 12
    text = json.dumps(rows).lower()
    for needle in (CANARY, OWNER, "to be renamed", "127.0.0.1", *CANARY.split("-")[:2]):
        assert needle.lower() not in text
    assert {row["address"] for row in rows} <= {"", "127.0.0.0/24"}


@pytest.mark.parametrize("how", ["the API", "a second approver", "the command"])
async def test_however_it_is_done_nothing_refers_to_the_person(stage: Stage, couch: Couch, how: str) -> None:
    crowd = Crowd(stage.database)
    for name in ("olga", "omar"):
        crowd.administrator(name, "owner")
    amina = crowd.person(CANARY, clients=(stage.institution.customer,))
    await stage.run()
    name = stage.database_of(CANARY)
    settings = {"PASSBOOK_SECOND_APPROVER": "true" if how == "a second approver" else "false"}
    async with serving(stage.outside.service_url, settings, couchdb_url=stage.outside.couchdb_url) as api:
        await api.sign_in(CANARY, "a wrong password")
        token = await api.token(CANARY)
        await api.sign_in(CANARY, "a wrong password")
        assert (await api.call("POST", "/devices", {"name": CANARY}, token=token)).status == 201
        counted = account_key("passbook", CANARY).hex()
        assert traces(stage.database, counted) != []
        if how == "the command":
            status, _, errors = await passbook("person", "delete", CANARY, "--yes", environment=stage.environment)
            assert status == 0, errors
        else:
            olga, omar = [await api.token(one, administrator=True) for one in ("olga", "omar")]
            asked = await api.call("POST", f"/admin/people/{amina}/erase", REASON, token=olga)
            assert asked.status == (202 if how == "a second approver" else 200)
            if how == "a second approver":
                assert traces(stage.database, CANARY) != [], "nothing happens before it is approved"
                path = f"/admin/approvals/{asked['approval']}/approve"
                assert (await api.call("POST", path, token=omar)).status == 200
    assert traces(stage.database, CANARY, counted, name) == []
    # Whoever approves something has seen an id, as the audit log has.
    known = ["approval.arguments"] if how == "a second approver" else []
    assert traces(stage.database, amina) == [*known, "audit_event.actor", "audit_event.person", *OF_THE_LOG]
    assert name not in await documents(couch)
    assert [row.event for row in truth.events(stage.database) if row.person == amina][-2:] == [
        "PersonDeleted",
        "PersonErased",
    ]
    truth.check(stage.database)


@pytest.mark.parametrize("problem", ["nobody there", "refuses us"])
async def test_with_couchdb_away_access_is_gone_at_once_and_the_worker_finishes(
    stage: Stage, couch: Couch, refused_port: int, problem: str
) -> None:
    crowd = Crowd(stage.database)
    crowd.administrator("olga", "owner")
    amina = crowd.person(CANARY, clients=(stage.institution.customer,))
    await stage.run()
    name = stage.database_of(CANARY)
    couchdb_url = (
        f"http://admin:x@127.0.0.1:{refused_port}"
        if problem == "nobody there"
        else str(URL(stage.outside.couchdb_url).with_password("wrong"))
    )
    async with serving(stage.outside.service_url, couchdb_url=couchdb_url) as api:
        owner = await api.token("olga", administrator=True)
        before = await api.sign_in(CANARY)
        token = before["access_token"]
        device = await api.call("POST", "/devices", {"name": CANARY}, token=token)
        erased = await api.call("POST", f"/admin/people/{amina}/erase", REASON, token=owner)
        assert (erased.status, erased.body) == (200, {"person": amina, "state": "pending"})
        gateway = DatabaseCredentials.at(stage.outside.service_url)
        assert await truth.gateway_says(gateway, device["username"], device["password"]) == "unknown"
        await gateway.close()
        assert (await api.call("GET", "/me", token=token)).status == 401
        assert (await api.refresh(before["refresh_token"])).status == 400
        assert (await api.sign_in(CANARY)).code == "unknown"
        assert (await api.call("POST", f"/admin/people/{amina}/erase", REASON, token=owner)).status == 404
        again = await api.call("POST", "/admin/people", {"username": CANARY}, token=owner)
        assert again.status == 201, "the name is free at once"
        with stage.database.begin() as connection:
            people.begin_deletion(connection, TESTER, again["person"]["person"])
    assert traces(stage.database, CANARY) == []
    assert name in await couch.ask("GET", "_all_dbs")
    summary = await stage.run()
    assert summary.failures == 0
    assert name not in await couch.ask("GET", "_all_dbs")
    with stage.database.begin() as connection:
        assert connection.execute(sa.select(tables.person)).all() == []
    assert traces(stage.database, amina) == ["audit_event.actor", "audit_event.person", *OF_THE_LOG]
    told = [(row.event, row.actor_kind) for row in truth.events(stage.database) if row.person == amina]
    assert told[-2:] == [("PersonDeleted", "administrator"), ("PersonErased", "worker")]
    truth.check(stage.database)


@pytest.mark.parametrize("how", ["the API", "the command"])
async def test_a_new_password_from_an_administrator_makes_every_place_a_strange_one(stage: Stage, how: str) -> None:
    crowd = Crowd(stage.database)
    crowd.administrator("olga", "owner")
    amina = crowd.person("amina")
    async with serving(stage.outside.service_url) as api:
        owner = await api.token("olga", administrator=True)
        await api.token("amina")  # or somebody who knows the password
        assert "familiar_place.principal" in traces(stage.database, amina)
        if how == "the API":
            answer = await api.call("POST", f"/admin/people/{amina}/reset-password", {}, token=owner)
            assert answer.status == 200
        else:
            status, _, errors = await passbook("person", "reset-password", "amina", environment=stage.environment)
            assert status == 0, errors
    assert "familiar_place.principal" not in traces(stage.database, amina)


async def test_so_does_one_for_an_administrator(service_url: str, database: ServiceDatabase, crowd: Crowd) -> None:
    crowd.administrator("olga", "owner")
    omar = crowd.administrator("omar", "support")
    async with serving(service_url) as api:
        owner, _ = [await api.token(name, administrator=True) for name in ("olga", "omar")]
        assert "familiar_place.principal" in traces(database, omar)
        answer = await api.call("POST", f"/admin/administrators/{omar}/reset-password", {}, token=owner)
        assert answer.status == 200
    assert "familiar_place.principal" not in traces(database, omar)
