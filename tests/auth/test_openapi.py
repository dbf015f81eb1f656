"""The OpenAPI document: complete, and true of what is answered to requests made from it at random.

Schemathesis draws requests from the document, right ones and wrong ones, and holds every answer against it. It is
kept from two things alone. The path of an administrator is never the one who asks (the last owner may not be
suspended, but once there are two either may), and people's side runs with a database of its own, where nobody turns
the switch. Guessing its own password at `/password` only earns it a 429, which is documented; ids in paths are, as
often as not, those of what there is.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.python.asgi import get_client, shutdown_lifespans
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import select

from auth_service import administrators, approvals, devices, keys
from auth_service.api import acts
from auth_service.api.app import THREADS, build
from auth_service.service import Part, Service
from passbook.audit import chain
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from tests.reference import openapi
from tests.support.actors import TESTER
from tests.support.api import PASSWORD, SECRET, Crowd

METHODS = ("get", "post", "put", "patch", "delete")
HEALTH = {"/health/live", "/health/ready"}
OAUTH = {"/oauth/token", "/oauth/revoke", "/admin/oauth/token", "/admin/oauth/revoke"}
#: For each operation and way of drawing. The whole is bounded by it: 46 operations, both ways.
EXAMPLES = 20


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    seen = set()
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"].strip().endswith((".", "]")), where
        assert operation["tags"], where
        assert operation["operationId"] not in seen, where
        seen.add(operation["operationId"])
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            said = parameter.get("description") or schema.get("description") or parameter.get("examples")
            said = said or schema.get("examples") or "enum" in json.dumps(schema) or "default" in schema
            assert said or parameter["name"] in ("device",), f"{where}: {parameter['name']}"
    assert len(seen) >= 46


def test_every_operation_documents_its_errors(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        if path in HEALTH:
            continue
        answers = operation["responses"]
        expected = {"400", "413", "503"} | ({"429"} if path in OAUTH else {"422"})
        if operation.get("security") in ([{"person": []}], [{"administrator": []}]):
            expected |= {"401", "403"}
        assert expected <= answers.keys(), where
        if "{" in path:
            assert "404" in answers, where
        for status, answer in answers.items():
            assert answer["description"], (where, status)
            if int(status) >= 400:
                schema = answer["content"]["application/json"]["schema"]
                # Too large is said before it is known what it is.
                shape = "OAuthProblem" if path in OAUTH and status != "413" else "Problem"
                assert schema["$ref"].rpartition("/")[2] == shape, where
        # What FastAPI documents by itself is not what is answered.
        assert "HTTPValidationError" not in json.dumps(operation), where


def test_every_body_has_an_example_that_holds(document: dict[str, Any]) -> None:
    bodies = 0
    for method, path, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            bodies += 1
            schema = resolved(document, content["schema"])
            assert schema.get("examples"), f"{method} {path}"
            whole = {**schema, "components": document["components"]}
            for example in schema["examples"]:
                jsonschema.Draft202012Validator(whole).validate(example)
            if path not in OAUTH:
                assert schema["additionalProperties"] is False, f"{method} {path}"
    assert bodies >= 20


def test_a_body_like_the_example_is_taken(document: dict[str, Any]) -> None:
    """The models that check requests take the examples too."""
    from auth_service.api import administrator_models, models, phone_models

    for kind in (*vars(models).values(), *vars(administrator_models).values(), *vars(phone_models).values()):
        if isinstance(kind, type) and issubclass(kind, models.Request):
            extra = kind.model_config.get("json_schema_extra")
            for example in extra["examples"] if isinstance(extra, dict) else ():
                kind.model_validate(example)


@dataclass
class Side:
    """One side of the service in this process, with a token, and the ids of what there is."""

    name: Part
    service: Service
    app: Any
    database: ServiceDatabase
    client: requests.Session
    token: str = ""
    known: dict[str, list[Any]] = field(default_factory=dict)

    def look(self) -> None:
        """What there is now: people and devices come and go with the requests."""
        kinds = ("device",) if self.name == "people" else ("person", "device", "administrator", "approval")
        with self.database.begin() as connection:
            for kind in kinds:
                table = tables.metadata.tables[kind]
                query = select(table.c.id)
                if kind == "administrator":
                    query = query.where(table.c.username != "olga")
                if kind == "device":
                    # With one on the phone of the token in use, the token would end.
                    phones = select(tables.session.c.installation).where(tables.session.c.installation.is_not(None))
                    query = query.where(table.c.installation.not_in(phones))
                if kind == "person":
                    query = query.where(table.c.state == "active")
                self.known[kind] = list(connection.execute(query).scalars())[:5]

    def replenish(self) -> None:
        """People and devices are erased and revoked: let there be some again, and acts that Otto asked for."""
        crowd, otto = Crowd(self.database), chain.Actor("administrator")
        name = "amina" if self.name == "people" else f"somebody-{secrets.token_hex(4)}"
        if self.name == "administration":
            crowd.person(name, clients=(17, 18))
            with self.database.begin() as connection:
                otto = chain.Actor("administrator", administrators.show(connection, "otto").administrator)
        with self.database.begin() as connection:
            made = [devices.add(connection, TESTER, name, terms=self.service.device_terms) for _ in range(2)]
            if self.name == "administration":
                what = {"devices": [made[0].device]}
                approvals.request(connection, otto, acts.REVOKE_MANY, what, "ticket 4711")
        self.look()


def opened(name: Part, url: str) -> Side:
    settings_ = Settings.load({"PASSBOOK_ACCESS_TOKEN_SECONDS": "36000", "PASSBOOK_DEVICES_PER_PERSON": "100000"})
    database = ServiceDatabase(url, connections=THREADS)
    with database.begin() as connection:
        keys.ensure(connection, TESTER, SECRET)
    service = Service.build(settings_, database, secret=SECRET, parts=(name,))
    app = build(service)
    return Side(name, service, app, database, get_client(app))


def signed_in(side: Side, path: str, username: str) -> str:
    form = {"grant_type": "password", "username": username, "password": PASSWORD}
    answer = side.client.post(path, data=form)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


@pytest.fixture(params=["people", "administration"])
def side(request: pytest.FixtureRequest, service_url: str) -> Iterator[Side]:
    """People's side for a person with devices, or administration for an owner with people to administer."""
    one = opened(request.param, service_url)
    crowd = Crowd(one.database)
    with one.client:
        if one.name == "people":
            crowd.person("amina", clients=(1, 2))
            one.token = signed_in(one, "/oauth/token", "amina")
            registered = one.client.post("/devices", json={}, headers={"Authorization": f"Bearer {one.token}"})
            assert registered.status_code == 201, registered.text
        else:
            crowd.administrator("olga", "owner")
            crowd.administrator("otto", "owner")
            one.token = signed_in(one, "/admin/oauth/token", "olga")
        one.replenish()
        yield one
    # Schemathesis does so at the end of a test, too, for an application that it has called.
    shutdown_lifespans()
    one.database.dispose()


