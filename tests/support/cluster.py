"""A CouchDB cluster of a test's own: three real nodes, each to be killed and started again."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support import own_couchdb
from tests.support.own_couchdb import OwnCouchDB
from tests.support.processes import ask, eventually


@dataclass(frozen=True)
class Cluster:
    """Its nodes; the first is the one that is spoken to."""

    nodes: list[OwnCouchDB]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        return ask(self.url, path, method, body)

    def kill(self, number: int) -> None:
        """Kill a node, and wait until the first has noticed."""
        self.nodes[number].stop()
        there = {node.node for node in self.nodes if node is not self.nodes[number]}
        own_couchdb.eventually_members(self.nodes[0], there, of="all_nodes")

    def start(self, number: int) -> None:
        """Start a node that was killed, and wait until all see all."""
        self.nodes[number].start()
        for node in self.nodes:
            own_couchdb.eventually_members(node, {one.node for one in self.nodes}, of="all_nodes")

    def files(self, number: int, database: str) -> list[str]:
        """The files of a database that a node has, as paths below the first node's address."""
        node = self.nodes[number].node
        names = self.ask(f"/_node/{node}/_all_dbs")
        return [f"/_node/{node}/{quote(name, safe='')}" for name in names if f"/{database}." in name]


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """Three nodes that know one another."""
    with own_couchdb.epmd() as port, contextlib.ExitStack() as stack:
        cookie = secrets.token_hex(16)
        nodes = []
        for name in ("one", "two", "three"):
            node = OwnCouchDB(directory / name, port, name=name, alone=False, cookie=cookie)
            stack.callback(node.stop)
            node.start()
            nodes.append(node)
        for node in nodes[1:]:
            ask(nodes[0].url, f"/_node/_local/_nodes/{node.node}", "PUT", {})
        everybody = {node.node for node in nodes}
        for node in nodes:
            own_couchdb.eventually_members(node, everybody)
            own_couchdb.eventually_members(node, everybody, of="all_nodes")
        found = Cluster(nodes)
        # Nodes that have only just met lose a write now and then: until one has arrived everywhere.
        found.ask("/warm?q=1", "PUT")
        eventually(lambda: all(found.files(number, "warm") for number in range(3)), "every node has its copy")
        found.ask("/warm", "DELETE")
        yield found
