"""What `passbook init` says of a ledger: of both engines, with logins that may too little, enough and too much."""

from __future__ import annotations

import pytest

from passbook.database import database_url
from passbook.findings import Finding
from passbook.settings import Settings
from sync_worker.preparation import look
from tests.ledger.conftest import Ledger
from tests.ledger.test_grants import limited, limited_mariadb, limited_postgresql, user_of
from tests.support.databases import Postgres

__all__ = ["limited", "limited_mariadb", "limited_postgresql"]


def found(url: str, **more: str) -> dict[str, Finding]:
    plain = database_url(url).set(drivername="postgresql" if "postgresql" in url else "mysql")
    address = plain.render_as_string(hide_password=False)
    settings = Settings.load(
        {
            "PASSBOOK_LEDGER_URL": address,
            "PASSBOOK_TENANT_TIMEZONE": "Africa/Nairobi",
            "PASSBOOK_CONNECT_SECONDS": "2",
        }
        | more
    )
    return {one.what: one for one in look(settings)}


def test_a_ledger_as_it_should_be(limited: Ledger) -> None:
    told = found(limited.url)
    assert [one for one in told.values() if not one.ok] == []
    assert list(told) == [
        "ledger",
        "ledger's tables and columns",
        "reading the ledger",
        "ledger's login",
        "institution's time zone",
    ]
    assert ("MariaDB" in told["ledger"].found) == (limited.engine.dialect.name != "postgresql")


def test_a_login_that_may_too_much(limited: Ledger) -> None:
    schema = "" if limited.engine.dialect.name == "postgresql" else f"{limited.engine.url.database}."
    limited.change(f"GRANT INSERT ON {schema}m_note TO {user_of(limited)}")
    told = found(limited.url)
    (warning,) = [one for one in told.values() if not one.ok]
    assert warning.what == "ledger's login"
    assert f"write {schema}m_note" in warning.found
    assert "passbook ledger grants" in warning.remedy


def test_a_login_that_may_too_little(limited_postgresql: Ledger) -> None:
    role = user_of(limited_postgresql)
    limited_postgresql.change(f"REVOKE SELECT (principal_amount) ON m_loan FROM {role}")
    told = found(limited_postgresql.url)
    (warning,) = [one for one in told.values() if not one.ok]
    assert "m_loan has no column principal_amount, or its user may not" in warning.found
    assert "passbook ledger grants" in warning.remedy
    assert "reading the ledger" not in told


def test_what_is_no_ledger(pg: Postgres) -> None:
    with pg.database() as url:
        told = found(url)
    assert "no table" in told["ledger's tables and columns"].found


def test_a_ledger_that_is_not_there() -> None:
    told = found("postgresql://passbook:hush-hush@127.0.0.1:1/ledger")
    assert not told["ledger"].ok
    assert "127.0.0.1:1/ledger does not answer" in told["ledger"].found
    assert "hush-hush" not in str(told)


def test_no_ledger_yet() -> None:
    told = list(look(Settings.load({})))
    assert [(one.what, one.ok) for one in told] == [("ledger", True)]
    assert "not set" in told[0].found


@pytest.mark.parametrize(("zone", "ok"), [("UTC", False), ("Africa/Accra", True)])
def test_the_institution_s_time_zone_is_said(zone: str, ok: bool) -> None:
    told = found("postgresql://127.0.0.1:1/ledger", PASSBOOK_TENANT_TIMEZONE=zone)["institution's time zone"]
    assert (told.found, told.ok) == (zone, ok)
    assert ok or "timezone_id" in told.remedy
