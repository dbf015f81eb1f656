"""The copies that CouchDB keeps of one database, each asked by itself.

A cluster answers from the first of its nodes that does. Whether something is gone is another question: it must be
gone from every copy, so each node is asked about its own. The embedded server has one copy, the database itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
import structlog

from passbook import patience
from passbook.couch import CouchClient, DatabaseMissing
from passbook.errors import Unavailable

_EMBEDDED = "embedded"

log = structlog.get_logger()


@dataclass(frozen=True)
class Membership:
    """The nodes of a cluster: those that answer now, and those that do not."""

    there: tuple[str, ...]
    away: tuple[str, ...]
    #: Nodes that are connected and no members, as the one that is asked knows it: it may be one made anew.
    strangers: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every node can be reached."""
        return not self.away


@dataclass(frozen=True)
class Copy:
    """One copy of (a part of) a database, on `node`, at the address `path` below CouchDB's."""

    node: str
    path: str


@dataclass(frozen=True)
class Progress:
    """How far a copy is: its newest sequence, up to which one it is compacted, and whether that goes on."""

    sequence: int
    compacted: int
    compacting: bool


class _Nodes(msgspec.Struct):
    all_nodes: list[str]
    cluster_nodes: list[str]


class _Placement(msgspec.Struct):
    shard_suffix: list[int]
    by_node: dict[str, list[str]]


class _Value(msgspec.Struct):
    rev: str


class _Row(msgspec.Struct):
    key: str
    value: _Value | None = None


class _Rows(msgspec.Struct):
    rows: list[_Row]


class _Info(msgspec.Struct):
    update_seq: int
    compacted_seq: int
    compact_running: bool


async def membership(couch: CouchClient) -> Membership:
    """Who belongs to the cluster, and who answers. A server that knows no nodes is one by itself."""
    status, body = await couch.ask("GET", "/_membership", expect=(200, 404))
    if status == 404:
        return Membership((_EMBEDDED,), ())
    nodes = msgspec.json.decode(body, type=_Nodes)
    members = nodes.cluster_nodes or nodes.all_nodes
    there = set(nodes.all_nodes)
    if len(members) > 1:
        there = set(await asyncio.gather(*(_answering(couch, node) for node in members if node in there)))
    return Membership(
        tuple(node for node in members if node in there),
        tuple(node for node in members if node not in there),
        tuple(node for node in nodes.all_nodes if node not in members),
    )


async def _answering(couch: CouchClient, node: str) -> str:
    """The node's name if it answers in time; other nodes take a minute or more to notice one that hangs."""
    try:
        await couch.ask("GET", f"/_node/{node}/_config/chttpd", expect=(200,), within=patience.NODE_SECONDS)
    except Unavailable:
        log.warning("couchdb_node_does_not_answer", node=node, seconds=patience.NODE_SECONDS)
        return ""
    return node


async def lost(couch: CouchClient, name: str, *, beside: str | None = None) -> bool:
    """Whether database `name` is there no more, as far as every node knows.

    A node that was made anew answers that there is no such database until the others have told it which there are.
    To make one again then would set its files aside on every node. False, too, while a node is away, and where
    database `beside`, which should be there, is not known either: before it has met the others, such a node takes
    itself for a server by itself.
    """
    nodes = await membership(couch)
    if nodes.there == (_EMBEDDED,):
        return True
    if not nodes.whole:
        return False
    for node in nodes.there + nodes.strangers:
        if await _knows(couch, node, name) is not False:
            return False
        if beside is not None and not await _knows(couch, node, beside):
            return False
    return True


async def _knows(couch: CouchClient, node: str, name: str) -> bool | None:
    """Whether a node knows a database; None if it does not say."""
    path = f"/_node/{node}/_dbs/{quote(name, safe='')}"
    try:
        status, _ = await couch.ask("GET", path, expect=(200, 404), within=patience.NODE_SECONDS)
    except Unavailable:
        return None
    return status == 200


async def copies(couch: CouchClient, name: str, nodes: Membership) -> list[Copy]:
    """The copies of database `name` on the nodes that are there. Raises `DatabaseMissing`."""
    if nodes.there == (_EMBEDDED,):
        return [Copy(_EMBEDDED, f"/{name}")]
    status, body = await couch.ask("GET", f"/_node/_local/_dbs/{quote(name, safe='')}", expect=(200, 404))
    if status == 404:
        raise DatabaseMissing(name)
    placed = msgspec.json.decode(body, type=_Placement)
    suffix = bytes(placed.shard_suffix).decode()
    return [
        _at(node, f"shards/{part}/{name}{suffix}")
        for node, parts in sorted(placed.by_node.items())
        if node in nodes.there
        for part in parts
    ]


async def leftovers(couch: CouchClient, names: Collection[str], nodes: Membership) -> dict[str, list[Copy]]:
    """Files of databases with these names on any node that is there, whatever the cluster knows of them.

    A node that was away when a database was deleted keeps its file for good. One request to each node.
    """
    found: dict[str, list[Copy]] = {}
    if nodes.there == (_EMBEDDED,):
        return found
    for node in nodes.there:
        _, body = await couch.ask("GET", f"/_node/{node}/_all_dbs")
        for file in msgspec.json.decode(body, type=list[str]):
            # shards/00000000-ffffffff/NAME.1700000000
            name = file.rpartition("/")[2].rpartition(".")[0]
            if file.startswith("shards/") and name in names:
                found.setdefault(name, []).append(_at(node, file))
    return found


async def delete(couch: CouchClient, copy: Copy) -> None:
    """Delete one copy, and no other."""
    await couch.ask("DELETE", copy.path, expect=(200, 202, 404), reading=False)


async def progress(couch: CouchClient, copy: Copy) -> Progress:
    """How far a copy is with compaction."""
    status, body = await couch.ask("GET", copy.path, expect=(200, 404))
    if status == 404:
        raise DatabaseMissing(copy.path)
    info = msgspec.json.decode(body, type=_Info)
    return Progress(info.update_seq, info.compacted_seq, info.compact_running)


async def compact(couch: CouchClient, copy: Copy) -> None:
    """Begin to throw away the bodies of old revisions in one copy."""
    status, _ = await couch.ask("POST", f"{copy.path}/_compact", b"{}", expect=(200, 202, 404), reading=False)
    if status == 404:
        raise DatabaseMissing(copy.path)


async def revisions(couch: CouchClient, copy: Copy, ids: Sequence[str]) -> Mapping[str, str]:
    """The winning revision of each document that the copy has, tombstones included."""
    body = msgspec.json.encode({"keys": list(ids)})
    status, answer = await couch.ask("POST", f"{copy.path}/_all_docs", body, expect=(200, 404))
    if status == 404:
        raise DatabaseMissing(copy.path)
    rows = msgspec.json.decode(answer, type=_Rows).rows
    return {row.key: row.value.rev for row in rows if row.value is not None}


async def readable(couch: CouchClient, copy: Copy, document: str, revision: str) -> bool:
    """Whether the body of one revision of a document can be read in this copy."""
    path = f"{copy.path}/{quote(document, safe='')}?rev={quote(revision)}"
    status, _ = await couch.ask("GET", path, expect=(200, 404))
    return status == 200


def _at(node: str, file: str) -> Copy:
    return Copy(node, f"/_node/{node}/{quote(file, safe='')}")
