"""A CouchDB of a test's own, with the configuration it comes with: to be configured, restarted and thrown away.

From the installation in PASSBOOK_TEST_COUCHDB_HOME, or where its packages put it; nothing of the installation's own
configuration or data is used.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import ask, eventually

HOME = Path(os.environ.get("PASSBOOK_TEST_COUCHDB_HOME", "/opt/couchdb"))
HOST = "127.0.0.1"
UP_WITHIN = 60.0
PASSWORD = "own"


def installed() -> bool:
    """Whether there is an installation to start from."""
    return (HOME / "bin" / "couchdb").exists() and (HOME / "etc" / "default.ini").exists()


@dataclass
class OwnCouchDB:
    """One node. `configured` are lines of its local.ini, beyond what it takes to run."""

    directory: Path
    epmd: int
    name: str = "passbook"
    configured: str = ""
    alone: bool = True
    #: The same for all nodes of a cluster, as for the cookies of HTTP.
    cookie: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bare(self) -> str:
        """Its address without credentials."""
        return f"http://{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://admin:{PASSWORD}@{HOST}:{self.port}"

    @property
    def node(self) -> str:
        return f"{self.name}@{HOST}"

    @property
    def ini(self) -> Path:
        return self.directory / "local.ini"

    def start(self) -> None:
        """Start and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        data = self.directory / "data"
        arguments = self.directory / "vm.args"
        arguments.write_text(
            f"-name {self.node}\n-setcookie {self.cookie}\n-start_epmd false\n"
            f"-kernel inet_dist_use_interface {{{HOST.replace('.', ',')}}}\n"
            "-kernel error_logger silent\n-kernel prevent_overlapping_partitions false\n"
            "-sasl sasl_error_logger false\n-noinput\n+Bd\n+S 2\n"
        )
        if not self.ini.exists():
            self.ini.write_text(
                f"[couchdb]\nsingle_node = {str(self.alone).lower()}\n"
                f"database_dir = {data}\nview_index_dir = {data}\n"
                f"[smoosh]\nstate_dir = {data}\n"
                f"[chttpd]\nport = {self.port}\nbind_address = {HOST}\n"
                f"[log]\nwriter = file\nfile = {self.directory / 'couchdb.log'}\nlevel = warning\n"
                f"[chttpd_auth]\nsecret = {self.cookie}\n[chttpd_auth_lockout]\nmode = off\n"
                f"[admins]\nadmin = {PASSWORD}\n{self.configured}"
            )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ERL_", "COUCHDB_"))}
        self.process = subprocess.Popen(
            [str(HOME / "bin" / "couchdb")],
            cwd=HOME,
            env={
                **kept,
                "HOME": str(self.directory),
                "ERL_EPMD_PORT": str(self.epmd),
                "ERL_CRASH_DUMP": str(self.directory / "crash.dump"),
                "COUCHDB_ARGS_FILE": str(arguments),
                "COUCHDB_INI_FILES": f"{HOME / 'etc' / 'default.ini'} {self.ini}",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + UP_WITHIN
        while (ask(self.url, "/_up") or {}).get("status") != "ok":
            assert self.process.poll() is None, f"CouchDB ended with {self.process.returncode}"
            assert time.monotonic() < end, f"CouchDB does not answer within {UP_WITHIN} s"
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill it: nothing of it is wanted any more."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def epmd() -> Iterator[int]:
    """Erlang's port mapper, on a port of its own: the usual one would be started by a node, and stay behind."""
    port = free_port()
    (program,) = HOME.glob("erts-*/bin/epmd")
    process = subprocess.Popen([str(program), "-port", str(port), "-address", HOST])
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def own(directory: Path, configured: str = "") -> Iterator[OwnCouchDB]:
    """A node that runs for as long as this is open."""
    with epmd() as port:
        node = OwnCouchDB(directory, port, configured=configured)
        try:
            node.start()
            yield node
        finally:
            node.stop()


def eventually_members(node: OwnCouchDB, members: set[str], of: str = "cluster_nodes") -> None:
    """Wait until the node sees these nodes."""
    eventually(lambda: set((ask(node.url, "/_membership") or {}).get(of, ())) == members, f"{of} {members}")


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])