def no_server_error(_context: Any, response: Any, _case: Any) -> None:
    assert response.status_code < 500, response.text


CHECKS = [
    no_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def aimed(side: Side, case: Any, data: st.DataObject) -> None:
    """Let the request concern, as often as not, what there is, at the version that it has."""
    for name, present in side.known.items():
        if name in (case.path_parameters or {}) and present and data.draw(st.booleans()):
            case.path_parameters[name] = data.draw(st.sampled_from(present))
    devices = side.known.get("device")
    if isinstance(case.body, dict) and "devices" in case.body and devices and data.draw(st.booleans()):
        case.body["devices"] = devices[:2]
    # What is drawn for it is of the scheme's form, and would stand in the way of the token.
    case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() != "authorization"}
    if "428" in case.operation.definition.raw["responses"] and data.draw(st.integers(0, 2)):
        case.headers["If-Match"] = "*"


def held(side: Side, operation: Any, mode: GenerationMode, sent: dict[str, str]) -> dict[int, int]:
    """Requests for one operation, each answer held against the document; how often it answered what."""
    counts: dict[int, int] = {}

    @PROFILE
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def check(case: Any, data: st.DataObject) -> None:
        aimed(side, case, data)
        response = case.call(headers=sent)
        counts[response.status_code] = counts.get(response.status_code, 0) + 1
        case.validate_response(response, checks=CHECKS)

    try:
        check()
    except Unsatisfiable:
        # There is nothing about this operation that could be wrong.
        assert mode is GenerationMode.NEGATIVE
    return counts


def run(side: Side, mode: GenerationMode, token: str | None) -> dict[str, dict[int, int]]:
    """Every operation of a side, drawn from its document."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", side.app)
    seen: dict[str, dict[int, int]] = {}
    # Signing out would end the token in use. Signed in before passwords are guessed, which slows sign-in down.
    leaving = signed_in(side, "/oauth/token", "amina") if token and side.name == "people" else None
    for result in schema.get_all_operations():
        operation = result.ok()
        own = leaving if operation.path == "/sign-out" else token
        sent = {"Authorization": f"Bearer {own}"} if own else {}
        seen[f"{operation.method.upper()} {operation.path}"] = held(side, operation, mode, sent)
        side.replenish()
    return seen


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_answers_are_as_documented(side: Side, mode: GenerationMode) -> None:
    seen = run(side, mode, side.token)
    assert len(seen) >= (13 if side.name == "people" else 37)
    for label, counts in seen.items():
        print(f"{label}: " + ", ".join(f"{status} × {times}" for status, times in sorted(counts.items())))
    # It did not lock itself out: else a 401 was tested all the time.
    home = "/me" if side.name == "people" else "/admin/me"
    after = side.client.get(home, headers={"Authorization": f"Bearer {side.token}"})
    assert after.status_code == 200
    if mode is GenerationMode.POSITIVE:
        reached = [label for label, counts in seen.items() if any(status < 300 for status in counts)]
        assert len(reached) > 0.6 * len(seen), seen.keys() - reached


def test_without_a_token_answers_are_as_documented_too(side: Side) -> None:
    paths = side.app.openapi()["paths"]
    for label, counts in run(side, GenerationMode.POSITIVE, None).items():
        method, path = label.split(" ")
        if paths[path][method.lower()].get("security") in ([{"person": []}], [{"administrator": []}]):
            assert counts.keys() <= {401}, (label, counts)
