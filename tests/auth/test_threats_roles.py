"""What each role may do, over every route there is; and acts that take two administrators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from tests.support.api import Answer, Api, Crowd, serving

WHY = {"reason": "ticket 4711"}
ROLES = ("support", "manager", "owner")
ALL = {"If-Match": "*"}


@dataclass(frozen=True)
class Entry:
    """A route of administration: the least role, and a request that a role that may is not refused."""

    needs: str
    body: Any = None
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    #: What somebody who may gets: the ids in the paths are of nobody, so mostly 404.
    gets: tuple[int, ...] = (200,)
    #: Whether it is open to somebody who must change the password first.
    before_change: bool = False


#: Every route of administration with a token. A new route without an entry here fails the test below.
ROUTES: dict[tuple[str, str], Entry] = {
    ("GET", "/admin/me"): Entry("support", before_change=True),
    ("POST", "/admin/password"): Entry(
        "support",
        {"current": "not the present one", "new": "seven blue boats sail"},
        gets=(401,),
        before_change=True,
    ),
    ("GET", "/admin/people"): Entry("support"),
    ("POST", "/admin/people"): Entry("manager", {"username": "new"}, gets=(201, 409)),
    ("GET", "/admin/people/{person}"): Entry("support", gets=(404,)),
    ("PATCH", "/admin/people/{person}"): Entry("manager", {"kind": "agent"}, headers=ALL, gets=(404,)),
    ("POST", "/admin/people/{person}/clients"): Entry("manager", {"clients": [1]}, headers=ALL, gets=(404,)),
    ("DELETE", "/admin/people/{person}/clients/{client}"): Entry("manager", headers=ALL, gets=(404,)),
    ("PUT", "/admin/people/{person}/permissions"): Entry(
        "manager", {"permissions": ["loans"]}, headers=ALL, gets=(404,)
    ),
    ("POST", "/admin/people/{person}/suspend"): Entry("support", WHY, gets=(404,)),
    ("POST", "/admin/people/{person}/restore"): Entry("manager", WHY, gets=(404,)),
    ("POST", "/admin/people/{person}/sign-out"): Entry("support", WHY, gets=(404,)),
    ("POST", "/admin/people/{person}/reset-password"): Entry("manager", {}, gets=(404,)),
    ("POST", "/admin/people/{person}/erase"): Entry("owner", WHY, gets=(404,)),
    ("GET", "/admin/people/{person}/changes"): Entry("support", gets=(404,)),
    ("GET", "/admin/people/{person}/devices"): Entry("support", gets=(404,)),
    ("GET", "/admin/people/{person}/preview"): Entry("support", gets=(404,)),
    ("POST", "/admin/people/{person}/preview"): Entry("support", {}, gets=(404,)),
    ("GET", "/admin/devices"): Entry("support"),
    ("GET", "/admin/devices/{device}"): Entry("support", gets=(404,)),
    ("POST", "/admin/devices/{device}/revoke"): Entry("support", WHY, gets=(404,)),
    ("POST", "/admin/devices/{device}/wipe"): Entry("support", WHY, gets=(404,)),
    ("POST", "/admin/devices/revoke"): Entry("support", WHY | {"devices": ["device-none"]}, gets=(404,)),
    ("GET", "/admin/tenant"): Entry("support"),
    ("PUT", "/admin/tenant"): Entry("owner", WHY | {"open": True}),
    ("GET", "/admin/administrators"): Entry("owner"),
    ("POST", "/admin/administrators"): Entry("owner", {"username": "new", "role": "support"}, gets=(201, 409)),
    ("PATCH", "/admin/administrators/{administrator}"): Entry(
        "owner", {"role": "support"}, headers=ALL, gets=(404,)
    ),
    ("POST", "/admin/administrators/{administrator}/reset-password"): Entry("owner", {}, gets=(404,)),
    ("GET", "/admin/approvals"): Entry("support"),
    ("POST", "/admin/approvals/{approval}/approve"): Entry("support", gets=(404,)),
    ("POST", "/admin/approvals/{approval}/refuse"): Entry("support", gets=(404,)),
    ("GET", "/admin/audit"): Entry("manager"),
    ("GET", "/admin/audit/head"): Entry("support"),
}
#: Routes under /admin that take no access token: a password, a refresh token or a code is what opens them.
WITHOUT_TOKEN = {
    ("POST", "/admin/oauth/token"),
    ("POST", "/admin/oauth/revoke"),
    ("POST", "/admin/activation"),
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, item in document["paths"].items():
        for method in item:
            yield method.upper(), path


def filled(path: str) -> str:
    """The path with ids of nobody and nothing."""
    values = {"{person}": "person-none", "{client}": "17", "{device}": "device-none"}
    values |= {"{administrator}": "administrator-none", "{approval}": "approval-none"}
    for name, value in values.items():
        path = path.replace(name, value)
    assert "{" not in path
    return path


async def asked(api: Api, route: tuple[str, str], token: str | None) -> Answer:
    method, path = route
    entry = ROUTES[route]
    return await api.call(method, filled(path) + entry.query, entry.body, token=token, headers=entry.headers)


async def test_T27_every_route_of_administration_has_an_entry(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json")).body
    routes = {route for route in operations(document) if route[1].startswith("/admin")}
    assert routes == ROUTES.keys() | WITHOUT_TOKEN
    for method, path in ROUTES:
        secured = document["paths"][path][method.lower()].get("security")
        assert secured == [{"administrator": []}], (method, path)
    for method, path in set(operations(document)) - ROUTES.keys():
        secured = document["paths"][path][method.lower()].get("security")
        assert secured in (None, [{"person": []}], [{"person": []}, {}], [{"basic": []}]), (method, path)


async def test_T27_what_each_role_may_do(api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
    crowd.person("amina")
    tokens: dict[str, str] = {}
    ids: dict[str, str] = {}
    for role in ROLES:
        ids[role] = crowd.administrator(f"one-{role}", role)
        tokens[role] = await api.token(f"one-{role}", administrator=True)
    ids["suspended"] = crowd.administrator("one-suspended", "owner")
    tokens["suspended"] = await api.token("one-suspended", administrator=True)
    for role in ROLES:
        crowd.administrator(f"fresh-{role}", role, must_change=True)
        tokens[f"fresh {role}"] = await api.token(f"fresh-{role}", administrator=True)
    tokens["person"] = await api.token("amina")
    with database.begin() as connection:
        one = tables.administrator.c.username == "one-suspended"
        connection.execute(update(tables.administrator).where(one).values(state="suspended"))

    refusals = 0
    for route, entry in ROUTES.items():
        said = (route, "nobody")
        answer = await asked(api, route, None)
        assert (answer.status, answer.code) == (401, "token_missing"), said
        answer = await asked(api, route, "made.up.token")
        assert (answer.status, answer.code) == (401, "token_invalid"), said
        answer = await asked(api, route, tokens["person"])
        assert (answer.status, answer.code) == (401, "wrong_audience"), said
        answer = await asked(api, route, tokens["suspended"])
        assert (answer.status, answer.code) == (401, "session_ended"), said
        for role in ROLES:
            answer = await asked(api, route, tokens[f"fresh {role}"])
            may = ROLES.index(role) >= ROLES.index(entry.needs)
            if entry.before_change:
                assert answer.status in entry.gets, (route, role, answer.body)
            else:
                assert (answer.status, answer.code) == (403, "password_change_required"), (route, role)
            answer = await asked(api, route, tokens[role])
            if may:
                assert answer.status in entry.gets, (route, role, answer.body)
                assert answer.status < 400 or answer.code not in ("role", "wrong_audience"), (route, role)
            else:
                assert (answer.status, answer.code) == (403, "role"), (route, role, answer.body)
                refusals += 1

    with database.begin() as connection:
        log = tables.audit_event
        query = select(log.c.event, func.count().label("times")).group_by(log.c.event)
        counted = {row.event: row.times for row in connection.execute(query)}
        repeats = select(func.sum(tables.audit_repeat.c.counted)).where(tables.audit_repeat.c.event == "WrongDoor")
        repeated = connection.execute(repeats).scalar_one()
        denied = connection.execute(select(log.c.actor, log.c.detail).where(log.c.event == "NotAllowed")).all()
        names = set(connection.execute(select(tables.administrator.c.username)).scalars())
        everybody = set(connection.execute(select(tables.person.c.username)).scalars())
    # Every refusal for the role is on record, and so is every person's token at this door: the first in full.
    assert counted["NotAllowed"] == refusals
    assert counted["WrongDoor"] + repeated == len(ROUTES)
    assert {row.actor for row in denied} == {ids["support"], ids["manager"]}
    # What was refused was not done: one manager and one owner made one person, an owner one administrator.
    assert everybody == {"amina", "new"}
    assert names == {f"one-{role}" for role in (*ROLES, "suspended")} | {f"fresh-{role}" for role in ROLES} | {
        "new"
    }


async def test_T27_a_role_that_was_taken_holds_at_the_next_request(
    api: Api, crowd: Crowd, database: ServiceDatabase
) -> None:
    """The token says nothing about the role: a change holds at once, in both directions."""
    crowd.administrator("olga", "owner")
    token = await api.token("olga", administrator=True)
    olga = tables.administrator.c.username == "olga"
    for role, status in (("support", 403), ("manager", 403), ("owner", 200)):
        with database.begin() as connection:
            connection.execute(update(tables.administrator).where(olga).values(role=role))
        assert (await api.call("GET", "/admin/administrators", token=token)).status == status


NEED_A_REASON = (
    ("/admin/people/{}/suspend", {}),
    ("/admin/people/{}/restore", {}),
    ("/admin/people/{}/sign-out", {}),
    ("/admin/people/{}/erase", {}),
    ("/admin/devices/{}/revoke", {}),
    ("/admin/devices/{}/wipe", {}),
    ("/admin/devices/revoke", {"devices": ["device-1"]}),
)


async def test_T27_what_weighs_has_a_reason(api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
    amina = crowd.person("amina")
    crowd.administrator("olga", "owner")
    token = await api.token("olga", administrator=True)
    with database.begin() as connection:
        before = connection.execute(select(func.count()).select_from(tables.audit_event)).scalar_one()
    for path, body in NEED_A_REASON:
        for reason in ({}, {"reason": ""}, {"reason": "ab"}, {"reason": None}, {"reason": "a\nb c"}, {"reason": 7}):
            answer = await api.call("POST", path.format(amina), body | reason, token=token)
            assert (answer.status, answer.code) == (422, "invalid"), (path, reason)
    for reason in ({}, {"reason": "no"}):
        answer = await api.call("PUT", "/admin/tenant", {"open": False} | reason, token=token)
        assert answer.status == 422
    with database.begin() as connection:
        assert connection.execute(select(func.count()).select_from(tables.audit_event)).scalar_one() == before
        assert connection.execute(select(tables.tenant.c.open)).scalar_one() is True
        assert connection.execute(select(tables.person.c.state)).scalar_one() == "active"


# Two administrators


class Pair:
    """Olga asks, Otto decides; Sami is support, Mina a manager. Amina has three devices."""

    def __init__(self, api: Api, crowd: Crowd, database: ServiceDatabase) -> None:
        self.api, self.database = api, database
        self.amina = crowd.person("amina")
        self.ids = {
            name: crowd.administrator(name, role)
            for name, role in {"olga": "owner", "otto": "owner", "mina": "manager", "sami": "support"}.items()
        }
        self.tokens: dict[str, str] = {}
        self.devices: list[str] = []

    async def arrive(self) -> Pair:
        for name in self.ids:
            self.tokens[name] = await self.api.token(name, administrator=True)
        token = await self.api.token("amina")
        for _ in range(3):
            self.devices.append((await self.api.call("POST", "/devices", {}, token=token))["device"])
        return self

    async def ask(self, who: str, act: str) -> str:
        """Ask for an act; the approval that waits. Nothing has happened."""
        if act == "erase":
            answer = await self.post(who, f"/admin/people/{self.amina}/erase", WHY)
            waiting = answer.body
        else:
            answer = await self.post(who, "/admin/devices/revoke", WHY | {"devices": self.devices})
            waiting = answer["approval"]
            assert answer["revoked"] is None
        assert answer.status == 202
        assert (waiting["state"], waiting["requested_by"], waiting["reason"]) == (
            "pending",
            self.ids[who],
            WHY["reason"],
        )
        assert not self.happened(act)
        return str(waiting["approval"])

    async def post(self, who: str, path: str, body: Any = None) -> Answer:
        return await self.api.call("POST", path, body, token=self.tokens[who])

    async def decide(self, who: str, approval: str, decision: str = "approve") -> Answer:
        return await self.post(who, f"/admin/approvals/{approval}/{decision}")

    async def waiting(self, who: str = "sami") -> list[str]:
        answer = await self.api.call("GET", "/admin/approvals", token=self.tokens[who])
        return [one["approval"] for one in answer["items"]]

    def happened(self, act: str) -> bool:
        with self.database.begin() as connection:
            if act == "erase":
                query = select(tables.person.c.id).where(
                    tables.person.c.id == self.amina, tables.person.c.state != "deleting"
                )
                return connection.execute(query).first() is None
            revoked = tables.device.c.revoked_at.is_not(None)
            found = connection.execute(select(tables.device.c.id).where(revoked)).scalars().all()
            assert set(found) in (set(), set(self.devices))
            return bool(found)

    def events(self, name: str) -> list[Any]:
        with self.database.begin() as connection:
            query = select(tables.audit_event).where(tables.audit_event.c.event == name)
            return list(connection.execute(query.order_by(tables.audit_event.c.id)))


@pytest.fixture
async def pair(service_url: str, crowd: Crowd, database: ServiceDatabase) -> AsyncIterator[Pair]:
    async with serving(service_url, {"PASSBOOK_SECOND_APPROVER": "true"}) as api:
        yield await Pair(api, crowd, database).arrive()


ACTS = pytest.mark.parametrize("act", ["revoke", "erase"])


@ACTS
async def test_T27_a_second_administrator_must_approve(pair: Pair, act: str) -> None:
    approval = await pair.ask("olga", act)
    assert await pair.waiting() == [approval]
    own = await pair.decide("olga", approval)
    assert (own.status, own.code) == (403, "second_approver")
    assert not pair.happened(act)
    done = await pair.decide("otto", approval)
    assert (done.status, done["state"], done["decided_by"]) == (200, "approved", pair.ids["otto"])
    assert pair.happened(act)
    assert await pair.waiting() == []
    again = await pair.decide("otto", approval)
    assert (again.status, again.code) == (409, "decided")
    (asked_for,), (decided,) = pair.events("ApprovalRequested"), pair.events("ApprovalDecided")
    assert (asked_for.actor, asked_for.reason) == (pair.ids["olga"], WHY["reason"])
    assert (decided.actor, '"approved"' in decided.detail) == (pair.ids["otto"], True)
    # The act itself is on record too, by whoever approved, with the reason that was given.
    what = {"revoke": "DeviceRevoked", "erase": "PersonDeleted"}[act]
    acts = pair.events(what)
    assert len(acts) == (3 if act == "revoke" else 1)
    assert {(one.actor, one.reason) for one in acts} == {(pair.ids["otto"], WHY["reason"])}


@ACTS
@pytest.mark.parametrize("who", ["olga", "otto"])
async def test_T27_a_refused_act_does_not_happen(pair: Pair, act: str, who: str) -> None:
    """Another refuses, or who asked takes it back."""
    approval = await pair.ask("olga", act)
    refused = await pair.decide(who, approval, "refuse")
    assert (refused.status, refused["state"]) == (200, "refused")
    late = await pair.decide("otto", approval)
    assert (late.status, late.code) == (409, "decided")
    assert not pair.happened(act)
    (decided,) = pair.events("ApprovalDecided")
    assert '"refused"' in decided.detail


@ACTS
async def test_T27_an_approval_expires(pair: Pair, act: str) -> None:
    approval = await pair.ask("olga", act)
    with pair.database.begin() as connection:
        day = timedelta(hours=24)
        moved = {
            "requested_at": tables.approval.c.requested_at - day,
            "expires_at": tables.approval.c.expires_at - day,
        }
        connection.execute(update(tables.approval).values(moved))
    assert await pair.waiting() == []
    for who, decision in (("otto", "approve"), ("otto", "refuse"), ("olga", "refuse")):
        late = await pair.decide(who, approval, decision)
        assert (late.status, late.code) == (409, "decided")
        assert "expired" in late["message"]
    assert not pair.happened(act)
    assert pair.events("ApprovalDecided") == []


async def test_T27_approving_takes_the_role_of_doing(pair: Pair) -> None:
    erasing = await pair.ask("olga", "erase")
    for who in ("sami", "mina"):
        refused = await pair.decide(who, erasing)
        assert (refused.status, refused.code) == (403, "role")
    assert not pair.happened("erase")
    revoking = await pair.ask("olga", "revoke")
    assert (await pair.decide("sami", revoking)).status == 200
    assert pair.happened("revoke")
    # And who asks must be who may: the approval of another does not make up for it.
    for who in ("sami", "mina"):
        refused = await pair.post(who, f"/admin/people/{pair.amina}/erase", WHY)
        assert (refused.status, refused.code) == (403, "role")


@ACTS
async def test_T27_two_who_decide_at_once_decide_once(pair: Pair, act: str) -> None:
    approval = await pair.ask("olga", act)
    answers = await asyncio.gather(
        *(pair.decide("otto", approval) for _ in range(4)),
        *(pair.decide("otto", approval, "refuse") for _ in range(4)),
    )
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    (decided,) = pair.events("ApprovalDecided")
    assert pair.happened(act) is ('"approved"' in decided.detail)


async def test_T27_an_act_that_can_no_longer_be_done_stays_undecided(pair: Pair) -> None:
    """Its person is gone meanwhile: nothing is half done, and nobody is told that it was approved."""
    first = await pair.ask("olga", "erase")
    second = await pair.ask("otto", "erase")
    assert (await pair.decide("otto", first)).status == 200
    failed = await pair.decide("olga", second)
    assert failed.status == 404
    assert len(pair.events("ApprovalDecided")) == 1
    assert (await pair.decide("olga", second, "refuse")).status == 200


async def test_T27_one_device_is_revoked_without_a_second_administrator(pair: Pair) -> None:
    """Whoever lost a phone does not wait for two people."""
    answer = await pair.post("sami", f"/admin/devices/{pair.devices[0]}/revoke", WHY)
    assert (answer.status, answer["state"]) == (200, "revoked")


async def test_T27_asking_changes_nothing_even_for_a_moment(pair: Pair) -> None:
    with pair.database.begin() as connection:
        connection.execute(text("CREATE TABLE touched (what text)"))
        for table in ("person", "device"):
            connection.execute(
                text(
                    f"CREATE FUNCTION note_{table}() RETURNS trigger LANGUAGE plpgsql AS "
                    f"$$ BEGIN INSERT INTO touched VALUES ('{table}'); RETURN NULL; END $$"
                )
            )
            connection.execute(
                text(
                    f"CREATE TRIGGER note AFTER UPDATE OR DELETE ON {table} FOR EACH ROW "
                    f"EXECUTE FUNCTION note_{table}()"
                )
            )
    for act in ("revoke", "erase"):
        await pair.decide("olga", await pair.ask("olga", act), "refuse")
    with pair.database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM touched")).scalar_one() == 0
