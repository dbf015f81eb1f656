"""What `docker-compose.yml` says, read as Compose reads it; there is no Docker here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from passbook.credentials import signing_key
from passbook.database import database_url
from passbook.settings import DECLARATIONS, Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
OURS = ("init", "worker", "gateway", "auth", "administration")
#: As hostile as a password may be.
PASSWORD = "p@ss/w#rd ab/cd+e=%41:'\"\\${x}"
GIVEN = {
    "PASSBOOK_LEDGER_URL": "mysql://ledger.example/fineract_default",
    "PASSBOOK_LEDGER_USER": "reader",
    "PASSBOOK_LEDGER_PASSWORD": PASSWORD,
    "PASSBOOK_PUBLIC_URL": "https://gateway.example",
    "PASSBOOK_AUTH_URL": "https://auth.example",
    "PASSBOOK_AUTH_SECRET": PASSWORD * 2,
    "COUCHDB_JWT_KEY": "A" * 43 + "=",
    **{f"{name}_PASSWORD": PASSWORD for name in ("COUCHDB", "POSTGRES")},
    **{f"{name}_DB_PASSWORD": PASSWORD for name in ("GATEWAY", "PEOPLE", "ADMINISTRATION", "WORKER")},
}
_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:[-?+])([^}]*))?\})")


def interpolated(value: Any, given: dict[str, str]) -> Any:
    """A value of the file with its variables filled in; `KeyError` for one that must be given and is not."""
    match value:
        case dict():
            return {key: interpolated(one, given) for key, one in value.items()}
        case list():
            return [interpolated(one, given) for one in value]
        case str():
            return _VARIABLE.sub(lambda found: _filled(found, given), value)
    return value


def _filled(found: re.Match[str], given: dict[str, str]) -> str:
    dollar, name, how, other = found.groups()
    value = given.get(name or "", "")
    match how:
        case _ if dollar:
            return "$"
        case ":-":
            return value or str(other)
        case ":+":
            return str(other) if value else ""
        case ":?" if not value:
            raise KeyError(name)
    return value


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = interpolated(yaml.safe_load(TEXT), GIVEN)["services"]
    return found


def test_each_service_is_looked_after(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["logging"]["options"]["max-size"], name
        assert service["stop_grace_period"], name
        assert service["restart"] == ("no" if name == "init" else "unless-stopped"), name
        # `init` ends by itself, and its success is what the others wait for.
        assert ("healthcheck" in service) is (name != "init"), name
        if name != "postgres":
            assert service["ulimits"]["nofile"] == {"soft": 65536, "hard": 65536}, name
    limits = services["worker"]["deploy"]["resources"]["limits"]
    assert set(limits) == {"memory", "cpus"}
    assert "couchdb-configuration:/opt/couchdb/etc/local.d" in services["couchdb"]["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_each_process_is_given_settings_that_are_there_and_good(services: dict[str, Any], name: str) -> None:
    environment = services[name]["environment"]
    assert environment.keys() <= {declaration.variable for declaration in DECLARATIONS}
    loaded = Settings.load(environment)
    assert database_url(loaded.service_db_url).password == PASSWORD
    assert loaded.log_format == "json"
    if name == "worker":
        assert database_url(loaded.ledger_url).password == PASSWORD
        assert loaded.image_dir is None
        assert str(loaded.worker_heartbeat) in str(services[name]["healthcheck"]["test"])
    if name in ("init", "worker", "gateway"):
        # Who knows CouchDB's password puts the gateway's key back where it got lost.
        assert signing_key(loaded.couchdb_jwt_key)[0] == "gateway"
    assert ("PASSBOOK_COUCHDB_PASSWORD" in environment) is (name in ("init", "worker", "administration"))


def test_no_password_stands_inside_an_address() -> None:
    for line in TEXT.splitlines():
        assert not re.search(r"://[^\s]*\$\{\w*PASSWORD", line), line


def test_every_secret_must_be_given() -> None:
    file = yaml.safe_load(TEXT)
    for name in GIVEN.keys() - {"PASSBOOK_LEDGER_USER", "PASSBOOK_LEDGER_PASSWORD"}:
        with pytest.raises(KeyError, match=name):
            interpolated(file, {**GIVEN, name: ""})
        assert name in TEXT.split("\nname:")[0], "the head of the file says what to set"


def test_pictures_are_the_folder_of_this_machine_or_nothing() -> None:
    worker = interpolated(yaml.safe_load(TEXT), {**GIVEN, "PASSBOOK_IMAGE_DIR": "/srv/fineract"})["services"][
        "worker"
    ]
    assert worker["volumes"] == ["/srv/fineract:/pictures:ro"]
    assert Settings.load(worker["environment"]).image_dir == Path("/pictures")


def test_every_other_image_can_be_pinned() -> None:
    named = re.findall(r"image: \$\{(\w+):-", TEXT)
    assert sorted(named) == ["COUCHDB_IMAGE", "PASSBOOK_IMAGE", "POSTGRES_IMAGE"]
    assert TEXT.count("image:") == len(named)
    assert "PYTHON_IMAGE: ${PYTHON_IMAGE:-python:3.13-slim}" in TEXT
