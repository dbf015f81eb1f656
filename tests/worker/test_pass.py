"""A pass: writes what differs and nothing else, reads each client once, leaves nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import sqlalchemy as sa

from auth_service import granting, people
from auth_service.scopes import Window
from passbook.progress import Counting
from passbook.servicedb import tables
from projections.documents import TYPES
from sample_institution import moves
from tests.schemas import ALL
from tests.support.actors import TESTER
from tests.support.stage import Stage

SCHEMAS = {
    path.stem: jsonschema.Draft202012Validator(json.loads(path.read_text()))
    for path in (Path(__file__).parents[2] / "docs" / "schemas").iterdir()
}
BY_TYPE = {str(kind.__struct_config__.tag): kind for kind in TYPES}


async def test_a_first_pass_writes_everything_and_a_second_one_nothing(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    stage.add("agent", stage.institution.agent_clients)
    first = await stage.run()
    assert first.failures == 0
    assert first.persons == 2
    assert first.clients == len({stage.institution.customer, *stage.institution.agent_clients})
    assert first.documents_written > 200
    before = await stage.revisions("agent")

    async with stage.worker() as one:
        writes = one.couch.requests.writes
        second = await one.run_pass(Counting())
        assert one.couch.requests.writes == writes, "an unchanged ledger must cost CouchDB no write request"
    assert (second.documents_written, second.documents_deleted) == (0, 0)
    assert second.documents_unchanged == first.documents_written
    assert await stage.revisions("agent") == before


async def test_every_document_decodes_as_its_model_and_says_whose_it_is(stage: Stage) -> None:
    stage.add("everything", stage.institution.active_clients)
    await stage.run()
    copies = await stage.copies("everything")
    kinds = set()
    for document_id, stored in copies.items():
        body = {key: value for key, value in stored.items() if not key.startswith("_")}
        kinds.add(body["type"])
        model = BY_TYPE[body["type"]]
        decoded = msgspec.convert(body, model, strict=False)
        assert msgspec.to_builtins(decoded) == body, f"{document_id} holds more than its model"
        for name in (body["type"], ALL):
            SCHEMAS[name].validate(stored)
        assert list(SCHEMAS[body["type"]].iter_errors(stored | {"more": 1})), "nothing else may be in it"
        assert body["schema"] == (2 if document_id == "~passbook" else 1)
        if document_id != "~passbook":
            assert body["client_id"] in stage.institution.active_clients
    assert kinds == set(BY_TYPE) - {"client_image"}


async def test_pictures_come_as_attachments_and_follow_their_files(stage: Stage, tmp_path: Any) -> None:
    from sample_institution.images import write_images

    assert write_images(stage.ledger, tmp_path / "content") > 0
    stage.set(image_dir=tmp_path / "content")
    client, location = _a_picture(stage)
    stage.add("customer", [client])
    await stage.run()
    document = (await stage.copies("customer"))[f"client:{client}:image"]
    file = tmp_path / "content" / location
    assert document["bytes"] == file.stat().st_size
    async with stage.couch() as couch:
        assert (
            await couch.attachment(stage.database_of("customer"), document["_id"], "picture") == file.read_bytes()
        )
    file.write_bytes(b"\x89PNG\r\n\x1a\nanother")
    assert (await stage.run()).documents_written == 2  # the picture and the manifest
    assert (await stage.verify()).ok
    file.write_bytes(b"<html>no picture</html>")
    assert (await stage.run()).documents_deleted == 1


def _a_picture(stage: Stage) -> tuple[int, str]:
    with stage.ledger.begin() as connection:
        query = sa.text(
            "SELECT c.id, i.location FROM m_client c JOIN m_image i ON i.id = c.image_id"
            " WHERE c.status_enum = 300 ORDER BY c.id LIMIT 1"
        )
        client, location = connection.execute(query).one()
    return client, location


async def test_a_client_is_read_once_however_many_people_hold_it(stage: Stage) -> None:
    clients = stage.institution.active_clients[:5]
    for number in range(6):
        stage.add(f"agent{number}", clients)
    statements = await _statements_of_a_pass(stage)
    reads = [text for text in statements if "FROM m_client c\n" in text]
    assert len(reads) == 1


async def test_the_number_of_queries_does_not_depend_on_the_number_of_clients(stage: Stage) -> None:
    stage.set(ledger_batch=1000)
    stage.add("few", stage.institution.active_clients[:2])
    few = await _statements_of_a_pass(stage)
    stage.add("many", stage.institution.active_clients)
    many = await _statements_of_a_pass(stage)
    assert len(few) == len(many) < 30


async def _statements_of_a_pass(stage: Stage) -> list[str]:
    seen: list[str] = []
    async with stage.worker() as one:
        engine = one.reader.engine

        @sa.event.listens_for(engine, "before_cursor_execute")
        def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            seen.append(statement)

        await one.run_pass(Counting())
    return seen


async def test_losing_a_client_leaves_tombstones_for_its_documents_and_no_others(stage: Stage) -> None:
    keep, lose = stage.institution.agent_clients[:2]
    stage.add("agent", [keep, lose])
    await stage.run()
    before = await stage.copies("agent")
    mine = {key for key, document in before.items() if document.get("client_id") == lose}
    with stage.database.begin() as connection:
        granting.unlink(connection, TESTER, "agent", [lose])
    summary = await stage.run()
    after = await stage.copies("agent")
    assert summary.documents_deleted == len(mine) > 3
    assert after.keys() == before.keys() - mine
    assert [client["id"] for client in after["~passbook"]["clients"]] == [keep]
    unchanged = {key: document["_rev"] for key, document in after.items() if key != "~passbook"}
    assert unchanged == {key: before[key]["_rev"] for key in unchanged}
    with stage.database.begin() as connection:
        granting.link(connection, TESTER, "agent", [lose])
    await stage.run()
    again = await stage.copies("agent")
    assert again.keys() == before.keys()
    assert (await stage.verify()).ok


async def test_losing_the_last_client_leaves_the_manifest_alone(stage: Stage) -> None:
    client = stage.institution.customer
    stage.add("customer", [client])
    await stage.run()
    with stage.database.begin() as connection:
        granting.unlink(connection, TESTER, "customer", [client])
    await stage.run()
    copies = await stage.copies("customer")
    assert copies.keys() == {"~passbook"}
    assert copies["~passbook"]["clients"] == []
    assert copies["~passbook"]["counts"] == {}
    assert (await stage.run()).documents_written == 0


PERMISSION_OF = {
    "profile": r"client:\d+",
    "image": r"client:\d+:image",
    "loans": r"loan:.*",
    "schedules": r"loan:\d+:schedule",
    "savings": r"savings:.*",
    "charges": r".*:charges",
    "transactions": r".*:transactions:.*",
}


@pytest.mark.parametrize("denied", sorted(PERMISSION_OF))
async def test_a_permission_taken_away_takes_its_documents_away(stage: Stage, denied: str) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    before = set(await stage.copies("customer"))
    with stage.database.begin() as connection:
        granting.permit(connection, TESTER, "customer", deny=[denied])
    await stage.run()
    after = set(await stage.copies("customer"))
    gone = {key for key in before if re.fullmatch(PERMISSION_OF[denied], key)}
    assert gone or denied == "image"
    assert after == before - gone


async def test_a_history_window_cuts_transactions_and_nothing_else(stage: Stage) -> None:
    stage.add("customer", [stage.institution.customer])
    await stage.run()
    before = await stage.copies("customer")
    from datetime import date

    since = date(2026, 2, 15)
    with stage.database.begin() as connection:
        granting.permit(connection, TESTER, "customer", window=Window(since=since))
    await stage.run()
    after = await stage.copies("customer")
    days = [row["on"] for document in after.values() for row in document.get("transactions", ())]
    assert days
    assert min(days) >= since.isoformat()
    assert after["~passbook"]["history_from"] == since.isoformat()
    assert {key for key in before if ":transactions:" not in key} == {
        key for key in after if ":transactions:" not in key
    }
    assert (await stage.verify()).ok


async def test_clients_and_accounts_that_may_not_be_seen_are_not(stage: Stage) -> None:
    everybody = [*stage.institution.active_clients, *stage.institution.inactive_clients]
    stage.add("agent", everybody)
    summary = await stage.run()
    assert summary.failures == 0
    copies = await stage.copies("agent")
    shown = {int(key.split(":")[1]) for key in copies if re.fullmatch(r"client:\d+", key)}
    with stage.ledger.begin() as connection:
        clients = {row[0]: row[1] for row in connection.execute(sa.text("SELECT id, status_enum FROM m_client"))}
        loans = {row[0]: row[1] for row in connection.execute(sa.text("SELECT id, loan_status_id FROM m_loan"))}
        savings = {
            row[0]: row[1] for row in connection.execute(sa.text("SELECT id, status_enum FROM m_savings_account"))
        }
    assert {clients[client] for client in everybody} == {100, 300, 303, 304, 600, 700, 800}
    assert shown == {client for client in everybody if clients[client] in (300, 303, 304)}
    seen_loans = {loans[int(key.split(":")[1])] for key in copies if key.startswith("loan:")}
    seen_savings = {savings[int(key.split(":")[1])] for key in copies if key.startswith("savings:")}
    assert seen_loans == {200, 300, 303, 304, 600, 601, 602, 700}
    assert seen_savings <= {200, 300, 303, 304, 600, 700, 800}
    assert 300 in seen_savings


async def test_a_closed_client_disappears_and_a_move_in_the_ledger_arrives(stage: Stage) -> None:
    client = stage.institution.customer
    stage.add("customer", [client])
    await stage.run()
    savings = moves.active_savings_of(stage.ledger, client)
    from decimal import Decimal

    moved = moves.deposit(stage.ledger, savings, Decimal("25"))
    summary = await stage.run()
    copies = await stage.copies("customer")
    assert Decimal(copies[f"savings:{savings}"]["balance"]) == moved.balance
    assert 3 <= summary.documents_written <= 5  # the account, its page, the manifest; charges it may have paid
    stage.change("UPDATE m_client SET status_enum = 600 WHERE id = :id", id=client)
    await stage.run()
    assert set(await stage.copies("customer")) == {"~passbook"}


async def test_progress_is_told(stage: Stage) -> None:
    stage.add("agent", stage.institution.agent_clients)
    reporter = Counting()
    await stage.run(reporter)
    total = len(stage.institution.agent_clients)
    assert reporter.seen[0] == (0, total)
    assert reporter.seen[-1] == (total, total)
    assert len(reporter.seen) > 3


async def test_the_manifest_is_the_last_change_of_every_database(stage: Stage) -> None:
    stage.add("agent", stage.institution.agent_clients)
    await stage.run()
    moves.deposit(stage.ledger, moves.active_savings_of(stage.ledger, stage.institution.agent_clients[0]), 5)
    await stage.run()
    async with stage.couch() as couch:
        _, body = await couch._request("GET", f"/{stage.database_of('agent')}/_changes", reading=True)
    assert msgspec.json.decode(body)["results"][-1]["id"] == "~passbook"


async def test_databases_have_opaque_names_and_let_in_their_person_alone(stage: Stage) -> None:
    with stage.database.begin() as connection:
        added = people.add(
            connection,
            TESTER,
            username="amina",
            kind="customer",
            clients=[stage.institution.customer],
            password_hash="-",
        )
        name = connection.execute(sa.select(tables.person.c.database_name)).scalar_one()
    assert re.fullmatch(r"passbook-[0-9a-f]{32}", name)
    await stage.run()
    async with stage.couch() as couch:
        security = await couch.security(name)
    assert security["members"]["names"] == [f"passbook:{added.person}"]
    assert not security["members"]["roles"]
    assert security["admins"] == {"names": [], "roles": ["_admin"]}
