"""The service database of the release before becomes this release's, with everything that is in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from auth_service import devices, granting, keys, people, tenant
from passbook.audit import chain
from passbook.errors import Refused
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.credentials import DatabaseCredentials
from tests.support import truth
from tests.support.actors import TESTER
from tests.support.api import HASH, SECRET, Crowd
from tests.support.databases import Postgres
from tests.support.killing import passbook

MIGRATIONS = Path(tables.__file__).parents[1] / "migrations"
NOW = datetime.now(UTC)
LATER, EARLIER = NOW + timedelta(days=30), NOW - timedelta(days=30)
#: Devices of the release before, with their secrets and what the gateway answers to each.
SECRETS = {name: f"the secret of {name}, as long as a random one would be" for name in "abcde"}
ANSWERS = {"a": "person-amina", "b": "expired", "c": "revoked", "d": "suspended", "e": "revoked"}


def migrate_to(url: str, revision: str) -> None:
    """Bring a database to a revision, as the release of that revision did."""
    engine = sa.create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def fill(url: str) -> None:
    """People, links, devices, documents and dead letters, in the columns that revision 0001 has."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:

        def rows(table: str, *values: dict[str, Any]) -> None:
            names = ", ".join(values[0])
            marks = ", ".join(f":{name}" for name in values[0])
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), list(values))

        rows(
            "person",
            *(
                {
                    "id": f"person-{name.lower()}",
                    "username": name,
                    "kind": kind,
                    "state": state,
                    "password_hash": HASH,
                    "must_change_password": False,
                    "permissions": permissions,
                    "history_from": EARLIER.date(),
                    "history_months": 12,
                    "database_name": f"passbook-{name.lower()}",
                    "generation": 3,
                    "database_ready_at": NOW,
                    "compaction_due": True,
                    "created_at": EARLIER,
                    "changed_at": EARLIER,
                }
                for name, kind, state, permissions in (
                    ("Amina", "customer", "active", ["profile", "loans"]),
                    ("baraka", "agent", "suspended", ["profile"]),
                    ("person-leaver", "customer", "deleting", []),
                )
            ),
        )
        rows(
            "person_client",
            *({"person_id": "person-amina", "client_id": client, "linked_at": EARLIER} for client in (7, 2**40)),
            {"person_id": "person-baraka", "client_id": 7, "linked_at": EARLIER},
        )
        rows(
            "device",
            *(
                {
                    "id": f"device-{name}",
                    "person_id": f"person-{owner}",
                    "name": "Nokia ✓",
                    "secret_digest": devices.secret_digest(SECRETS[name]),
                    "created_at": EARLIER,
                    "expires_at": expires,
                    "revoked_at": revoked,
                }
                for name, owner, expires, revoked in (
                    ("a", "amina", LATER, None),
                    ("b", "amina", EARLIER, None),
                    ("c", "amina", LATER, EARLIER),
                    ("d", "baraka", LATER, None),
                    ("e", "person-leaver", LATER, None),
                )
            ),
        )
        document = {"person_id": "person-amina", "digest": b"\1" * 32, "revision": "2-ab", "as_of": EARLIER}
        rows(
            "projected_document",
            {**document, "document_id": "loan:1", "client_id": 7, "ancestors": ["aa"], "deleted": False},
            {**document, "document_id": "loan:2", "client_id": 7, "ancestors": [], "deleted": True},
            {**document, "document_id": "manifest", "client_id": None, "ancestors": [], "deleted": False},
        )
        rows(
            "dead_letter",
            {
                "client_id": 9,
                "code": "client_unknown",
                "detail": "There is none.",
                "first_seen_at": EARLIER,
                "last_seen_at": NOW,
                "attempts": 4,
            },
        )
    engine.dispose()


@pytest.fixture
def before(pg: Postgres) -> Iterator[str]:
    """A database of the release before, with data."""
    with pg.database() as url:
        migrate_to(url, "0001")
        fill(url)
        yield url


@pytest.fixture
def init(couchdb_url: str, tmp_path: Path) -> Callable[[str], Any]:
    """`passbook init --json` on a database; what it printed."""

    async def call(url: str) -> Any:
        environment = {
            "PASSBOOK_SERVICE_DB_URL": url.replace("+psycopg", ""),
            "PASSBOOK_COUCHDB_URL": couchdb_url,
            "PASSBOOK_DATA_DIR": str(tmp_path),
            "PASSBOOK_AUTH_SECRET": SECRET,
        }
        status, output, errors = await passbook("init", "--json", environment=environment)
        assert status == 0, errors
        return json.loads(output)

    return call


