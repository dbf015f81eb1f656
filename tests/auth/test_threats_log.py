"""The audit log altered by somebody inside: it shows, and a role of the service cannot do it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url

from passbook.audit import chain
from passbook.audit.chain import Head, Verdict, record
from passbook.audit.events import PersonSuspended, SignInFailed, TenantClosed
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from tests.auth.running import passbook
from tests.support.actors import TESTER
from tests.support.api import Crowd, serving
from tests.support.databases import Postgres

LOG = tables.audit_event
ROWS = 12


@pytest.fixture
def log(database: ServiceDatabase) -> ServiceDatabase:
    """A database whose log has some rows, of several kinds, with and without a person, reason and detail."""
    for number in range(ROWS // 3):
        with database.begin() as connection:
            record(connection, TESTER, PersonSuspended(person=f"person-{number}"), reason="tïcket 4711")
            record(connection, TESTER, TenantClosed())
            failed = SignInFailed(audience="passbook", why="wrong_password", person=f"person-{number}")
            record(connection, chain.Actor("anonymous", "", f"request-{number}", "203.0.113.0/24"), failed)
    return database


@contextlib.contextmanager
def inside(database: ServiceDatabase) -> Iterator[sa.Connection]:
    """A transaction of a superuser who has taken the triggers away; nothing of it stays."""
    with database.engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
        yield connection
        transaction.rollback()


@contextlib.contextmanager
def for_good(database: ServiceDatabase) -> Iterator[sa.Connection]:
    """As `inside`, and it stays."""
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
        yield connection
        connection.execute(sa.text("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER only_grows"))
        connection.execute(sa.text("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER only_grows_all"))


def rows(connection: sa.Connection) -> list[dict[str, Any]]:
    return [row._asdict() for row in connection.execute(sa.select(LOG).order_by(LOG.c.id))]


def alter(connection: sa.Connection, number: int, **values: Any) -> None:
    done = connection.execute(sa.update(LOG).where(LOG.c.id == number).values(**values))
    assert done.rowcount == 1


def flipped(value: Any, place: int, bit: int) -> Any:
    """The same value with one bit of one byte turned, or as near to that as its type allows."""
    if isinstance(value, bytes | memoryview):
        raw = bytearray(bytes(value))
        raw[place % len(raw)] ^= 1 << bit
        return bytes(raw)
    if isinstance(value, str) and value:
        letters = list(value)
        at = place % len(letters)
        letters[at] = chr((ord(letters[at]) ^ (1 << bit)) or 1)
        return "".join(letters)
    if isinstance(value, str):
        return chr(1 << bit)
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1 << (place % 40))
    if isinstance(value, int):
        return value ^ (1 << (place % 40))
    assert value is None
    return "" if bit % 2 else "person-0"


def test_T27_one_byte_of_any_column_of_any_row_names_the_row(log: ServiceDatabase) -> None:
    with log.begin() as connection:
        good = rows(connection)
        assert chain.verify(connection) == Verdict(ROWS, chain.head(connection))
    columns = [column.name for column in LOG.c]

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(1, ROWS), st.sampled_from(columns), st.integers(0, 1000), st.integers(0, 6))
    def altered(number: int, column: str, place: int, bit: int) -> None:
        before = good[number - 1][column]
        after = flipped(before, place, bit)
        if after == before or (column == "id" and any(row["id"] == after for row in good)):
            return
        with inside(log) as connection:
            alter(connection, number, **{column: after})
            verdict = chain.verify(connection)
            # A row that moved to before the beginning is met first; it is named as it is called now.
            named = after if column == "id" and after < 1 else number
            assert (verdict.ok, verdict.broken) == (False, named), (column, verdict)
            assert verdict.why

    altered()


def test_T27_every_column_is_bound_by_the_hash(log: ServiceDatabase) -> None:
    """Column by column and row by row, so that none depends on what Hypothesis happens to draw."""
    with log.begin() as connection:
        good = rows(connection)
    for number in (1, 2, 3, ROWS // 2, ROWS):
        for column in LOG.c:
            with inside(log) as connection:
                after = flipped(good[number - 1][column.name], 20, 0)
                alter(connection, number, **{column.name: after})
                assert chain.verify(connection).broken == number, column.name


@pytest.mark.parametrize("number", [1, 5, ROWS - 1])
def test_T27_a_row_taken_out_is_named(log: ServiceDatabase, number: int) -> None:
    with inside(log) as connection:
        connection.execute(sa.delete(LOG).where(LOG.c.id == number))
        verdict = chain.verify(connection)
        assert (verdict.ok, verdict.broken) == (False, number)
        # Closing the gap does not help.
        connection.execute(sa.update(LOG).where(LOG.c.id > number).values(id=LOG.c.id + 1000))
        connection.execute(sa.update(LOG).where(LOG.c.id > number).values(id=LOG.c.id - 1001))
        assert chain.verify(connection).broken == number


@pytest.mark.parametrize("number", [-5, 0, 1, 5, ROWS])
def test_T27_a_row_put_in_is_named(log: ServiceDatabase, number: int) -> None:
    with inside(log) as connection:
        good = rows(connection)
        connection.execute(sa.update(LOG).where(LOG.c.id >= number, LOG.c.id > 0).values(id=LOG.c.id + 1000))
        connection.execute(sa.update(LOG).where(LOG.c.id > 1000).values(id=LOG.c.id - 999))
        # With a right hash of its own, and in the right place.
        row = dict(good[3]) | {"id": number, "detail": "{}", "person": "person-0"}
        row["previous_hash"] = good[number - 2]["hash"] if number > 1 else b"\0" * 32
        row["hash"] = chain._hash(row)
        connection.execute(sa.insert(LOG).values(row))
        verdict = chain.verify(connection)
        assert not verdict.ok
        # The row itself holds: it is the next that does not follow it. One before the beginning is none at all.
        assert verdict.broken == (number if number < 1 else number + 1)


def test_T27_two_rows_that_changed_places_are_named(log: ServiceDatabase) -> None:
    with inside(log) as connection:
        for was, becomes in ((4, 1004), (7, 4), (1004, 7)):
            alter(connection, was, id=becomes)
        assert chain.verify(connection).broken == 4
    with inside(log) as connection:
        # Everything of them but the numbers and the hashes.
        good = rows(connection)
        kept = ("id", "hash", "previous_hash")
        for one, other in ((4, 7), (7, 4)):
            alter(connection, one, **{name: value for name, value in good[other - 1].items() if name not in kept})
        assert chain.verify(connection).broken == 4


def test_T27_an_end_cut_off_is_found_by_an_anchor_alone(log: ServiceDatabase) -> None:
    with inside(log) as connection:
        anchor = chain.head(connection)
        assert anchor is not None
        early = Head(3, bytes(rows(connection)[2]["hash"]).hex())
        connection.execute(sa.delete(LOG).where(LOG.c.id > ROWS - 2))
        assert chain.verify(connection).ok
        assert chain.verify(connection, anchors=[early]).ok
        verdict = chain.verify(connection, anchors=[early, anchor])
        assert (verdict.ok, verdict.broken) == (False, ROWS - 1)
        assert f"row {ROWS}" in verdict.why


def test_T27_a_log_that_was_made_anew_is_found_by_an_anchor(log: ServiceDatabase) -> None:
    """Whoever owns the database can reckon every hash anew: only what was noted elsewhere tells."""
    with inside(log) as connection:
        anchors = [Head(row["id"], bytes(row["hash"]).hex()) for row in rows(connection)]
        alter(connection, 5, person="person-somebody-else")
        previous = b"\0" * 32
        for row in rows(connection):
            row["previous_hash"] = previous
            previous = chain._hash(row)
            alter(connection, row["id"], previous_hash=row["previous_hash"], hash=previous)
        assert chain.verify(connection).ok
        assert chain.verify(connection, anchors=anchors[:4]).ok
        for anchor in anchors[4:]:
            verdict = chain.verify(connection, anchors=[anchor])
            assert (verdict.ok, verdict.broken) == (False, anchor.id)
        assert chain.verify(connection, anchors=anchors).broken == 5


def test_T27_an_empty_log_is_found_by_an_anchor(log: ServiceDatabase) -> None:
    with inside(log) as connection:
        anchor = chain.head(connection)
        assert anchor is not None
        connection.execute(sa.text("TRUNCATE audit_event"))
        assert chain.verify(connection).ok
        assert chain.verify(connection, anchors=[anchor]).broken == 1


#: `passbook init` looks at every server that it is told of.
ALONE = {"PASSBOOK_COUCHDB_URL": "", "PASSBOOK_LEDGER_URL": ""}


def address(database: ServiceDatabase) -> str:
    return database.url.render_as_string(hide_password=False)


def test_T27_the_command_names_the_row_and_says_so_with_its_exit_status(
    log: ServiceDatabase, tmp_path: Path
) -> None:
    good = passbook(address(log), tmp_path, "audit", "verify", "--json")
    assert good.returncode == 0, good.stderr
    anchor = json.loads(good.stdout)["anchor"]
    assert passbook(address(log), tmp_path, "audit", "verify", "--anchor", anchor).returncode == 0
    with for_good(log) as connection:
        alter(connection, 7, reason="nothing")
    bad = passbook(address(log), tmp_path, "audit", "verify", "--json")
    assert bad.returncode == 1
    assert "Row 7 of the audit log does not hold" in bad.stderr
    found = json.loads(bad.stdout)
    assert (found["ok"], found["broken"], found["anchor"]) == (False, 7, None)
    # That somebody looked, and what they were told, is in the log itself.
    with log.begin() as connection:
        seen = [one.detail["ok"] for one in chain.entries(connection, event="AuditVerified")]
    assert seen == [False, True, True]


# Who may write to it


CHANGES = {
    "UPDATE": "UPDATE audit_event SET reason = 'x'",
    "UPDATE of one": "UPDATE audit_event SET reason = 'x' WHERE id = 1",
    "DELETE": "DELETE FROM audit_event",
    "TRUNCATE": "TRUNCATE audit_event",
    "MERGE": "MERGE INTO audit_event USING (SELECT 1 AS id) o ON audit_event.id = o.id WHEN MATCHED THEN DELETE",
    "upsert": "INSERT INTO audit_event SELECT * FROM audit_event ON CONFLICT (id) DO UPDATE SET reason = 'x'",
    "a cursor": "DECLARE c CURSOR FOR SELECT * FROM audit_event FOR UPDATE",
}
POWERS = {
    "disable a trigger": "ALTER TABLE audit_event DISABLE TRIGGER only_grows",
    "disable all": "ALTER TABLE audit_event DISABLE TRIGGER ALL",
    "drop a trigger": "DROP TRIGGER only_grows ON audit_event",
    "replicate": "SET session_replication_role = replica",
    "alter": "ALTER TABLE audit_event ADD COLUMN more text",
    "rename": "ALTER TABLE audit_event RENAME TO other",
    "drop": "DROP TABLE audit_event",
    "own": "ALTER TABLE audit_event OWNER TO CURRENT_USER",
    "a new body": "CREATE OR REPLACE FUNCTION passbook_audit_only_grows() RETURNS trigger LANGUAGE plpgsql "
    "AS $$ BEGIN RETURN NEW; END $$",
    "drop the function": "DROP FUNCTION passbook_audit_only_grows() CASCADE",
    "a trigger of one's own": "CREATE TRIGGER mine BEFORE INSERT ON audit_event "
    "FOR EACH ROW EXECUTE FUNCTION passbook_audit_only_grows()",
    "a rule": "CREATE RULE quiet AS ON INSERT TO audit_event DO INSTEAD NOTHING",
    "a policy": "CREATE POLICY quiet ON audit_event",
    "a table": "CREATE TABLE another (id int)",
    "a table in its place": "CREATE TABLE public.audit_event_2 (LIKE audit_event)",
    "a schema": "CREATE SCHEMA another",
    "a role": "CREATE ROLE another_role",
    "migrate": "UPDATE alembic_version SET version_num = '0001'",
}


def attempt(engine: sa.Engine, statement: str, *, replica: bool = False) -> None:
    """Run a statement, and take it back if it could be run; with `replica` as replication does."""
    with engine.connect() as connection, connection.begin() as transaction:
        try:
            if replica:
                connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            connection.exec_driver_sql(statement)
        finally:
            transaction.rollback()


def denied(engine: sa.Engine, statement: str, what: str, *, replica: bool = False) -> None:
    with pytest.raises(sa.exc.ProgrammingError) as caught:
        attempt(engine, statement, replica=replica)
    # insufficient_privilege in both cases: of the role, or by the trigger.
    assert caught.value.orig.sqlstate == "42501", (what, caught.value.orig)  # type: ignore[union-attr]


def _written(url: URL) -> str:
    """As an operator writes it: SQLAlchemy leaves a space in a name as it is."""
    return url.render_as_string(hide_password=False).replace(" ", "%20")


@pytest.fixture
def role(log: ServiceDatabase, pg: Postgres, tmp_path: Path) -> Iterator[ServiceDatabase]:
    """The service database as a role sees it that was given its rights with `passbook init --grant-to`."""
    name, secret = f"passbook-Role {uuid4().hex[:8]}", uuid4().hex
    quoted = f'"{name}"'
    with log.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {quoted} LOGIN PASSWORD '{secret}'")
    granted = passbook(address(log), tmp_path, "init", "--grant-to", name, "--json", **ALONE)
    assert granted.returncode == 0, granted.stderr
    assert json.loads(granted.stdout)["granted_to"] == name
    url = make_url(log.url).set(username=name, password=secret)
    one = ServiceDatabase(_written(url))
    yield one
    one.dispose()
    with log.engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {quoted}")
        connection.exec_driver_sql(f"DROP ROLE {quoted}")


async def test_T27_a_role_that_runs_the_service_cannot_change_the_log(
    role: ServiceDatabase, log: ServiceDatabase
) -> None:
    with role.begin() as connection:
        assert connection.exec_driver_sql("SELECT current_user").scalar() == role.url.username
        rolsuper = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        assert connection.exec_driver_sql(rolsuper).scalar() is False
    amina = Crowd(log).person("amina")
    Crowd(log).administrator("olga", "owner")
    # It can do the work, from the sign-in to the log …
    async with serving(_written(role.url)) as api:
        answer = await api.sign_in("amina")
        assert answer.status == 200, answer.body
        assert (await api.sign_in("amina", "wrong")).status == 400
        device = await api.call("POST", "/devices", {"name": "phone"}, token=answer["access_token"])
        assert device.status == 201
        assert (await api.refresh(answer["refresh_token"])).status == 200
        admin = await api.token("olga", administrator=True)
        reason = {"reason": "ticket 4711"}
        assert (await api.call("POST", f"/admin/people/{amina}/suspend", reason, token=admin)).status == 200
        assert (await api.call("POST", f"/admin/people/{amina}/erase", reason, token=admin)).status == 200
        seen = await api.call("GET", "/admin/audit", token=admin)
        assert {"PersonSignedIn", "DeviceRegistered", "PersonDeleted"} <= {one["event"] for one in seen["items"]}
    with log.begin() as connection:
        before = rows(connection)
    # … and nothing to what was recorded, nor to what guards it.
    for what, statement in (CHANGES | POWERS).items():
        denied(role.engine, statement, what)
    with role.engine.connect() as connection, connection.begin() as transaction:
        # A grant by somebody who has nothing to grant is no error in PostgreSQL, and no grant.
        connection.exec_driver_sql("GRANT ALL ON audit_event TO CURRENT_USER")
        for right, has in {
            "SELECT": True,
            "INSERT": True,
            "UPDATE": False,
            "DELETE": False,
            "TRUNCATE": False,
        }.items():
            held = f"SELECT has_table_privilege(current_user, 'audit_event', '{right}')"
            assert connection.exec_driver_sql(held).scalar() is has, right
        transaction.rollback()
    with log.begin() as connection:
        assert rows(connection) == before
        assert chain.verify(connection).ok


def test_T27_the_owner_of_the_table_is_stopped_too(log: ServiceDatabase) -> None:
    with log.begin() as connection:
        before = rows(connection)
    changes = {name: text for name, text in CHANGES.items() if name != "a cursor"}
    for what, statement in changes.items():
        denied(log.engine, statement, what)
        # As for replication, through which ordinary triggers sleep.
        denied(log.engine, statement, what, replica=True)
    with log.begin() as connection:
        assert rows(connection) == before


def test_T27_the_triggers_fire_always(log: ServiceDatabase) -> None:
    with log.begin() as connection:
        found = connection.exec_driver_sql(
            "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'audit_event'::regclass AND NOT tgisinternal"
        )
        assert {name: bytes(kind) if isinstance(kind, memoryview) else kind for name, kind in found} == {
            "only_grows": "A",
            "only_grows_all": "A",
        }


def test_T27_a_grant_to_nobody_is_refused(log: ServiceDatabase, tmp_path: Path) -> None:
    refused = passbook(address(log), tmp_path, "init", "--grant-to", 'nobody"; DROP TABLE person; --', **ALONE)
    assert refused.returncode == 2
    assert "There is no PostgreSQL role" in refused.stderr
