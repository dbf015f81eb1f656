"""A real PouchDB with a device's credential, through a gateway process: from first sync to the last."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from auth_service import granting
from sample_institution import moves
from sample_institution.demo.children import running
from sample_institution.pouch import PouchClient
from tests.support.actors import TESTER
from tests.support.killing import passbook
from tests.support.stage import Stage


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def gateway(stage: Stage, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The environment in which a gateway runs, and devices are registered."""
    port = str(_free_port())
    environment = {
        **_system(),
        **stage.environment,
        "PASSBOOK_GATEWAY_PORT": port,
        "PASSBOOK_GATEWAY_ADMIN_PORT": "0",
        "PASSBOOK_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    async with running(["gateway"], environment, tmp_path / "gateway.log", ready="Gateway listens"):
        yield environment


def _system() -> dict[str, str]:
    import os

    return dict(os.environ)


async def _device(environment: dict[str, str], username: str) -> tuple[str, str, str]:
    status, output, errors = await passbook(
        "device", "add", "--person", username, "--json", environment=environment
    )
    assert status == 0, errors
    credential = json.loads(output)
    return credential["url"], credential["username"], credential["password"]


def _bodies(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["_id"]: {key: value for key, value in one.items() if key != "_attachments"} for one in documents}


async def test_a_customer_carries_an_exact_copy_and_reads_it_offline(
    stage: Stage, gateway: dict[str, str], tmp_path: Path
) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    device = await _device(gateway, "customer")
    store = tmp_path / "phone"
    async with PouchClient.started(*device, store=store) as phone:
        assert (await phone.replicate())["ok"] is True
        assert _bodies(await phone.docs()) == _bodies(list((await stage.copies("customer")).values()))
        await phone.stop()
    # No network: an address at which nobody listens. Everything is still there.
    nowhere = "http://127.0.0.1:1/passbook"
    person = stage.person_of("customer")  # which an app keeps
    async with PouchClient.started(nowhere, *device[1:], store=store, person=person) as phone:
        loans = await phone.docs("loan:", "loan:\ufff0")
        assert loans
        assert (await phone.get("~passbook") or {})["clients"][0]["id"] == stage.institution.customer
        await phone.stop()
    # Back again: it goes on from its checkpoint and fetches only what is new.
    account = moves.active_savings_of(stage.ledger, stage.institution.customer)
    moved = moves.deposit(stage.ledger, account, Decimal(7))
    written = (await stage.run()).documents_written
    async with PouchClient.started(*device, store=store) as phone:
        done = await phone.replicate()
        assert done["written"] == written
        balance = (await phone.get(f"savings:{account}") or {})["balance"]
        assert Decimal(balance) == moved.balance


async def test_a_change_reaches_a_watching_device(stage: Stage, gateway: dict[str, str]) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    async with PouchClient.started(*await _device(gateway, "customer"), live=True) as phone:
        await phone.wait("paused")
        loan = moves.open_loan_of(stage.ledger, stage.institution.customer)
        moved = moves.repay(stage.ledger, loan, Decimal(5))
        await stage.run()
        document = await phone.until_document(f"loan:{loan}", status="active")
        await phone.wait("change")
        while Decimal(document["summary"]["total_outstanding"]) != moved.total_outstanding:
            seen = len(phone.events)
            await phone.wait("change", "paused", after=seen)
            document = await phone.get(f"loan:{loan}") or {}


async def test_an_agent_with_many_clients_loses_one_and_keeps_the_rest(
    stage: Stage, gateway: dict[str, str]
) -> None:
    """T03: removed mapping, removed documents: none of the lost client's, all of the others'."""
    clients = stage.institution.agent_clients
    stage.add("agent", clients)
    await stage.run()
    async with PouchClient.started(*await _device(gateway, "agent")) as phone:
        assert (await phone.replicate())["ok"] is True
        before = await phone.docs()
        assert {one["client_id"] for one in before if "client_id" in one} == set(clients)
        with stage.database.begin() as connection:
            granting.unlink(connection, TESTER, "agent", [clients[3]])
        await stage.run()
        assert (await phone.replicate())["ok"] is True
        after = await phone.docs()
        assert not [one for one in after if one.get("client_id") == clients[3]]
        kept = {one["_id"] for one in before if one.get("client_id") != clients[3]}
        assert {one["_id"] for one in after} == kept


async def test_T03_an_old_revision_of_a_client_taken_away_cannot_be_asked_for(
    stage: Stage, gateway: dict[str, str]
) -> None:
    import asyncio

    import aiohttp

    keep, lose = stage.institution.agent_clients[:2]
    stage.add("agent", [keep, lose])
    await stage.run()
    revision = (await stage.revisions("agent"))[f"client:{lose}"]
    url, username, password = await _device(gateway, "agent")
    with stage.database.begin() as connection:
        granting.unlink(connection, TESTER, "agent", [lose])
    await stage.run()
    headers = {"Authorization": aiohttp.encode_basic_auth(username, password, "utf-8")}
    async with aiohttp.ClientSession(headers=headers) as session, asyncio.timeout(30):
        while True:  # compaction runs by itself in CouchDB
            async with session.get(f"{url}/client:{lose}", params={"rev": revision}) as answer:
                if answer.status == 404:
                    break
            await asyncio.sleep(0.1)


async def test_a_revoked_device_is_refused_at_its_next_request(stage: Stage, gateway: dict[str, str]) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    device = await _device(gateway, "customer")
    async with PouchClient.started(*device) as phone:
        assert (await phone.replicate())["ok"] is True
        count = len(await phone.docs())
        status, _, errors = await passbook("device", "revoke", device[1], environment=gateway)
        assert status == 0, errors
        refused = await phone.replicate()
        assert refused["event"] == "error"
        assert refused["status"] == 401
        assert len(await phone.docs()) == count


async def test_a_rebuilt_database_costs_a_device_nothing(stage: Stage, gateway: dict[str, str]) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    async with PouchClient.started(*await _device(gateway, "customer")) as phone:
        assert (await phone.replicate())["ok"] is True
        before = await phone.docs()
        async with stage.couch() as couch:
            await couch.delete_database(stage.database_of("customer"))
        assert (await stage.verify(repair=True)).ok
        done = await phone.replicate()
        assert done["ok"] is True
        assert done["written"] == 0
        assert await phone.docs() == before
