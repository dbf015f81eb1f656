"""Administering people over HTTP: create, find, link, permit, look ahead, suspend, revoke."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import insert

from auth_service.scopes import changes
from passbook.audit import chain
from passbook.scope import PERMISSIONS
from passbook.servicedb import tables
from passbook.servicedb.engine import ServiceDatabase
from tests.support.api import PASSWORD, Answer, Api, Crowd, serving

READABLE = {"credential": "initial_password"}


@dataclass
class Office:
    """The administration API with an owner at the keyboard."""

    api: Api
    token: str

    async def __call__(
        self, method: str, path: str, body: Any = None, *, version: int | str | None = None
    ) -> Answer:
        headers = {} if version is None else {"If-Match": version if version == "*" else f'"{version}"'}
        return await self.api.call(method, f"/admin{path}", body, token=self.token, headers=headers)

    async def create(self, username: str, **more: Any) -> dict[str, Any]:
        answer = await self("POST", "/people", {"username": username, **more})
        assert answer.status == 201, answer.body
        person: dict[str, Any] = answer["person"]
        return person


@pytest.fixture
async def office(api: Api, crowd: Crowd) -> Office:
    crowd.administrator("olga", "owner")
    return Office(api, await api.token("olga", administrator=True))


async def test_a_person_is_created_with_an_initial_password(office: Office, api: Api) -> None:
    answer = await office(
        "POST", "/people", {"username": " Amina ", "kind": "agent", "clients": [18, 17, 18], **READABLE}
    )
    assert answer.status == 201
    person = answer["person"]
    assert (person["username"], person["kind"], person["clients"]) == ("Amina", "agent", [17, 18])
    assert person["permissions"] == list(PERMISSIONS)
    assert person["pending_changes"] == 1
    assert answer.headers["ETag"] == '"1"'
    opened = await api.sign_in("amina", answer["initial_password"])
    assert opened["must_change_password"] is True
    again = await office("POST", "/people", {"username": "AMINA"})
    assert (again.status, again.code) == (409, "username_taken")


async def test_a_given_password_is_not_told_again(office: Office) -> None:
    answer = await office("POST", "/people", {"username": "amina", "password": PASSWORD})
    assert answer["initial_password"] is None
    assert PASSWORD not in answer.raw.decode()
    weak = await office("POST", "/people", {"username": "baraka", "password": "password123"})
    assert (weak.status, weak.code) == (400, "weak_password")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": ""},
        {"username": "a:b"},
        {"username": "a", "kind": "owner"},
        {"username": "a", "clients": [0]},
        {"username": "a", "clients": ["1; DROP TABLE person"]},
        {"username": "a", "clients": [2**63]},
        {"username": "a", "permissions": ["everything"]},
        {"username": "a", "history_months": 0},
        {"username": "a", "history_from": "2026-01-01", "history_months": 3},
        {"username": "a", "role": "owner"},
        {"username": "a\u0000b"},
        {"username": "x" * 101},
    ],
)
async def test_what_cannot_be_a_person_is_refused(office: Office, body: dict[str, Any]) -> None:
    answer = await office("POST", "/people", body)
    assert answer.status in (400, 422), answer.body
    assert set(answer.body) == {"code", "message", "detail", "request_id"}
    assert (await office("GET", "/people"))["items"] == []


async def test_people_are_found_a_page_at_a_time_while_others_come_and_go(office: Office) -> None:
    names = [f"person {number:02}" for number in range(23)]
    for number, name in enumerate(reversed(names)):
        await office.create(name, kind="agent" if number % 2 else "customer", clients=[100 + number])
    seen: list[str] = []
    page = await office("GET", "/people?limit=5")
    while True:
        seen += [one["username"] for one in page["items"]]
        if page["next"] is None:
            break
        await office.create(f"a newcomer after {len(seen)}")  # sorts before: shifts every page
        page = await office("GET", f"/people?limit=5&after={page['next']}")
    assert seen == names
    found = await office("GET", "/people?text=ON%201&limit=500")
    assert [one["username"] for one in found["items"]] == names[10:20]
    assert (await office("GET", "/people?text=%25"))["items"] == []
    assert len((await office("GET", "/people?kind=agent"))["items"]) == 11
    assert [one["username"] for one in (await office("GET", "/people?client=100"))["items"]] == [names[-1]]
    person = found["items"][0]["person"]
    assert [one["person"] for one in (await office("GET", f"/people?text={person}"))["items"]] == [person]
    assert (await office("GET", "/people?after=nonsense")).code == "bad_cursor"


async def test_a_change_says_which_version_it_saw(office: Office) -> None:
    person = await office.create("amina", clients=[1])
    path = f"/people/{person['person']}"
    assert (await office("PATCH", path, {"kind": "agent"})).code == "version_required"
    changed = await office("PATCH", path, {"kind": "agent"}, version=1)
    assert (changed["kind"], changed["version"]) == ("agent", 2)
    stale = await office("PUT", f"{path}/permissions", {"permissions": ["loans"]}, version=1)
    assert (stale.status, stale.code) == (412, "stale")
    assert (await office("PUT", f"{path}/permissions", {"permissions": ["loans"]}, version=2)).status == 200
    assert (await office("POST", f"{path}/clients", {"clients": [2]}, version="*")).status == 200
    assert (await office("PATCH", path, {"kind": "agent"}, version="x")).code == "bad_version"
    now = await office("GET", path)
    assert (now["permissions"], now["clients"], now["version"]) == (["loans"], [1, 2], 4)
    assert now.headers["ETag"] == '"4"'


async def test_links_and_permissions_are_changes_for_the_worker(office: Office, database: ServiceDatabase) -> None:
    person = await office.create("amina", clients=[1])
    path = f"/people/{person['person']}"
    await office("POST", f"{path}/clients", {"clients": [1]}, version="*")  # there already
    await office("POST", f"{path}/clients", {"clients": [1, 2]}, version="*")
    await office("DELETE", f"{path}/clients/1", version="*")
    missing = await office("DELETE", f"{path}/clients/1", version="*")
    assert (missing.status, missing.code) == (400, "not_linked")
    await office("PUT", f"{path}/permissions", {"permissions": ["profile"], "history_months": 12}, version="*")
    await office("PUT", f"{path}/permissions", {"permissions": ["profile"], "history_months": 12}, version="*")
    listed = await office("GET", f"{path}/changes")
    assert [(one["what"], one["state"]) for one in listed["items"]] == [
        ("permissions", "pending"),
        ("clients", "pending"),
        ("clients", "pending"),
        ("created", "pending"),
    ]
    with database.begin() as connection:
        assert len(changes(connection, "amina")) == 4


async def test_a_preview_tells_what_a_device_would_hold(office: Office, database: ServiceDatabase) -> None:
    agent = await office.create("agent", kind="agent", clients=[7, 8])
    documents = {
        7: ["client:7", "loan:70", "loan:70:schedule", "loan:70:transactions:2025", "loan:70:transactions:2026"],
        8: ["client:8", "savings:80", "savings:80:transactions:2025-12", "savings:80:transactions:2026-01"],
    }
    with database.begin() as connection:
        connection.execute(
            insert(tables.projected_document),
            [
                {
                    "person_id": agent["person"],
                    "document_id": document,
                    "client_id": client,
                    "digest": b"-",
                    "revision": "1-a",
                    "ancestors": [],
                    "deleted": document == "client:8",
                    "as_of": datetime(2026, 1, 1, tzinfo=UTC),
                }
                for client, ids in documents.items()
                for document in ids
            ],
        )
    # Somebody else, before any worker has seen them.
    amina = await office.create("amina", clients=[7, 9])
    path = f"/people/{amina['person']}/preview"
    seen = await office("GET", path)
    assert seen["ids"] == sorted(documents[7])
    assert seen["documents"] == {"client": 1, "loan": 1, "loan_schedule": 1, "loan_transactions": 2}
    assert seen["not_read_yet"] == [9]
    assert seen["pending_changes"] == 1
    tried = await office("POST", path, {"permissions": ["loans", "transactions"], "history_from": "2026-01-01"})
    assert tried["ids"] == ["loan:70", "loan:70:transactions:2026"]
    assert tried["since"] == "2026-01-01"
    other = await office("POST", path, {"clients": [8]})
    assert other["ids"] == [one for one in documents[8] if one != "client:8"]
    months = await office("POST", path, {"clients": [8], "history_months": 1})
    since = date.fromisoformat(months["since"])
    assert all(one.rsplit(":", 1)[1] >= f"{since:%Y-%m}" for one in months["ids"] if "transactions" in one)
    assert (await office("GET", f"/people/{amina['person']}"))["clients"] == [7, 9]


async def test_suspending_ends_sessions_and_restoring_lets_in_again(office: Office, api: Api, crowd: Crowd) -> None:
    amina = crowd.person("amina")
    token = await api.token("amina")
    assert (await office("POST", f"/people/{amina}/suspend", {})).status == 422  # no reason
    suspended = await office("POST", f"/people/{amina}/suspend", {"reason": "phone stolen"})
    assert suspended["state"] == "suspended"
    assert (await api.call("GET", "/me", token=token)).code == "suspended"
    assert [one["username"] for one in (await office("GET", "/people?state=suspended"))["items"]] == ["amina"]
    restored = await office("POST", f"/people/{amina}/restore", {"reason": "phone found"})
    assert restored["state"] == "active"
    await api.token("amina")


async def test_a_reset_password_must_be_changed_and_signs_everybody_out(
    office: Office, api: Api, crowd: Crowd
) -> None:
    amina = crowd.person("amina")
    before = await api.sign_in("amina")
    made = await api.call("POST", "/devices", {}, token=before["access_token"])
    answer = await office("POST", f"/people/{amina}/reset-password", {"reason": "forgotten", **READABLE})
    assert answer.status == 200
    assert (await api.call("GET", "/me", token=before["access_token"])).code == "session_ended"
    assert (await api.sign_in("amina")).status == 400
    assert (await api.sign_in("amina", answer["initial_password"]))["must_change_password"] is True
    listed = await office("GET", f"/people/{amina}/devices")
    assert [(one["device"], one["state"]) for one in listed["items"]] == [(made["device"], "active")]
    await office("POST", f"/people/{amina}/reset-password", {"revoke_devices": True})
    listed = await office("GET", f"/people/{amina}/devices")
    assert [one["state"] for one in listed["items"]] == ["revoked"]


async def test_devices_of_everybody_and_their_end(office: Office, api: Api, crowd: Crowd) -> None:
    made = []
    for name in ("amina", "baraka", "chausiku"):
        crowd.person(name)
        # Two sign-ins: what one of them registers ends together.
        for token in [await api.token(name) for _ in range(2)]:
            made.append((await api.call("POST", "/devices", {"name": name}, token=token))["device"])
    pages: list[str] = []
    page = await office("GET", "/devices?limit=4")
    pages += [one["device"] for one in page["items"]]
    page = await office("GET", f"/devices?limit=4&after={page['next']}")
    pages += [one["device"] for one in page["items"]]
    assert page["next"] is None
    assert sorted(pages) == sorted(made)
    gone = await office("POST", f"/devices/{made[0]}/revoke", {"reason": "lost"})
    assert gone["state"] == "revoked"
    assert (await office("GET", f"/devices/{made[0]}"))["state"] == "revoked"
    unknown = await office("POST", "/devices/revoke", {"devices": [made[1], "device-none"], "reason": "theft"})
    assert unknown.status == 404
    assert (await office("GET", f"/devices/{made[1]}"))["state"] == "active"
    many = await office("POST", "/devices/revoke", {"devices": made, "reason": "theft of a bag"})
    assert (many.status, many["revoked"]) == (200, 5)
    assert len((await office("GET", "/devices?state=revoked"))["items"]) == 6


async def test_administrators_are_made_by_owners_and_the_last_owner_stays(office: Office, api: Api) -> None:
    made = await office("POST", "/administrators", {"username": "sam", "role": "support", **READABLE})
    assert made.status == 201
    sam = made["administrator"]["administrator"]
    opened = await api.sign_in("sam", made["initial_password"], administrator=True)
    assert opened["must_change_password"] is True
    me = await api.call("GET", "/admin/me", token=opened["access_token"])
    assert (me["username"], me["role"]) == ("sam", "support")
    refused = await api.call("GET", "/admin/people", token=opened["access_token"])
    assert refused.code == "password_change_required"
    new = "eight grey cats on a wall"
    body = {"current": made["initial_password"], "new": new}
    assert (await api.call("POST", "/admin/password", body, token=opened["access_token"])).status == 200
    assert (await api.call("GET", "/admin/people", token=opened["access_token"])).status == 200
    olga = (await office("GET", "/me"))["administrator"]
    for change in ({"role": "support"}, {"state": "suspended"}):
        last = await office("PATCH", f"/administrators/{olga}", change, version="*")
        assert (last.status, last.code) == (409, "last_owner")
    promoted = await office("PATCH", f"/administrators/{sam}", {"role": "owner"}, version=2)
    assert promoted["role"] == "owner"
    assert (await office("PATCH", f"/administrators/{sam}", {"state": "suspended"}, version="*")).status == 200
    assert (await api.call("GET", "/admin/me", token=opened["access_token"])).code == "session_ended"
    assert (await api.sign_in("sam", new, administrator=True)).code == "suspended"
    own = await office("POST", f"/administrators/{olga}/reset-password", {})
    assert (own.status, own.code) == (409, "own_password")


async def test_the_audit_log_is_read_a_page_at_a_time(office: Office, database: ServiceDatabase) -> None:
    for number in range(7):
        await office.create(f"person {number}")
    page = await office("GET", "/audit?event=PersonCreated&limit=4")
    assert len(page["items"]) == 4
    rest = await office("GET", f"/audit?event=PersonCreated&limit=4&before={page['next']}")
    assert len(rest["items"]) == 3
    assert rest["next"] is None
    ids = [one["id"] for one in page["items"] + rest["items"]]
    assert ids == sorted(ids, reverse=True)
    assert all(one["actor_kind"] == "administrator" for one in page["items"])
    assert "person 3" not in str(page.body)
    head = (await office("GET", "/audit/head"))["anchor"]
    with database.begin() as connection:
        assert chain.verify(connection, anchors=[chain.Head.parse(head)]).ok
    assert (await office("GET", "/audit?since=2026-01-01T00:00:00")).status == 422  # no zone
    assert (await office("GET", "/audit?since=2999-01-01T00:00:00Z"))["items"] == []


async def test_each_side_serves_its_own_routes(service_url: str, crowd: Crowd) -> None:
    crowd.person("amina")
    crowd.administrator("olga", "owner")
    async with serving(service_url, parts=("people",)) as api:
        assert (await api.sign_in("amina")).status == 200
        assert (await api.sign_in("olga", administrator=True)).status == 404
        assert (await api.call("GET", "/admin/people")).status == 404
    async with serving(service_url, parts=("administration",)) as api:
        assert (await api.sign_in("amina")).status == 404
        assert (await api.sign_in("olga", administrator=True)).status == 200
