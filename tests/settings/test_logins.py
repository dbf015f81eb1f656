"""User names and passwords beside an address: any character will do, a file will do, and no error repeats one."""

from __future__ import annotations

import io
import re
import string
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
import structlog
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from passbook import log
from passbook.couch import CouchClient
from passbook.database import database_url
from passbook.errors import Refused
from passbook.settings import Settings

SERVERS = {
    "LEDGER": "mysql://ledger.example:3306/fineract",
    "SERVICE_DB": "postgresql://db.example:5432/passbook",
    "COUCHDB": "https://couch.example:6984",
}
#: Everything that can stand in the environment; the first letters are in no message of ours.
ASCII = "".join(chr(code) for code in range(1, 128))
PASSWORDS = st.text(st.sampled_from(ASCII), min_size=1, max_size=24).map(lambda text: f"Zq{text}9Xv")
server = pytest.mark.parametrize("server", SERVERS)


def read(server: str, loaded: Settings) -> tuple[str, str]:
    """User and password as whoever connects reads them."""
    url = getattr(loaded, f"{server.lower()}_url")
    if server == "COUCHDB":
        parts = urlsplit(url)
        assert CouchClient(url, connections=1)
        return unquote(parts.username or ""), unquote(parts.password or "")
    made = database_url(url)
    return str(made.username), str(made.password)


#: What is said must be the same with this password as with any other: then it repeats no part of one.
OTHER = "p@ss/w#rd"


def refusal(environment: Mapping[str, str]) -> str:
    with pytest.raises(Refused) as refused:
        Settings.load(environment)
    return f"{refused.value.message}\n{refused.value.remedy}"


@server
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PASSWORDS, st.booleans())
@example("ab/cd+e=", False)
@example("p@ss/w#rd", False)
@example(ASCII, True)
@example(" both ends ", True)
@example("100%41", False)
def test_T26_any_password_will_do_beside_an_address(
    tmp_path_factory: pytest.TempPathFactory, server: str, password: str, in_file: bool
) -> None:
    given: dict[str, str] = {f"PASSBOOK_{server}_URL": SERVERS[server], f"PASSBOOK_{server}_USER": "some@body"}
    if in_file:
        path = tmp_path_factory.mktemp("secret") / "password"
        path.write_bytes(password.encode() + b"\n")
        given[f"PASSBOOK_{server}_PASSWORD_FILE"] = str(path)
    else:
        assume(not password.endswith("\n"))
        given[f"PASSBOOK_{server}_PASSWORD"] = password
    loaded = Settings.load(given)
    assert read(server, loaded) == ("some@body", password)
    other = Settings.load(
        {name: value for name, value in given.items() if "_PASSWORD" not in name}
        | {f"PASSBOOK_{server}_PASSWORD": OTHER}
    )
    assert loaded.shown() == other.shown()
    assert (f"PASSBOOK_{server}_PASSWORD", "***") in [(one.variable, value) for one, value in loaded.shown()]
    assert logged(getattr(loaded, f"{server.lower()}_url"), password) == logged(
        getattr(other, f"{server.lower()}_url"), OTHER
    )


