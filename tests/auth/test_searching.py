"""Finding people, over HTTP and at the keyboard: filters, pages, and an answer that says what was sought."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from passbook.database import database_url
from passbook.servicedb import tables
from tests.auth.running import passbook
from tests.support.api import Api, Crowd

NOW = datetime.now(UTC)
NOTHING = dict.fromkeys(("text", "kind", "state", "client", "device", "not_synchronised_since"))


def add_device(connection: sa.Connection, person: str, name: str, seen: datetime | None, **more: Any) -> None:
    row = {
        "id": name,
        "person_id": person,
        "secret_digest": b"-",
        "installation": name.encode(),
        "expires_at": NOW + timedelta(days=30),
        "ends_at": NOW + timedelta(days=30),
        "last_synchronised_at": seen,
    }
    connection.execute(tables.device.insert().values(row | more))


@pytest.fixture
def engine(service_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(database_url(service_url))
    yield made
    made.dispose()


async def test_administrators_search_by_device_and_by_when_it_synchronised(
    api: Api, crowd: Crowd, engine: sa.Engine
) -> None:
    crowd.administrator("olga", "owner")
    token = await api.token("olga", administrator=True)
    ids = {name: crowd.person(name) for name in ("amina", "baraka", "chausiku", "dalila")}
    weeks = NOW - timedelta(weeks=3)
    with engine.begin() as connection:
        add_device(connection, ids["amina"], "device-1", weeks)
        add_device(connection, ids["amina"], "device-2", NOW)
        add_device(connection, ids["baraka"], "device-3", weeks)
        add_device(connection, ids["chausiku"], "device-4", None, revoked_at=NOW)

    async def found(query: str) -> tuple[list[str], dict[str, Any]]:
        answer = await api.call("GET", f"/admin/people?{query}", token=token)
        assert answer.status == 200, answer.body
        return [one["username"] for one in answer["items"]], answer["sought"]

    assert await found("device=device-3&limit=1") == (["baraka"], NOTHING | {"device": "device-3"})
    assert await found("device=device-9") == ([], NOTHING | {"device": "device-9"})
    quiet = f"{NOW - timedelta(weeks=1):%Y-%m-%dT%H:%M:%SZ}"
    names, sought = await found(f"not_synchronised_since={quiet}&state=active&kind=customer")
    assert names == ["baraka", "chausiku", "dalila"]
    assert sought == NOTHING | {"kind": "customer", "state": "active", "not_synchronised_since": quiet}
    assert await found("") == ([*ids], NOTHING)
    assert (
        await api.call("GET", "/admin/people?not_synchronised_since=2026-01-01T00:00:00", token=token)
    ).status == 422
    answer = await api.call("GET", "/admin/people", token=token)
    seen = [one["last_synchronised_at"] for one in answer["items"]]
    assert datetime.fromisoformat(seen[0]) == NOW
    assert datetime.fromisoformat(seen[1]) == weeks
    assert seen[2:] == [None, None]


def test_people_are_listed_at_the_keyboard(service_url: str, engine: sa.Engine, tmp_path: Path) -> None:
    names = [f"person {number:02}" for number in range(12)]
    table = tmp_path / "people.csv"
    table.write_text(
        "username,kind,clients\n"
        + "".join(
            f"{name},{'agent' if number % 3 else 'customer'},{100 + number}\n" for number, name in enumerate(names)
        )
    )

    def run(*arguments: str, **settings: str) -> Any:
        done = passbook(service_url, tmp_path, "person", *arguments, **settings)
        assert done.returncode == 0, done.stderr
        return done

    def listed(*arguments: str) -> Any:
        return json.loads(run("list", *arguments, "--json").stdout)

    run("import", str(table))
    run("suspend", "person 03")
    everybody = listed()
    assert [one["username"] for one in everybody] == names  # a list, as ever
    assert everybody[0]["last_synchronised_at"] is None
    with engine.begin() as connection:
        add_device(connection, everybody[5]["person"], "device-5", NOW - timedelta(days=5))
        add_device(connection, everybody[6]["person"], "device-6", NOW)
    for arguments, expected in (
        (("--state", "suspended"), ["person 03"]),
        (("--kind", "customer"), names[::3]),
        (("--text", "ON 1"), names[10:]),
        (("--client", "104"), ["person 04"]),
        (("--client", "104", "--kind", "customer"), []),
        (("--device", "device-6"), ["person 06"]),
        (("--not-synchronised-since", f"{NOW - timedelta(days=2):%Y-%m-%d}"), names[:6] + names[7:]),
        (("--all",), names),
    ):
        assert [one["username"] for one in listed(*arguments)] == expected, arguments
    # Pages.
    seen, cursor = [], None
    while True:
        page = listed("--kind", "agent", "--limit", "3", *(("--after", cursor) if cursor else ()))
        assert page["sought"] == {"kind": "agent"}
        seen += [one["username"] for one in page["items"]]
        assert len(page["items"]) <= 3
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [name for number, name in enumerate(names) if number % 3]
    # For people: the table is on standard output alone.
    done = run("list", "--state", "active", "--limit", "2")
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["username", *names[:2]]
    assert "2 shown; searched for: state active" in done.stderr
    cursor = done.stderr.split("--after ")[1].split(",")[0]
    done = run("list", "--state", "active", "--limit", "2", "--after", cursor)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()[1:]] == ["person 02", "person 04"]
    assert run("list").stderr == ""
    # In the institution's time zone: in Nairobi a day begins three hours early.
    since = f"{NOW - timedelta(days=5) + timedelta(hours=3, minutes=-1):%Y-%m-%dT%H:%M:%S}"
    done = run("list", "--not-synchronised-since", since, "--json", PASSBOOK_TENANT_TIMEZONE="Africa/Nairobi")
    assert "person 05" not in done.stdout
    done = run("list", "--not-synchronised-since", since, "--json", PASSBOOK_TENANT_TIMEZONE="UTC")
    assert "person 05" in done.stdout
    for arguments in (("--state", "gone"), ("--kind", "x"), ("--all", "--limit", "2"), ("--after", "nonsense")):
        done = passbook(service_url, tmp_path, "person", "list", *arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr
