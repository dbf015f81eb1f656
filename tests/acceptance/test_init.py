"""`passbook init` as an operator sees it: what it did, and what it found out about the servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from passbook import couch_advice
from tests.support import own_couchdb
from tests.support.databases import Postgres
from tests.support.killing import passbook
from tests.support.own_couchdb import OwnCouchDB
from tests.support.processes import ask
from tests.support.stage import Stage


async def test_what_is_printed_for_people_and_for_machines(stage: Stage, pg: Postgres) -> None:
    with pg.database() as empty:
        settings = {**stage.environment, "PASSBOOK_SERVICE_DB_URL": empty.replace("+psycopg", "")}
        status, output, errors = await passbook("init", "--administrator", "olga", environment=settings)
        assert status == 0, errors
        lines = output.splitlines()
        assert "{" not in output
        (administrator,) = [line for line in lines if line.startswith("administrator ")]
        assert administrator.split() == ["administrator", "olga", "(owner)"]
        (password,) = [line for line in lines if line.startswith("initial password ")]
        assert len(password.split()[-1]) >= 12
        assert any(line.startswith("ok       ledger: PostgreSQL at ") for line in lines)
        # The tests' login owns everything.
        (warning,) = [number for number, line in enumerate(lines) if line.startswith("warning  ledger's login")]
        assert lines[warning + 1].startswith("           Use one that may read what Passbook reads")
        status, output, errors = await passbook("init", "--json", environment=settings)
        assert status == 0, errors
        said = json.loads(output)
        assert said["administrator"] == "there"
        assert all(one.keys() == {"ok", "what", "found", "remedy"} for one in said["findings"])
        assert [one["ok"] for one in said["findings"] if one["what"] == "ledger's login"] == [False]
        # A ledger that is not there yet stops nobody.
        away = {**settings, "PASSBOOK_LEDGER_URL": "mysql://passbook:hush-hush@127.0.0.1:1/fineract_default"}
        status, output, errors = await passbook("init", environment=away)
        assert status == 0, errors
        assert "warning  ledger: The ledger at 127.0.0.1:1/fineract_default does not answer." in output
        assert "hush-hush" not in output + errors


@pytest.mark.skipif(not own_couchdb.installed(), reason="needs an installed CouchDB (PASSBOOK_TEST_COUCHDB_HOME)")
def test_how_couchdb_is_configured(tmp_path: Path) -> None:
    with own_couchdb.own(tmp_path / "couchdb") as node:

        def told() -> dict[str, Any]:
            looked = couch_advice.look(node.url, connect_seconds=5, worker_connections=16)
            return {one.what: one for one in looked}

        assert [one for one in told().values() if not one.ok] == []
        configured(node, "cluster/q", "8")
        configured(node, "couchdb/max_dbs_open", "100")
        found = told()
        assert [name for name, one in found.items() if not one.ok] == [
            "CouchDB's shards (q)",
            "CouchDB's open databases (max_dbs_open)",
        ]
        needed = 8 * 116
        assert f"may use {needed}" in found["CouchDB's open databases (max_dbs_open)"].found
        configured(node, "couchdb/max_dbs_open", str(needed))
        assert told()["CouchDB's open databases (max_dbs_open)"].ok


def configured(node: OwnCouchDB, setting: str, value: str) -> None:
    ask(node.url, f"/_node/_local/_config/{setting}", "PUT", value)


@pytest.mark.parametrize(
    ("copies", "nodes", "ok"),
    [(1, 1, True), (3, 1, True), (3, 3, True), (1, 3, False), (2, 3, False), (3, 5, True)],
)
def test_copies_on_a_cluster(copies: int, nodes: int, ok: bool) -> None:
    assert couch_advice._copies(copies, nodes).ok is ok


def test_nodes_that_differ_and_one_that_is_away() -> None:
    assert not couch_advice._nodes(["a"], ["b@couch.example"]).ok
    assert "b@couch.example" in couch_advice._nodes(["a"], ["b@couch.example"]).found
