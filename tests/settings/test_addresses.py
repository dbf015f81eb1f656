"""Addresses with credentials in them: never shown, however odd the password; and which addresses are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from passbook import log
from passbook.addresses import hide_credentials, is_in_clear, without_credentials
from passbook.database import database_url, shown
from passbook.errors import PassbookError, Refused
from passbook.settings import Settings
from tests.auth.running import clean

T = TypeVar("T")

CANARIES = ("Kaleidoscope", "Umbrella")
#: Two canaries with anything between and around them: a mask that ends early shows the second.
PASSWORDS = st.tuples(*[st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=4)] * 3).map(
    lambda parts: f"{parts[0]}{CANARIES[0]}{parts[1]}{CANARIES[1]}{parts[2]}"
)
SCHEMES = st.sampled_from(["postgresql", "mysql", "http", "https", "postgresql+psycopg"])
VARIABLES = {"http": "COUCHDB", "https": "COUCHDB", "mysql": "LEDGER"}


def address(scheme: str, password: str) -> str:
    return f"{scheme}://somebody:{password}@db.example.org:1234/books"


def _result(attempt: Callable[[], T]) -> T | PassbookError:
    try:
        return attempt()
    except PassbookError as error:
        return error


def tells(text: str) -> bool:
    return any(canary in text for canary in CANARIES)


@given(SCHEMES, PASSWORDS)
@example("postgresql", "12/Kaleidoscope@Umbrella")
@example("http", "Kaleidoscope@/Umbrella")
@example("https", "Kaleidoscope/@Umbrella")
def test_T26_no_log_entry_shows_a_password(scheme: str, password: str) -> None:
    written = address(scheme, password)
    entry = log.redact(
        None,
        "info",
        {
            "event": f"cannot reach {written}",
            "address": written,
            "tried": [written, {"at": written, "times": 3}],
            "problem": OSError(f"no answer of {written}"),
            "exception": f'Traceback:\n  File "x.py", line 1\nOSError: {written} is away\nand more',
        },
    )
    assert not tells(str(entry))
    assert "db.example.org:1234/books" in entry["address"]
    assert entry["tried"][1]["times"] == 3
    assert "is away\nand more" in entry["exception"]


@pytest.mark.parametrize("style", ["text", "json"])
def test_T26_what_is_written_to_standard_error_shows_no_password(
    capfd: pytest.CaptureFixture[str], style: str
) -> None:
    try:
        log.configure("info", style)
        for password in ("Kaleidoscope/12@Umbrella", "Kaleidoscope@Umbrella", "a/b/Kaleidoscope#?Umbrella"):
            written = address("postgresql", password)
            structlog.get_logger().warning("away", at=written, more={"couchdb": [written], "password": password})
            try:
                raise OSError(f"cannot reach {written}")
            except OSError:
                structlog.get_logger().exception("failed")
        structlog.get_logger().info("parameters", at="postgresql://db/books?user=me&password=Kaleidoscope&port=5")
    finally:
        structlog.reset_defaults()
    said = capfd.readouterr().err
    assert said.count("db.example.org:1234") == 9
    assert "port=5" in said
    assert not tells(said)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SCHEMES, PASSWORDS, st.booleans())
@example("postgresql", "12/Kaleidoscope@Umbrella", False)
@example("postgresql", "KaleidoscopeUmbrella@", False)
@example("http", "Kaleidoscope@Umbrella", False)
def test_T26_the_settings_refuse_or_mask_a_password(scheme: str, password: str, encoded: bool) -> None:
    written = address(scheme, quote(password, safe="") if encoded else password)
    variable = f"PASSBOOK_{VARIABLES.get(scheme, 'SERVICE_DB')}_URL"
    loaded = _result(lambda: Settings.load({variable: written}))
    if isinstance(loaded, PassbookError):
        assert not encoded, "what is written as it should be is taken"
        assert variable in loaded.message
        assert not tells(loaded.message + loaded.remedy)
        return
    masked = {declaration.variable: value for declaration, value in loaded.shown()}[variable]
    assert not tells(masked)
    assert masked == f"{scheme}://***@db.example.org:1234/books"
    # Whoever connects reads the host that was meant.
    assert urlsplit(written).hostname == "db.example.org"
    assert without_credentials(written) == f"{scheme}://db.example.org:1234/books"
    if not scheme.startswith("http"):
        assert shown(database_url(written)) == "db.example.org:1234/books"
        assert database_url(written).password == (password if encoded else unquote(password))


@given(st.sampled_from(["postgresql", "mysql"]), PASSWORDS)
@example("mysql", "Kaleidoscope@Umbrella")
def test_T26_an_address_given_to_a_command_shows_no_password(scheme: str, password: str) -> None:
    url = _result(lambda: database_url(address(scheme, password)))
    assert not tells(url.message + url.remedy if isinstance(url, PassbookError) else shown(url))


def test_T26_passbook_config_and_its_errors_show_no_password() -> None:
    for password, fine in (("Kaleidoscope%2F%40Umbrella", True), ("12/Kaleidoscope@Umbrella", False)):
        environment = {"PASSBOOK_SERVICE_DB_URL": address("postgresql", password)}
        done = subprocess.run(
            [sys.executable, "-m", "passbook", "config", "--json"],
            env=clean(environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == (0 if fine else 2), done.stderr
        assert not tells(done.stdout + done.stderr)
        if fine:
            found = {one["variable"]: one["value"] for one in json.loads(done.stdout)}
            assert found["PASSBOOK_SERVICE_DB_URL"] == "postgresql://***@db.example.org:1234/books"
        else:
            assert "%2F for /" in done.stderr


def test_text_without_credentials_stays_as_it_is() -> None:
    for text in (
        "mail to support@example.org",
        "https://passbook.example.org/passbook is away",
        "postgresql:///books?host=/run/postgresql",
        "https://db:5984/?limit=3&since=now",
    ):
        assert hide_credentials(text) == text


CLEAR = ["http://gateway.example.org", "http://192.168.1.7:8710", "http://10.0.2.2", "http://localhost.example.org"]
FINE = [
    "https://gateway.example.org",
    "http://localhost:8710",
    "http://passbook.localhost",
    "http://127.0.0.1:8710",
    "http://127.8.9.1",
    "http://[::1]:8710",
]


@pytest.mark.parametrize("variable", ["PASSBOOK_PUBLIC_URL", "PASSBOOK_AUTH_URL"])
def test_T25_an_address_for_phones_without_tls_is_refused(variable: str) -> None:
    for url in CLEAR:
        with pytest.raises(Refused, match=variable) as refused:
            Settings.load({variable: url})
        assert "https://" in refused.value.remedy
        assert "TLS" in refused.value.remedy
    for url in FINE:
        assert not is_in_clear(url)
        assert getattr(Settings.load({variable: url}), variable.removeprefix("PASSBOOK_").lower()) == url