async def gateway_says(url: str, device: str) -> str:
    """What the gateway says to a device of the release before."""
    credentials = DatabaseCredentials.at(url)
    answer = await truth.gateway_says(credentials, f"device-{device}", SECRETS[device])
    await credentials.close()
    return answer


async def test_everything_of_the_release_before_is_still_there(before: str, init: Any) -> None:
    database = ServiceDatabase(before)
    old = truth.everything(database)
    with pytest.raises(Refused, match="not prepared"):
        database.require_migrated()
    done = await init(before)
    assert done["service_database"] == "migrated"
    assert done["signing_key"] == "made"
    assert done["administrator"]["role"] == "owner"
    new = truth.everything(database)
    del old["alembic_version"]
    for table, rows in old.items():
        kept = [{name: row[name] for name in rows[0]} for row in new[table]]
        assert _sorted(kept) == _sorted(rows), table
    assert {row["version"] for row in new["person"]} == {"1"}
    assert {row["platform"] for row in new["device"]} == {""}
    for column in ("last_synchronised_at", "idempotency_digest", "sealed_secret"):
        assert {row[column] for row in new["device"]} == {None}
    assert [(row["open"], row["version"]) for row in new["tenant"]] == [("True", "1")]
    assert new["scope_change"] == []
    for device, answer in ANSWERS.items():
        assert await gateway_says(before, device) == answer
    with database.begin() as connection:
        shown = people.show(connection, "amina")
        assert (shown.clients, shown.devices, shown.version) == ([7, 2**40], 1, 1)
        assert chain.verify(connection).ok
    # What this release adds works on what was there.
    with database.begin() as connection:
        assert granting.link(connection, TESTER, "amina", [8]).version == 2
        people.restore(connection, TESTER, "baraka")
        devices.revoke(connection, TESTER, "device-a")
    assert await gateway_says(before, "a") == "revoked"
    assert await gateway_says(before, "d") == "person-baraka"
    database.dispose()


def test_sessions_of_the_release_before_belong_to_the_phones_that_they_registered(pg: Postgres) -> None:
    """Sessions that may be on a phone that was revoked end; later ones and those of other phones do not."""
    minutes = {"registered the lost one": 1, "begun on it": 2, "another phone": 3, "browser, later": 9}
    with pg.database() as url:
        migrate_to(url, "0003")
        engine = sa.create_engine(url)
        with engine.begin() as connection:

            def add(statement: str, **values: Any) -> None:
                connection.execute(sa.text(statement), {"at": EARLIER, "later": LATER, **values})

            for person in ("amina", "baraka"):
                add(
                    "INSERT INTO person (id, username, kind, password_hash, permissions, database_name)"
                    " VALUES (:id, :id, 'customer', '-', '{}', :id)",
                    id=person,
                )
            for name, minute in {**minutes, "of another": 1}.items():
                add(
                    "INSERT INTO session (id, person_id, created_at, expires_at)"
                    " VALUES (:id, :person, :begun, :later)",
                    id=name,
                    person="baraka" if name == "of another" else "amina",
                    begun=EARLIER + timedelta(minutes=minute),
                )
            for name, session, revoked in (
                ("lost", "registered the lost one", EARLIER + timedelta(minutes=5)),
                ("phone", "another phone", None),
                ("at the keyboard", None, None),
                ("again", "another phone", None),
            ):
                add(
                    "INSERT INTO device (id, person_id, secret_digest, expires_at, session_id, revoked_at)"
                    " VALUES (:id, 'amina', :digest, :later, :session, :revoked)",
                    id=name,
                    digest=b"",
                    session=session,
                    revoked=revoked,
                )
        engine.dispose()
        migrate_to(url, "head")
        database = ServiceDatabase(url)
        with database.begin() as connection:
            rows = connection.execute(sa.select(tables.session)).all()
            assert {row.id: row.ended_at is not None for row in rows} == {
                "registered the lost one": True,
                "begun on it": True,
                "another phone": False,
                "browser, later": False,
                "of another": False,
            }
            devices.revoke(connection, TESTER, "phone")
            gone = connection.execute(sa.select(tables.device.c.id).where(tables.device.c.revoked_at.is_not(None)))
            assert set(gone.scalars()) == {"lost", "phone", "again"}
            going = connection.execute(sa.select(tables.session.c.id).where(tables.session.c.ended_at.is_(None)))
            assert set(going.scalars()) == {"of another"}
        database.dispose()


async def test_a_second_preparation_changes_nothing(before: str, init: Any) -> None:
    await init(before)
    database = ServiceDatabase(before)
    first = truth.everything(database)
    again = await init(before)
    assert (again["service_database"], again["signing_key"]) == ("up to date", "there")
    assert again["administrator"] == "there"
    now = truth.everything(database)
    for table in (first, now):
        del table["witnessed"]  # when it was last compared
    assert {name: _sorted(rows) for name, rows in now.items()} == {
        name: _sorted(rows) for name, rows in first.items()
    }
    database.dispose()


