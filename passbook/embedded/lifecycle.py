"""Who uses an embedded server, and who starts and stops it, decided by locks that the kernel keeps.

Three files in the server's directory, locked with `flock`:

    users.lock    shared by everybody who uses the server
    keeper.lock   exclusive by the keeper, the process that holds the server (see `keeper`)
    gate.lock     exclusive for a moment, by whoever starts the server, leaves it or is about to stop it

Nobody else on the machine can open them: whoever holds a lock decides whether a server starts and stops. A killed
process loses its locks, so nothing is ever stale. Every user also watches the keeper from a thread:
should it be killed, one of them starts another.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import structlog

from passbook.embedded import keeper
from passbook.errors import Unavailable

WATCH_EVERY = 0.25  # seconds between two looks at the keeper
LEAVE_WITHIN = 20.0  # seconds the last user waits for the server to be gone
LOG_LINES = 12  # lines of a server's log that an error repeats

log = structlog.get_logger()


_MODE = 0o600  # of a lock: one that others may read they may also hold


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, _MODE)


class Lock:
    """One `flock` on one file; every instance counts on its own, also within one process."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", opener=_private)  # noqa: SIM115 - lives as long as the lock
        os.fchmod(self._file.fileno(), _MODE)  # an earlier release made it for everybody

    def shared(self, *, wait: bool = True) -> bool:
        return self._lock(fcntl.LOCK_SH, wait)

    def exclusive(self, *, wait: bool = True) -> bool:
        return self._lock(fcntl.LOCK_EX, wait)

    def release(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        self._file.close()

    def _lock(self, how: int, wait: bool) -> bool:
        try:
            fcntl.flock(self._file, how | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Service:
    """The embedded server of one directory, which is there and private.

    `keeper_arguments` are what the keeper gets after its directory; `environment` is asked for when a keeper
    is started. For a server that the users start rather than the keeper, `ensure` starts it unless it runs
    (called with the gate closed), and `alive` tells whether it runs.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        kind: str,
        keeper_arguments: list[str],
        *,
        environment: Callable[[], Mapping[str, str]] = dict,
        ensure: Callable[[], None] | None = None,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.directory = directory
        self._kind = kind
        self._arguments = keeper_arguments
        self._environment = environment
        self._ensure = ensure
        self._alive = alive

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Be a user of the server: it is started if needed and stays until this ends."""
        with Lock(self.directory / "users.lock") as users:
            try:
                with Lock(self.directory / "gate.lock") as gate:
                    gate.exclusive()
                    users.shared()
                    self._start()
            except BaseException:
                self._leave(users)
                raise
            leaving = threading.Event()
            watcher = threading.Thread(
                target=self._watch, args=(leaving,), name=f"passbook-{self.name}-watch", daemon=True
            )
            watcher.start()
            try:
                yield
            finally:
                leaving.set()
                watcher.join()
                self._leave(users)

    def _start(self) -> None:
        """Start keeper and server, unless they run. The gate is held."""
        if not self._kept():
            self._start_keeper()
        if self._ensure is not None:
            self._ensure()

    def _start_keeper(self) -> None:
        command = [
            sys.executable,
            "-P",
            keeper.__file__,
            self._kind,
            str(self.directory),
            *self._arguments,
        ]
        # Our settings hold secrets, which are none of the server's business.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PASSBOOK_")}
        # It finds what we find, however we were started.
        path = os.pathsep.join(part for part in sys.path if part)
        environment = {**inherited, **self._environment(), "PYTHONPATH": path}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"The {self.name} could not be started: {done.stderr.strip()[-2000:]}")

    def _kept(self) -> bool:
        # Shared, so that two who look at the same moment do not take each other for the keeper.
        with Lock(self.directory / "keeper.lock") as lock:
            return not lock.shared(wait=False)

    def _watch(self, leaving: threading.Event) -> None:
        while not leaving.wait(WATCH_EVERY):
            try:
                if self._kept() and self._alive():
                    continue
                with Lock(self.directory / "gate.lock") as gate:
                    if not gate.exclusive(wait=False):
                        continue  # another user is at it
                    if not (self._kept() and self._alive()):
                        log.warning("embedded_server_restarted", server=self.name)
                        self._start()
            except Exception as error:
                log.warning("embedded_server_restart_failed", server=self.name, error=str(error))
                leaving.wait(1.0)

    def _leave(self, users: Lock) -> None:
        """Be a user no longer; the last one waits until the server is gone.

        The keeper stops it. One that was killed a moment ago still looks alive until the kernel has buried it, so
        what is left of the server is looked at again when the keeper is gone.
        """
        end = time.monotonic() + LEAVE_WITHIN
        while time.monotonic() < end:
            with Lock(self.directory / "gate.lock") as gate:
                gate.exclusive()
                # Succeeds for the last one only; flock gives up the shared lock either way.
                last = users.exclusive(wait=False)
                users.release()
                if not last:
                    return
                if not self._kept():
                    if self._ensure is None or not self._alive():
                        return
                    self._start_keeper()  # nobody else would stop the server
            if not self._keeper_gone(users, end):
                return

    def _keeper_gone(self, users: Lock, end: float) -> bool:
        """Wait for the keeper to end. False if somebody else came to stay, and the server with them."""
        taken = 0
        while self._kept():
            # A lock that is held for a moment is the keeper's own look.
            taken = 0 if users.exclusive(wait=False) else taken + 1
            users.release()
            if taken > 3 or time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


def last_lines(path: Path) -> str:
    """The end of a log, for an error message."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""
