"""A device is its credential and a person is their token: naming somebody else beside it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from sync_gateway.answers import Problem
from sync_gateway.credentials import DatabaseCredentials
from tests.auth.test_signing_in import NEW, basic
from tests.support.api import PASSWORD, Answer, Api, Crowd

# fmt: off
HEADERS = (
    "X-Person", "X-Person-Id", "X-User", "X-User-Id", "X-Username", "X-Device", "X-Device-Id",
    "Device-Id", "Device", "X-Session", "X-Sub", "X-Forwarded-User", "X-Remote-User", "Remote-User",
    "X-Authenticated-User", "X-Auth-Request-User", "X-Original-User", "X-Auth-CouchDB-UserName",
    "X-Impersonate-User", "X-On-Behalf-Of", "X-Account-Id", "X-Database", "X-Http-Method-Override",
    "From",
)
PARAMETERS = (
    "person", "person_id", "device", "device_id", "user", "user_id", "username", "name", "id", "sub",
    "sid", "session", "account", "client_id", "on_behalf_of", "as", "actor", "access_token",
    "keep_device", "database",
)
# fmt: on
MEMBERS = (*PARAMETERS, "password", "secret", "owner", "state", "permissions", "clients", "expires_at", "reason")
KEY = "6f1c9f52-1d0b-4b5e-9f0e-0c8f6f1a2b3c"


class Somebody:
    """Somebody with two sessions and a device."""

    def __init__(self, name: str, person: str) -> None:
        self.name, self.person = name, person
        self.ids: dict[str, str] = {}
        self.token = self.refresh = ""

    async def arrive(self, api: Api) -> Somebody:
        first = await api.sign_in(self.name)
        self.token, self.refresh = first["access_token"], first["refresh_token"]
        made = await api.call(
            "POST", "/devices", {"name": "mine"}, token=self.token, headers={"Idempotency-Key": KEY}
        )
        self.device, self.secret = made["device"], made["password"]
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """What could be written where somebody's name is asked for."""
        return self.person, self.name, self.device


@pytest.fixture
async def amina(api: Api, crowd: Crowd) -> Somebody:
    return await Somebody("amina", crowd.person("amina", clients=(17,))).arrive(api)


@pytest.fixture
async def bela(api: Api, crowd: Crowd) -> Somebody:
    return await Somebody("bela", crowd.person("bela", clients=(18, 19))).arrive(api)


def kept(database: ServiceDatabase, who: Somebody) -> dict[str, Any]:
    """Everything that is kept about somebody."""
    with database.begin() as connection:
        found: dict[str, Any] = {}
        for table in (tables.person, tables.person_client, tables.device, tables.session, tables.scope_change):
            key = table.c.id if table is tables.person else table.c.person_id
            found[table.name] = [tuple(row) for row in connection.execute(select(table).where(key == who.person))]
        own = select(tables.session.c.id).where(tables.session.c.person_id == who.person)
        tokens = select(tables.refresh_token).where(tables.refresh_token.c.session_id.in_(own))
        found["refresh_token"] = sorted(bytes(row.digest).hex() for row in connection.execute(tokens))
    return found


def bare(answer: Answer) -> tuple[int, Any]:
    """The answer without what differs from one request to the next."""
    body = answer.body
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "request_id"}
    return answer.status, body


def noises(other: Somebody) -> Iterator[tuple[str, dict[str, str], str]]:
    """What is said beside the token: headers and a query."""
    for name in other.names:
        yield f"headers of {name}", dict.fromkeys(HEADERS, name), ""
        yield f"query of {name}", {}, "?" + "&".join(f"{parameter}={name}" for parameter in PARAMETERS)
        yield f"cookies of {name}", {"Cookie": "; ".join(f"{one}={name}" for one in PARAMETERS)}, ""
    yield "their token in the query", {}, f"?access_token={other.token}&token={other.token}"
    yield "their token in a cookie", {"Cookie": f"access_token={other.token}; token={other.token}"}, ""
    yield "their token beside", {"X-Authorization": f"Bearer {other.token}", "Proxy-Authorization": other.token}, ""


READS = (("GET", "/me"), ("GET", "/oauth/userdetails"), ("GET", "/devices"))