async def test_many_first_preparations_at_once_make_one_of_everything(pg: Postgres, init: Any) -> None:
    with pg.database() as empty:
        done = await asyncio.gather(*(init(empty) for _ in range(3)))
        assert sorted(one["service_database"] for one in done) == ["migrated", "up to date", "up to date"]
        assert sorted(one["signing_key"] for one in done) == ["made", "there", "there"]
        first = [one["administrator"] for one in done if one["administrator"] != "there"]
        assert [one["role"] for one in first] == ["owner"]
        database = ServiceDatabase(empty)
        truth.check(database)
        made = ["SigningKeyRotated"] * len(keys.PURPOSES)
        assert [row.event for row in truth.events(database)] == [*made, "AdministratorCreated"]
        database.dispose()


@pytest.mark.parametrize("revision", [None, "0001"])
def test_migrations_at_once_run_once(pg: Postgres, revision: str | None) -> None:
    with pg.database() as url:
        if revision:
            migrate_to(url, revision)
            fill(url)
        databases = [ServiceDatabase(url) for _ in range(6)]
        with ThreadPoolExecutor(len(databases)) as threads:
            did = list(threads.map(ServiceDatabase.migrate, databases))
        assert sorted(did) == [False] * 5 + [True]
        for database in databases:
            database.require_migrated()
            database.dispose()


async def test_a_database_of_a_newer_release_is_refused(
    pg: Postgres, migrated: str, couchdb_url: str, tmp_path: Path
) -> None:
    with pg.database(migrated) as url:
        database = ServiceDatabase(url)
        with database.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        for attempt in (database.migrate, database.require_migrated):
            with pytest.raises(Refused, match="newer release"):
                attempt()
        environment = {
            "PASSBOOK_SERVICE_DB_URL": url.replace("+psycopg", ""),
            "PASSBOOK_COUCHDB_URL": couchdb_url,
            "PASSBOOK_DATA_DIR": str(tmp_path),
            "PASSBOOK_AUTH_SECRET": SECRET,
        }
        for arguments in (("init",), ("person", "list"), ("auth", "--port", "0")):
            status, output, errors = await passbook(*arguments, environment=environment)
            assert (status, output) == (2, "")
            assert "newer release" in errors
            assert "defect" not in errors
        with database.begin() as connection:
            assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "9999"
            assert connection.exec_driver_sql("SELECT count(*) FROM audit_event").scalar() == 0
        database.dispose()


# Who is told


