"""The commands as an operator types them: what they print, and how they refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from passbook.servicedb.engine import ServiceDatabase
from tests.support.databases import Postgres
from tests.support.killing import passbook
from tests.support.stage import Stage

Run = Callable[..., Awaitable[Any]]


@pytest.fixture
def run(stage: Stage) -> Run:
    """`passbook ARGUMENTS --json` that must succeed; what it printed."""

    async def call(*arguments: str, status: int = 0) -> Any:
        code, output, errors = await passbook(*arguments, "--json", environment=stage.environment)
        assert code == status, errors
        return json.loads(output)

    return call


async def test_from_a_person_to_a_verified_copy(stage: Stage, run: Run) -> None:
    prepared = await run("init")
    assert prepared["service_database"] == "up to date"
    assert prepared["couchdb"] == "embedded server" or prepared["couchdb"].startswith("3.")
    client = stage.institution.customer
    added = await run("person", "add", "--username", "amina", "--kind", "customer", "--client", str(client))
    assert added["username"] == "amina"
    assert added["clients"] == [client]
    assert len(added["initial_password"]) >= 12
    credential = await run("device", "add", "--person", "amina")
    assert credential.keys() == {"device", "url", "username", "password", "expires_at"}
    assert credential["url"].endswith("/passbook")
    assert credential["password"] not in credential["url"]
    assert len(credential["password"]) >= 43
    summary = await run("worker", "once")
    assert summary.keys() == {
        "persons",
        "clients",
        "documents_written",
        "documents_deleted",
        "documents_unchanged",
        "failures",
        "seconds",
    }
    assert summary["persons"] == summary["clients"] == 1
    assert summary["documents_written"] > 5
    assert (await run("worker", "once"))["documents_written"] == 0
    assert await run("verify") == {"ok": True, "checked": summary["documents_written"], "findings": []}
    stage.change("UPDATE m_client SET mobile_no = '+1 555 7' WHERE id = :id", id=client)
    behind = await run("verify", "--person", "amina")
    assert behind["ok"] is True, "the next pass copies it: nothing is damaged"
    assert [finding["kind"] for finding in behind["findings"]] == ["behind"]
    assert behind["findings"][0].keys() == {"kind", "person", "document", "detail"}
    async with stage.couch() as couch:
        name = stage.database_of("amina")
        lost = next(one for one in await couch.all_leaves(name, None, 1000) if one.id.startswith("savings:"))
        await couch.bulk(name, [f'{{"_id":"{lost.id}","_rev":"{lost.revision}","_deleted":true}}'.encode()])
    drift = await run("verify", "--person", "amina", status=1)
    assert drift["ok"] is False
    assert sorted(finding["kind"] for finding in drift["findings"]) == ["behind", "missing"]
    assert (await run("verify", "--repair"))["ok"] is True
    assert (await run("verify"))["ok"] is True


async def test_the_life_of_a_person(stage: Stage, run: Run) -> None:
    a, b = stage.institution.active_clients[:2]
    person = (await run("person", "add", "--username", "Baraka", "--kind", "agent", "--client", str(a)))["person"]
    assert (await run("person", "link", "baraka", "--client", str(b)))["clients"] == [a, b]
    assert (await run("person", "unlink", person, "--client", str(a)))["clients"] == [b]
    permitted = await run("person", "permit", "baraka", "--deny", "transactions", "--history-months", "6")
    assert "transactions" not in permitted["permissions"]
    assert permitted["history_months"] == 6
    assert (await run("person", "suspend", "baraka"))["state"] == "suspended"
    assert (await run("person", "restore", "baraka"))["state"] == "active"
    reset = await run("person", "reset-password", "baraka")
    assert reset["initial_password"]
    device = (await run("device", "add", "--person", "baraka", "--name", "Nokia"))["device"]
    assert [(one["device"], one["name"], one["state"]) for one in await run("device", "list")] == [
        (device, "Nokia", "active")
    ]
    assert (await run("device", "revoke", device))["state"] == "revoked"
    assert (await run("device", "list", "--person", "baraka"))[0]["state"] == "revoked"
    await run("worker", "once")
    name = stage.database_of("Baraka")
    async with stage.couch() as couch:
        assert await couch.database_exists(name)
        assert (await run("person", "delete", "baraka"))["deleted"] is True
        assert not await couch.database_exists(name)
    assert await run("person", "list") == []
    assert await run("device", "list") == []
    assert (await run("verify"))["checked"] == 0


async def test_secrets_are_kept_as_digests_alone(stage: Stage, run: Run) -> None:
    added = await run("person", "add", "--username", "amina", "--client", str(stage.institution.customer))
    credential = await run("device", "add", "--person", "amina")
    with stage.database.begin() as connection:
        tables = list(
            connection.execute(
                sa.text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
            ).scalars()
        )
        everything = "".join(str(connection.execute(sa.text(f'SELECT * FROM "{table}"')).all()) for table in tables)
    assert "$argon2id$" in everything
    assert credential["password"] not in everything
    assert added["initial_password"] not in everything


REFUSED = [
    (("person", "add", "--username", "amina", "--client", "1"), "already a person"),
    (("person", "add", "--username", "AMINA", "--client", "1"), "already a person"),
    (("person", "add", "--username", "x", "--kind", "king"), "no kind of person"),
    (("person", "add", "--username", "   "), "user name"),
    (("person", "add", "--username", "x", "--client", "0"), "cannot be the id"),
    (("person", "add", "--username", "x", "--client", "99999999999999999999"), "cannot be the id"),
    (("person", "add", "--username", "x", "--client", "seven"), "seven"),
    (("person", "add", "--username", "x", "--permission", "everything"), "no permission"),
    (("person", "show", "nobody"), "no person"),
    (("person", "unlink", "amina", "--client", "77"), "not linked"),
    (("person", "permit", "amina"), "Nothing to change"),
    (("person", "permit", "amina", "--history-from", "yesterday"), "yesterday"),
    (("person", "permit", "amina", "--history-months", "0"), "1 to 1200"),
    (("person", "permit", "amina", "--history-all", "--history-months", "3"), "one of"),
    (("device", "add", "--person", "nobody"), "no person"),
    (("device", "revoke", "device-0"), "no device"),
    (("verify", "--person", "nobody"), "no person"),
    (("nonsense",), "nonsense"),
    (("worker", "sometimes"), "sometimes"),
]


async def test_wrong_use_gets_a_clear_message_and_changes_nothing(stage: Stage, run: Run) -> None:
    await run("person", "add", "--username", "amina", "--client", "1")
    before = await run("person", "list")
    for arguments, hint in REFUSED:
        status, output, errors = await passbook(*arguments, environment=stage.environment)
        assert status == 2, (arguments, output, errors)
        assert hint in errors, (arguments, errors)
        assert "Traceback" not in errors
        assert not output
    assert await run("person", "list") == before


async def test_a_suspended_person_gets_no_device_and_nobody_gets_too_many(stage: Stage, run: Run) -> None:
    await run("person", "add", "--username", "amina", "--client", "1")
    environment = {**stage.environment, "PASSBOOK_DEVICES_PER_PERSON": "2"}
    for expected in (0, 0, 2):
        status, _, errors = await passbook("device", "add", "--person", "amina", environment=environment)
        assert status == expected, errors
    assert "2 active devices" in errors
    await run("person", "suspend", "amina")
    status, _, errors = await passbook("device", "add", "--person", "amina", environment=stage.environment)
    assert status == 2
    assert "suspended" in errors


OUTSIDE = [
    ("PASSBOOK_LEDGER_URL", "postgresql://u:hush@127.0.0.1:1/x", 3, "does not answer"),
    ("PASSBOOK_LEDGER_URL", "mysql://u:hush@127.0.0.1:1/x", 3, "does not answer"),
    ("PASSBOOK_LEDGER_URL", "postgresql://u:hush@no-such-host.invalid/x", 3, "does not answer"),
    ("PASSBOOK_LEDGER_URL", "oracle://u:hush@127.0.0.1/x", 2, "not an address"),
    ("PASSBOOK_LEDGER_URL", "hush", 2, "not an address"),
    ("PASSBOOK_SERVICE_DB_URL", "postgresql://u:hush@127.0.0.1:1/x", 3, "does not answer"),
    ("PASSBOOK_SERVICE_DB_URL", "mysql://u:hush@127.0.0.1/x", 2, "not an address"),
    ("PASSBOOK_COUCHDB_URL", "http://u:hush@127.0.0.1:1", 3, "does not answer"),
    ("PASSBOOK_COUCHDB_URL", "http://127.0.0.1:5984", 2, "no credentials"),
    ("PASSBOOK_COUCHDB_URL", "ftp://u:hush@127.0.0.1", 2, "not an address"),
    ("PASSBOOK_LEDGER_BATCH", "many", 2, "whole number"),
    ("PASSBOOK_LEDGER_BATCH", "0", 2, "below"),
    ("PASSBOOK_TENANT_TIMEZONE", "Mars/Olympus", 2, "time zone"),
    ("PASSBOOK_LEDGER_URI", "postgresql://x", 2, "not a setting"),
    ("PASSBOOK_LOG_LEVEL", "loud", 2, "loud"),
]


@pytest.mark.parametrize(("variable", "value", "status", "hint"), OUTSIDE)
async def test_what_is_wrong_outside_is_named(
    stage: Stage, variable: str, value: str, status: int, hint: str
) -> None:
    environment = {**stage.environment, "PASSBOOK_CONNECT_SECONDS": "1", variable: value}
    code, output, errors = await passbook("worker", "once", environment=environment)
    assert code == status, errors
    assert hint in errors
    assert variable in errors or hint == "not a setting"
    assert "hush" not in errors
    assert "Traceback" not in errors
    assert not output


async def test_a_variable_that_is_no_setting_is_said(stage: Stage) -> None:
    status, _, errors = await passbook("config", environment={**stage.environment, "PASSBOOK_FROBNICATE": "1"})
    assert status == 0
    assert "PASSBOOK_FROBNICATE" in errors


async def test_wrong_credentials_are_told_from_a_server_that_is_away(stage: Stage) -> None:
    wrong = re.sub(r"//[^@]*@", "//admin:hush@", stage.outside.couchdb_url)
    status, _, errors = await passbook(
        "worker", "once", environment={**stage.environment, "PASSBOOK_COUCHDB_URL": wrong}
    )
    assert status == 2
    assert "refuses these credentials" in errors
    assert "hush" not in errors


async def test_a_ledger_without_the_tables_is_refused(stage: Stage, pg: Postgres) -> None:
    with pg.database() as empty:
        environment = {**stage.environment, "PASSBOOK_LEDGER_URL": empty.replace("+psycopg", "")}
        status, _, errors = await passbook("worker", "once", environment=environment)
    assert status == 2
    assert "no table" in errors
    assert "Fineract" in errors


async def test_an_unprepared_service_database_says_init(stage: Stage, pg: Postgres) -> None:
    with pg.database() as empty:
        environment = {**stage.environment, "PASSBOOK_SERVICE_DB_URL": empty.replace("+psycopg", "")}
        status, _, errors = await passbook("person", "list", environment=environment)
        assert status == 2
        assert "passbook init" in errors
        status, output, errors = await passbook("init", "--json", environment=environment)
        assert status == 0, errors
        assert json.loads(output)["service_database"] == "migrated"
        assert (await passbook("person", "list", environment=environment))[0] == 0


async def test_failures_are_named_and_do_not_stop_the_others(stage: Stage, run: Run) -> None:
    client = stage.institution.customer
    await run("person", "add", "--username", "amina", "--client", str(client), "--client", "123456789")
    status, output, errors = await passbook("worker", "once", "--json", environment=stage.environment)
    assert status == 0
    assert json.loads(output)["failures"] == 1
    assert "123456789" in errors
    (letter,) = await run("dead-letters", "list")
    assert (letter["client_id"], letter["code"]) == (123456789, "client_unknown")


async def test_config_lists_every_setting_and_shows_no_secret(stage: Stage) -> None:
    environment = {**stage.environment, "PASSBOOK_COUCHDB_URL": "http://admin:hush-hush@127.0.0.1:5984"}
    status, output, _ = await passbook("config", "--json", environment=environment)
    assert status == 0
    settings = {one["variable"]: one for one in json.loads(output)}
    assert settings["PASSBOOK_COUCHDB_URL"]["value"] == "http://***@127.0.0.1:5984"
    assert "hush-hush" not in output
    status, output, _ = await passbook("config", environment=environment)
    assert "hush-hush" not in output


def test_migrations_make_the_tables_that_the_code_uses(pg: Postgres) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from passbook.servicedb.tables import metadata

    with pg.database() as url:
        database = ServiceDatabase(url)
        assert database.migrate() is True
        assert database.migrate() is False
        with database.begin() as connection:
            context = MigrationContext.configure(connection, opts={"compare_server_default": True})
            assert compare_metadata(context, metadata) == []
        database.dispose()