def logged(url: str, password: str) -> str:
    """What the log has of an address and a password."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            log.configure("info", "json")
            structlog.get_logger().error("away", at=url, tried=f"to reach {url}", password=password)
    finally:
        structlog.reset_defaults()
    assert "***" in said.getvalue()
    return re.sub(r'"timestamp": "[^"]*"', "", said.getvalue())


@server
@given(PASSWORDS)
@example("ab/cd+e=")
@example("p@ss/w#rd")
def test_T26_a_raw_password_in_an_address_is_taken_or_named_as_the_cause(server: str, password: str) -> None:
    scheme, _, rest = SERVERS[server].partition("://")
    variable = f"PASSBOOK_{server}_URL"
    environment = {variable: f"{scheme}://somebody:{password}@{rest}".strip()}
    if not (set(password) & set("@/?#[]") or any(letter.isspace() for letter in password)):
        loaded = Settings.load(environment)
        # Only a % says something else in an address than as it is.
        assert read(server, loaded) == ("somebody", unquote(password))
        assert urlsplit(getattr(loaded, f"{server.lower()}_url")).hostname == urlsplit(SERVERS[server]).hostname
    elif server != "COUCHDB" or set(password) & set("/?#[]") or any(letter.isspace() for letter in password):
        said = refusal(environment)
        assert said == refusal({variable: f"{scheme}://somebody:{OTHER}@{rest}"})
        assert variable in said
        assert "a character in its user name or password" in said
        assert f"PASSBOOK_{server}_PASSWORD" in said


@server
@given(PASSWORDS)
def test_T26_a_mistake_around_a_password_is_named_and_the_password_is_not(server: str, password: str) -> None:
    causes, others = mistakes(server, password), mistakes(server, OTHER)
    for cause, environment in causes.items():
        said = refusal(environment)
        assert cause in said
        assert said == refusal(others[cause])


def mistakes(server: str, password: str) -> dict[str, dict[str, str]]:
    """By what is said of it, an environment that will not do."""
    own, name = SERVERS[server], f"PASSBOOK_{server}"
    scheme, _, rest = own.partition("://")
    credentials = f"somebody:{quote(password, safe='')}"
    encoded = f"{scheme}://{credentials}@{rest}"
    return {
        f"{name}_URL is not": {f"{name}_PASSWORD": password},
        f"Set {name}_USER": {f"{name}_URL": own, f"{name}_PASSWORD": password},
        f"{name}_URL holds a password": {f"{name}_URL": encoded, f"{name}_PASSWORD": password},
        f"{name}_URL holds a user name": {f"{name}_URL": encoded, f"{name}_USER": "else"},
        f"{name}_PASSWORD and {name}_PASSWORD_FILE are both set": {
            f"{name}_URL": own,
            f"{name}_PASSWORD": password,
            f"{name}_PASSWORD_FILE": "anywhere",
        },
        # The password itself in the place of the file's name, as happens.
        f"{name}_PASSWORD_FILE names no file": {f"{name}_URL": own, f"{name}_PASSWORD_FILE": f"{password}/missing"},
        f"{name}_URL is not an address": {f"{name}_URL": f"gopher://{credentials}@{rest}"},
    }


def test_a_password_for_a_user_who_stands_in_the_address() -> None:
    loaded = Settings.load(
        {"PASSBOOK_LEDGER_URL": "postgresql://reader@db/fineract", "PASSBOOK_LEDGER_PASSWORD": "p@ss/w#rd"}
    )
    assert read("LEDGER", loaded) == ("reader", "p@ss/w#rd")


def test_an_address_on_a_socket_takes_them_too() -> None:
    loaded = Settings.load(
        {
            "PASSBOOK_SERVICE_DB_URL": "postgresql:///passbook?host=/run/postgresql",
            "PASSBOOK_SERVICE_DB_USER": "passbook_gateway",
            "PASSBOOK_SERVICE_DB_PASSWORD": "a?b",
        }
    )
    url = database_url(loaded.service_db_url)
    assert (url.username, url.password, url.database, url.query["host"]) == (
        *("passbook_gateway", "a?b", "passbook"),
        "/run/postgresql",
    )


def test_each_setting_can_stand_in_a_file(tmp_path: Path) -> None:
    for name, value in (
        *(("PASSBOOK_LEDGER_URL", SERVERS["LEDGER"]), ("PASSBOOK_LEDGER_USER", "reader")),
        *(("PASSBOOK_LEDGER_PASSWORD", string.punctuation), ("PASSBOOK_DEVICES_PER_PERSON", "7")),
    ):
        (tmp_path / name).write_text(f"{value}\r\n")
    loaded = Settings.load({f"{path.name}_FILE": str(path) for path in tmp_path.iterdir()})
    assert read("LEDGER", loaded) == ("reader", string.punctuation)
    assert loaded.devices_per_person == 7
    assert urlsplit(loaded.ledger_url).hostname == "ledger.example"


def test_a_file_that_will_not_do_is_refused_with_its_cause(tmp_path: Path) -> None:
    variable = "PASSBOOK_AUTH_SECRET_FILE"
    for content, cause in (
        (b"\n", "empty"),
        (b"\xff\xfe" * 20, "UTF-8"),
        (b"a" * 70_000, "more than 65536 bytes"),
        (b"a\0" * 20, "NUL"),
    ):
        path = tmp_path / "secret"
        path.write_bytes(content)
        said = refusal({variable: str(path)})
        assert cause in said
        assert "PASSBOOK_AUTH_SECRET" in said
    assert "Is a directory" in refusal({variable: str(tmp_path)})


def test_a_misspelt_name_of_a_file_is_refused() -> None:
    assert "PASSBOOK_COUCHDB_PASSWORD" in refusal({"PASSBOOK_COUCHDB_PASWORD_FILE": "x"})


def test_an_origin_that_holds_a_password_is_refused_without_it() -> None:
    assert "hunter22" not in refusal({"PASSBOOK_CORS_ORIGINS": "https://me:hunter22@app.example/x"})
