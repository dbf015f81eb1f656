"""The embedded CouchDB-speaking server: PouchDB over LevelDB, in Node, for the demo and for tests.

It has no users: whoever knows its secret may do everything, so only the gateway and the worker talk to it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import resource
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from passbook.data_directory import data_directory, kept_private
from passbook.embedded import node
from passbook.embedded.lifecycle import Service, last_lines
from passbook.errors import Unavailable
from passbook.settings import Settings

HEALTHY_WITHIN = 30.0  # seconds from the start until the server must answer
USER = "passbook"
OPEN_DATABASES = 200  # most databases open at a time
DESCRIPTORS_PER_DATABASE = 6  # of an open LevelDB: lock, log, manifest, journal, a few tables
DESCRIPTORS_SPARE = 200  # for connections and Node itself
SOURCES = Path(__file__).parent / "couch_server"

log = structlog.get_logger()


@dataclass(frozen=True)
class CouchAddress:
    """Where the server is. `url` carries the credentials; `port` alone does not."""

    port: int
    secret: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{USER}:{self.secret}@127.0.0.1:{self.port}"


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[CouchAddress]:
    """The embedded server of `settings.data_dir`, healthy; it stays for as long as this is open."""
    directory = kept_private(data_directory(settings.data_dir) / "couchdb")
    found = node.find()
    program = node.installable(SOURCES, directory / "server")
    node.ensure_packages(program, found)
    service = Service(
        "embedded CouchDB server",
        directory,
        "child",
        ["--", found.node, str(program / "server.js")],
        environment=lambda: _environment(directory),
    )
    with service.used():
        yield _healthy(directory)


def _environment(directory: Path) -> dict[str, str]:
    """For the server: the same secret and port as the last time, if there was one."""
    known = _address(directory)
    return {
        "PASSBOOK_EMBEDDED_DIRECTORY": str(directory),
        "PASSBOOK_EMBEDDED_SECRET": known.secret if known else secrets.token_urlsafe(32),
        "PASSBOOK_EMBEDDED_PORT": str(known.port if known else 0),
        "PASSBOOK_EMBEDDED_OPEN_DATABASES": str(_open_databases()),
        "NODE_ENV": "production",
    }


def _open_databases() -> int:
    """How many databases the server may hold open at a time, by the limit on file descriptors.

    The soft limit is raised to the hard one in the server alone, by Node itself, which does so at its start.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return OPEN_DATABASES
    fitting = max(8, (hard - DESCRIPTORS_SPARE) // DESCRIPTORS_PER_DATABASE)
    if fitting < OPEN_DATABASES:
        log.warning(
            "few_file_descriptors",
            limit=hard,
            databases_open_at_a_time=fitting,
            remedy=f"Raise the hard limit of open files (ulimit -Hn) to "
            f"{OPEN_DATABASES * DESCRIPTORS_PER_DATABASE + DESCRIPTORS_SPARE}, or use a CouchDB.",
        )
    return min(OPEN_DATABASES, fitting)


def _address(directory: Path) -> CouchAddress | None:
    try:
        known = json.loads((directory / "address.json").read_text())
        return CouchAddress(int(known["port"]), str(known["secret"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _healthy(directory: Path) -> CouchAddress:
    end = time.monotonic() + HEALTHY_WITHIN
    pause = 0.01
    while True:
        address = _address(directory)
        if address is not None and _answers(address):
            return address
        if time.monotonic() > end:
            raise Unavailable(
                f"The embedded CouchDB server did not answer within {HEALTHY_WITHIN:g} s. "
                f"Its log ends with:\n{last_lines(directory / 'server.log')}",
                remedy=f"The whole log: {directory / 'server.log'}",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def _answers(address: CouchAddress) -> bool:
    credentials = base64.b64encode(f"{USER}:{address.secret}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=5)
    try:
        connection.request("GET", "/", headers={"Authorization": f"Basic {credentials}"})
        response = connection.getresponse()
        # By now the port may belong to another program, which may answer everything.
        return response.status == http.HTTPStatus.OK and b"Passbook embedded server" in response.read(1000)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