class Ear:
    """Hears what the database tells gateways and workers."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+psycopg", "")
        self._connection = psycopg.connect(self._url, autocommit=True)
        for channel in ("passbook_access", "passbook_scope", "enough"):
            self._connection.execute(f"LISTEN {channel}".encode())

    def heard(self) -> list[tuple[str, str]]:
        """All that was told until now: notifications come in the order of their commits, so a last one ends it."""
        with psycopg.connect(self._url, autocommit=True) as other:
            other.execute("NOTIFY enough")
        found = []
        for one in self._connection.notifies(timeout=30):
            if one.channel == "enough":
                return found
            found.append((one.channel.removeprefix("passbook_"), one.payload))
        raise AssertionError("nothing was heard")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def ear(before: str) -> Iterator[Ear]:
    """An ear on a database that was the release before's, and is this one's now."""
    migrate_to(before, "head")
    one = Ear(before)
    yield one
    one.close()


_AMINA, _BARAKA = "person-amina", "person-baraka"
#: What somebody does with SQL, and who must hear of it.
_TOLD: list[tuple[str, list[tuple[str, str]]]] = [
    ("UPDATE device SET revoked_at = now() WHERE id = 'device-a'", [("access", "device device-a")]),
    ("UPDATE device SET revoked_at = NULL WHERE id = 'device-c'", [("access", "device device-c")]),
    ("UPDATE device SET expires_at = now() WHERE id = 'device-a'", [("access", "device device-a")]),
    ("UPDATE device SET secret_digest = '\\x00' WHERE id = 'device-a'", [("access", "device device-a")]),
    (
        f"UPDATE device SET person_id = '{_BARAKA}' WHERE id = 'device-a'",
        [("access", "device device-a")],
    ),
    ("DELETE FROM device WHERE id = 'device-d'", [("access", "device device-d")]),
    (f"UPDATE person SET state = 'suspended' WHERE id = '{_AMINA}'", [("access", f"person {_AMINA}")]),
    (f"UPDATE person SET state = 'active' WHERE id = '{_BARAKA}'", [("access", f"person {_BARAKA}")]),
    (f"UPDATE person SET generation = 4 WHERE id = '{_AMINA}'", [("access", f"person {_AMINA}")]),
    (f"UPDATE person SET database_name = 'x' WHERE id = '{_AMINA}'", [("access", f"person {_AMINA}")]),
    (
        f"UPDATE person SET state = 'deleting' WHERE id = '{_AMINA}'",
        [("access", f"person {_AMINA}"), ("scope", _AMINA)],
    ),
    (
        f"DELETE FROM person WHERE id = '{_BARAKA}'",
        [("access", "device device-d"), ("access", f"person {_BARAKA}")],
    ),
    ("UPDATE tenant SET open = false", [("access", "tenant")]),
    (f"INSERT INTO scope_change (person_id, what) VALUES ('{_AMINA}', 'clients')", [("scope", _AMINA)]),
    # What changes nothing about access is told to nobody.
    ("UPDATE device SET expires_at = expires_at + interval '1 day'", []),
    ("UPDATE device SET last_synchronised_at = now(), name = 'x', platform = 'y', sealed_secret = '\\x00'", []),
    ("UPDATE device SET revoked_at = revoked_at, secret_digest = secret_digest, expires_at = expires_at", []),
    (
        "UPDATE person SET version = 2, username = 'x', password_hash = '-', permissions = '{}'"
        + f" WHERE id = '{_AMINA}'",
        [],
    ),
    ("UPDATE person SET state = state, generation = generation", []),
    ("UPDATE person SET state = 'deleting' WHERE state = 'deleting'", []),
    ("UPDATE scope_change SET done_at = now()", []),
]


@pytest.mark.parametrize(("statement", "expected"), _TOLD, ids=[statement for statement, _ in _TOLD])
def test_whoever_must_know_is_told_whatever_does_it(
    before: str, ear: Ear, statement: str, expected: list[tuple[str, str]]
) -> None:
    with psycopg.connect(before.replace("+psycopg", "")) as connection:
        connection.execute(statement.encode())
        connection.rollback()
        assert ear.heard() == []
        connection.execute(statement.encode())
        connection.commit()
    assert sorted(ear.heard()) == expected


def test_the_functions_tell_too(before: str, ear: Ear) -> None:
    database = ServiceDatabase(before)

    def did(act: Callable[..., Any], *arguments: Any, **named: Any) -> set[tuple[str, str]]:
        with database.begin() as connection:
            act(connection, TESTER, *arguments, **named)
        return set(ear.heard())

    zawadi = Crowd(database).person("zawadi")
    assert set(ear.heard()) == {("scope", zawadi)}
    assert did(devices.revoke, "device-a") == {("access", "device device-a")}
    assert did(devices.revoke, "device-a") == set()
    assert did(people.suspend, "amina") == {("access", f"person {_AMINA}")}
    assert did(people.suspend, "amina") == set()
    assert did(people.restore, "amina") == {("access", f"person {_AMINA}")}
    assert did(granting.link, "amina", [7]) == set()
    assert did(granting.link, "amina", [8]) == {("scope", _AMINA)}
    assert did(granting.unlink, "amina", [8]) == {("scope", _AMINA)}
    assert did(granting.permit, "amina", deny=["loans"]) == {("scope", _AMINA)}
    assert did(people.change, "amina", kind="agent") == {("scope", _AMINA)}
    assert did(people.change, "amina", username="Aminah") == set()
    assert did(tenant.switch, to_open=True, reason="") == set()
    assert did(tenant.switch, to_open=False, reason="") == {("access", "tenant")}
    assert did(people.sign_out, "baraka", revoke_devices=True) == {("access", "device device-d")}
    assert did(people.reset_password, _AMINA, HASH, revoke_devices=True) == {("access", "device device-b")}
    gone = did(people.begin_deletion, "baraka")
    assert gone == {("access", f"person {_BARAKA}"), ("access", "device device-d"), ("scope", _BARAKA)}
    database.dispose()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_event SET reason = 'x'", "DELETE FROM audit_event", "TRUNCATE audit_event"],
)
def test_the_log_of_a_migrated_database_only_grows(before: str, ear: Ear, statement: str) -> None:
    database = ServiceDatabase(before)
    Crowd(database).person("zawadi")
    with psycopg.connect(before.replace("+psycopg", "")) as connection:
        for replica in (False, True):
            if replica:
                connection.execute("SET session_replication_role = replica")
                connection.commit()
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only grows"):
                connection.execute(statement.encode())
            connection.rollback()
    assert [row.event for row in truth.events(database)] == ["PersonCreated"]
    database.dispose()


def _sorted(rows: list[dict[str, str | None]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)
