"""The embedded PostgreSQL starts, is shared, survives kills and stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from passbook.embedded import keeper, postgres
from passbook.errors import Unavailable
from passbook.settings import Settings
from tests.support.processes import User, eventually, kill, servers

Start = Callable[[str], User]


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def answers(url: str) -> bool:
    try:
        return run(url, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False


def test_starts_makes_databases_and_stops(tmp_path: Path) -> None:
    settings = Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path / "a folder with spaces")})
    for _ in range(2):
        with postgres.running(settings) as address:
            for name in ("passbook", "ledger"):
                assert run(address.url(name), "SELECT current_database()") == [(name,)]
        assert servers(tmp_path) == []


def test_shared_and_stopped_by_the_last(start: Start, tmp_path: Path) -> None:
    users = [start("postgres") for _ in range(5)]
    urls = {user.url for user in users}
    assert len(urls) == 1
    url = urls.pop()
    for user in users[:-1]:
        assert user.leave() == 0
    assert answers(url)
    assert users[-1].leave() == 0
    assert servers(tmp_path) == []


def test_users_killed(start: Start, tmp_path: Path) -> None:
    first, second = start("postgres"), start("postgres")
    url = first.url
    assert second.url == url
    first.kill()
    assert answers(url)
    second.kill()
    eventually(lambda: not servers(tmp_path), "PostgreSQL stops when the last user is killed")


def test_keeper_killed_is_replaced(start: Start, tmp_path: Path) -> None:
    user = start("postgres")
    url = user.url
    (old,) = servers(tmp_path, "keeper.py")
    kill([old])
    eventually(lambda: [p for p in servers(tmp_path, "keeper.py") if p.pid != old.pid], "a new keeper")
    assert answers(url)
    user.leave()
    assert servers(tmp_path) == []


def test_last_user_leaves_right_after_the_keeper_was_killed(start: Start, tmp_path: Path) -> None:
    user = start("postgres")
    assert answers(user.url)
    kill(servers(tmp_path, "keeper.py"))
    user.leave()
    assert servers(tmp_path) == []


def test_postmaster_killed_is_started_again(start: Start, tmp_path: Path) -> None:
    user = start("postgres")
    url = user.url
    run(url, "CREATE TABLE kept AS SELECT 7 AS seven")
    kill([p for p in servers(tmp_path, "-D") if p.pid == keeper.postmaster_pid(tmp_path / "postgres" / "data")])
    eventually(lambda: answers(url), "PostgreSQL answers again")
    assert run(url, "SELECT seven FROM kept") == [(7,)]


def test_everything_killed_at_once(start: Start, tmp_path: Path) -> None:
    first = start("postgres")
    run(first.url, "CREATE TABLE kept AS SELECT 7 AS seven")
    kill(servers(tmp_path))
    first.kill()
    second = start("postgres")
    assert run(second.url, "SELECT seven FROM kept") == [(7,)]


def test_killed_while_the_data_directory_is_made(start: Start, tmp_path: Path) -> None:
    first = start("postgres")
    eventually(lambda: (tmp_path / "postgres" / "data.new" / "PG_VERSION").exists(), "initdb is at work")
    first.kill()
    kill_all = servers(tmp_path)
    if kill_all:
        kill(kill_all)
    assert answers(start("postgres").url)


def test_very_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 20) / ("name" * 20)
    with postgres.running(Settings.load({"PASSBOOK_DATA_DIR": str(deep)})) as address:
        assert answers(address.url("passbook"))
        assert len(address.socket_directory) < 90
        assert Path(address.socket_directory).stat().st_mode & 0o077 == 0


def test_a_server_that_cannot_start_is_explained(tmp_path: Path) -> None:
    settings = Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path)})
    with postgres.running(settings):
        pass
    configuration = tmp_path / "postgres" / "data" / "postgresql.conf"
    configuration.write_text(configuration.read_text() + "\nno_such_setting = 1\n")
    with pytest.raises(Unavailable, match="no_such_setting"), postgres.running(settings):
        pass
    assert servers(tmp_path) == []