async def test_T22_reads_are_one_s_own_whoever_is_named_beside(
    api: Api, database: ServiceDatabase, amina: Somebody, bela: Somebody
) -> None:
    for method, path in READS:
        own = bare(await api.call(method, path, token=amina.token))
        assert own[0] == 200
        for what, headers, query in noises(bela):
            answer = await api.call(method, path + query, token=amina.token, headers=headers)
            assert bare(answer) == own, (path, what)
            for name in bela.names:
                assert name not in answer.raw.decode(), (path, what)
        # And without a token all of it opens nothing.
        for what, headers, query in noises(bela):
            answer = await api.call(method, path + query, headers=headers)
            assert (answer.status, answer.code) == (401, "token_missing"), (path, what)


async def test_T22_changes_are_to_what_is_one_s_own(
    api: Api, database: ServiceDatabase, amina: Somebody, bela: Somebody
) -> None:
    before = kept(database, bela)
    registered = {amina.device}
    for what, headers, query in noises(bela):
        # Of a sign-in of its own, which ends with it.
        token = await api.token("amina")
        made = await api.call("POST", f"/devices{query}", {}, token=token, headers=headers)
        assert made.status == 201, what
        registered.add(made["device"])
        gone = await api.call("DELETE", f"/devices/{made['device']}{query}", token=token, headers=headers)
        assert (gone.status, gone["state"]) == (200, "revoked"), what
    assert {row[0] for row in kept(database, amina)["device"]} == registered
    assert kept(database, bela) == before


async def test_T22_a_body_has_no_place_for_somebody_else(
    api: Api, database: ServiceDatabase, amina: Somebody, bela: Somebody
) -> None:
    before = {who.name: kept(database, who) for who in (amina, bela)}
    for path, body in (("/devices", {}), ("/password", {"current": PASSWORD, "new": NEW})):
        allowed = {"/devices": {"name"}, "/password": {"keep_device"}}[path]
        for member in MEMBERS:
            if member in allowed:
                continue
            for name in bela.names:
                answer = await api.call("POST", path, {**body, member: name}, token=amina.token)
                assert (answer.status, answer.code) == (422, "invalid"), (path, member)
    assert {who.name: kept(database, who) for who in (amina, bela)} == before


async def test_T22_somebody_else_s_device_is_as_if_there_were_none(
    api: Api, database: ServiceDatabase, amina: Somebody, bela: Somebody
) -> None:
    before = kept(database, bela)
    answers = {}
    for device in (bela.device, bela.person, bela.name, "device-00000000000000000000000000000000"):
        answer = await api.call("DELETE", f"/devices/{device}", token=amina.token)
        assert (answer.status, answer.code) == (404, "not_found")
        answers[device] = answer["message"].replace(device, "…")
    assert len(set(answers.values())) == 1
    for path in (f"/devices/{bela.device}", f"/devices/{amina.device}"):
        for method in ("GET", "PATCH", "PUT", "POST"):
            assert (await api.call(method, path, token=amina.token)).status == 405
    for path in (f"/devices/../devices/{bela.device}", f"/devices/{amina.device}/../{bela.device}"):
        answer = await api.call("DELETE", path.replace("..", "%2e%2e"), token=amina.token)
        assert answer.status in (404, 405, 422)
    assert kept(database, bela) == before


async def test_T22_keeping_somebody_else_s_device_keeps_none_of_one_s_own(
    api: Api, database: ServiceDatabase, amina: Somebody, bela: Somebody
) -> None:
    before = kept(database, bela)
    body = {"current": PASSWORD, "new": NEW, "sign_out_others": True, "keep_device": bela.device}
    answer = await api.call("POST", "/password", body, token=amina.token)
    assert answer.body == {"sessions_ended": 0, "devices_revoked": 1}
    assert kept(database, bela) == before


async def test_T22_a_key_of_somebody_else_s_registration_gives_one_s_own_device(
    api: Api, amina: Somebody, bela: Somebody
) -> None:
    """Both sent the same idempotency key; each has had their own device from it, again and again."""
    for who, other in ((amina, bela), (bela, amina)):
        again = await api.call("POST", "/devices", {}, token=who.token, headers={"Idempotency-Key": KEY})
        assert (again.status, again["device"], again["password"]) == (201, who.device, who.secret)
        assert other.secret not in again.raw.decode()
        assert other.device not in again.raw.decode()


async def test_T22_signing_in_is_by_what_is_proved(api: Api, amina: Somebody, bela: Somebody) -> None:
    beside = {"username": "amina", "password": PASSWORD, "grant_type": "password"}
    for more in ({"person": bela.person}, {"client_id": bela.person, "scope": bela.person}, {"sub": bela.name}):
        for _, headers, query in noises(bela):
            answer = await api.call("POST", f"/oauth/token{query}", form={**beside, **more}, headers=headers)
            assert answer.status == 200
            break
        me = await api.call("GET", "/me", token=answer["access_token"])
        assert me["person"] == amina.person
    # A refresh token is whose it is, whatever access token comes with it.
    answer = await api.call(
        "POST",
        "/oauth/token",
        form={"grant_type": "refresh_token", "refresh_token": amina.refresh, "username": "bela"},
        headers={"Authorization": f"Bearer {bela.token}"},
    )
    assert (await api.call("GET", "/me", token=answer["access_token"]))["person"] == amina.person


async def test_T22_signing_out_is_of_the_token_that_is_sent(api: Api, amina: Somebody, bela: Somebody) -> None:
    """An access token beside it signs nobody out; neither does an id in place of a token."""
    for token in (bela.person, bela.device, bela.token, bela.secret):
        out = await api.call(
            "POST", "/oauth/revoke", form={"token": token}, headers={"Authorization": f"Bearer {bela.token}"}
        )
        assert out.status == 200
    assert (await api.call("GET", "/me", token=bela.token)).status == 200
    assert (await api.refresh(bela.refresh)).status == 200


async def test_T22_a_revoked_device_has_no_other_way_in(
    api: Api, service_url: str, amina: Somebody, bela: Somebody
) -> None:
    """At the gateway the name in Basic and the secret are the device: nothing else says which it is."""
    credentials = DatabaseCredentials.at(service_url)
    try:
        good = basic(amina.device, amina.secret)["Authorization"]
        assert (await credentials.principal([good])).person_id == amina.person
        assert (await api.call("DELETE", f"/devices/{amina.device}", token=amina.token)).status == 200
        wrong = [
            [good],
            [],
            [""],
            [good, basic(bela.device, bela.secret)["Authorization"]],
            *(
                [basic(name, amina.secret)["Authorization"]]
                for name in ("", *bela.names, amina.person, amina.name, f"{amina.device}\0", amina.device.upper())
            ),
            [basic(bela.device, "")["Authorization"]],
            [basic(amina.device, PASSWORD)["Authorization"]],
            [basic("amina", PASSWORD)["Authorization"]],
            [f"Bearer {amina.token}"],
            [f"Bearer {amina.secret}"],
        ]
        for authorization in wrong:
            with pytest.raises(Problem) as refused:
                await credentials.principal(authorization)
            assert refused.value.status == 401, authorization
        assert (
            await credentials.principal([basic(bela.device, bela.secret)["Authorization"]])
        ).person_id == bela.person
    finally:
        await credentials.close()


async def test_T22_every_route_of_people_s_side_is_tried_here(api: Api) -> None:
    """A new one needs a test above."""
    paths = (await api.call("GET", "/openapi.json"))["paths"]
    people_s = {
        (method.upper(), path) for path, item in paths.items() for method in item if not path.startswith("/admin")
    }
    nobody_s = {("GET", path) for path in ("/health/live", "/health/ready", "/metrics", "/.well-known/jwks.json")}
    assert people_s - nobody_s == {
        *READS,
        ("POST", "/devices"),
        ("DELETE", "/devices/{device}"),
        ("POST", "/password"),
        ("POST", "/oauth/token"),
        ("POST", "/sign-out"),  # tests/auth/test_leaving.py
        ("POST", "/oauth/revoke"),
        ("POST", "/authentication"),
        ("POST", "/activation"),  # test_T22_a_code_opens_nothing_under_another_name
    }
