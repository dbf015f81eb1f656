"""How CouchDB is configured for what Passbook asks of it: many small databases, few of them in use at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from passbook.couch_configuration import Server
from passbook.findings import Finding

#: Connections to CouchDB that a gateway has at most.
_OF_A_GATEWAY = 100
#: What CouchDB has where nothing is configured.
_USUAL = {("cluster", "n"): 3, ("cluster", "q"): 2, ("couchdb", "max_dbs_open"): 500}
_COPIES = 3
_SHARDS = 4
#: Files beside those of databases: connections, logs, its programs.
_FILES_ASIDE = 4_096


def look(couchdb_url: str, *, connect_seconds: float, worker_connections: int) -> list[Finding]:
    """Copies, shards, open databases and files of each node. Raises `Unavailable`, and `Refused` without an
    administrator's credentials."""
    return asyncio.run(_look(couchdb_url, connect_seconds, worker_connections))


async def _look(couchdb_url: str, connect_seconds: float, worker_connections: int) -> list[Finding]:
    async with Server(couchdb_url, connect_seconds) as server:
        reached, away = await server.nodes()
        nodes = {node: await server.configuration(node) for node in reached}
        files = {node: await server.open_files(node) for node in reached}
    found = [_nodes(reached, away)]
    for key in _USUAL:
        values = {node: _value(configuration, key) for node, configuration in nodes.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{value} on {node}" for node, value in sorted(values.items()))
            found.append(Finding(f"CouchDB's {key[1]}", told, f"Configure [{key[0]}] {key[1]} alike on all nodes."))
    some = next(iter(nodes.values()))
    shards, most = _value(some, ("cluster", "q")), _value(some, ("couchdb", "max_dbs_open"))
    found.append(_copies(_value(some, ("cluster", "n")), len(reached) + len(away)))
    found.append(_shards(shards))
    found.append(_open_databases(most, shards * (_OF_A_GATEWAY + worker_connections)))
    open_now = ", ".join(str(files[node]) for node in reached)
    limit = 2 * most + _FILES_ASIDE
    found.append(
        Finding(
            "CouchDB's files",
            f"{open_now} of databases open now; CouchDB does not tell its limit: give its user `ulimit -n` {limit}",
        )
    )
    return found


def _value(configuration: Mapping[str, Mapping[str, str]], key: tuple[str, str]) -> int:
    section, name = key
    try:
        return int(configuration.get(section, {})[name])
    except (KeyError, ValueError):
        return _USUAL[key]


def _nodes(reached: list[str], away: list[str]) -> Finding:
    if away:
        return Finding(
            "CouchDB's nodes",
            f"{', '.join(away)} away",
            "Bring it back, or take it out of the cluster for good: DELETE /_node/_local/_nodes/NAME.",
        )
    return Finding("CouchDB's nodes", f"{len(reached)}, all there")


def _copies(copies: int, nodes: int) -> Finding:
    what, there = "CouchDB's copies (n)", min(copies, nodes)
    if there < min(_COPIES, nodes):
        return Finding(
            what,
            f"{there} of each database on {nodes} nodes",
            f"Set [cluster] n = {_COPIES} on every node before there are people: each keeps what it was made with.",
        )
    return Finding(what, f"{there} of each database" + (", as there is one node" if nodes == 1 else ""))


def _shards(shards: int) -> Finding:
    what = "CouchDB's shards (q)"
    if shards > _SHARDS:
        return Finding(
            what,
            f"{shards} for each database",
            "A person's database is small, and each shard is a file and a process: set [cluster] q = 2 or 1 before "
            "there are people.",
        )
    return Finding(what, f"{shards} for each database")


def _open_databases(most: int, needed: int) -> Finding:
    what = "CouchDB's open databases (max_dbs_open)"
    if most < needed:
        return Finding(
            what,
            f"{most} at a time; one gateway and one worker may use {needed}",
            f"Set [couchdb] max_dbs_open = {needed} or more on every node, or requests fail with `all_dbs_active`.",
        )
    return Finding(what, f"{most} at a time; one gateway and one worker use {needed} at most")
