"""The process that keeps one embedded server for as long as anybody uses it. Standard library only.

It is started detached, by the first user, while that one holds the gate (see `lifecycle`), and locks
`keeper.lock` for its lifetime. Then it waits until nobody holds `users.lock` any more: the kernel releases
the lock of a process that is killed, so there is nothing stale to clean up.

    keeper.py child DIRECTORY -- COMMAND …   keeps a child process and starts it again if it dies. The child
                                             ends when its standard input does, so it cannot outlive its keeper.
    keeper.py postmaster DIRECTORY PGDATA    stops the PostgreSQL server of that data directory at the end
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, NoReturn

RESTART_FIRST = 0.2  # seconds before a child that died is started again; doubles up to RESTART_MOST
RESTART_MOST = 5.0
STEADY = 30.0  # a child that ran this long is taken to be well, and the pause starts small again
PORT_BUSY_STATUS = 98  # how the child says that its port is taken
PORT_PATIENCE = 3.0  # how long to insist on the old port, which users hold, before taking another
CLOSE_WITHIN = 8.0  # seconds a server has for closing before it is killed
FAST, IMMEDIATE = (
    signal.SIGINT,
    signal.SIGQUIT,
)  # PostgreSQL's two ways to shut down without waiting for clients


def say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} keeper: {text}", flush=True)


class Child:
    """A server that prints {"port": …} when it listens; its address is published in `address.json`."""

    def __init__(self, directory: Path, command: list[str]) -> None:
        self.directory = directory
        self.command = command
        self.secret = os.environ["PASSBOOK_EMBEDDED_SECRET"]
        self.port = int(os.environ.get("PASSBOOK_EMBEDDED_PORT", "0"))
        self.stopping = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.guard = threading.Lock()
        self.thread = threading.Thread(target=self._supervise)

    def start(self) -> None:
        self.thread.start()

    def _supervise(self) -> None:
        pause = RESTART_FIRST
        port_wanted_until = time.monotonic() + PORT_PATIENCE
        while True:
            with self.guard:
                if self.stopping.is_set():
                    return
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PASSBOOK_EMBEDDED_PORT": str(self.port)},
                )
            started = time.monotonic()
            line = self.process.stdout.readline() if self.process.stdout else b""
            if line:
                self._publish(json.loads(line)["port"])
            status = self.process.wait()
            if self.stopping.is_set():
                return
            now = time.monotonic()
            if status == PORT_BUSY_STATUS and not line:
                # Most likely its predecessor, which is still closing.
                if now > port_wanted_until:
                    say(f"port {self.port} is taken by another program, taking another")
                    self.port = 0
                self.stopping.wait(RESTART_FIRST)
                continue
            port_wanted_until = now + PORT_PATIENCE
            if now - started > STEADY:
                pause = RESTART_FIRST
            say(f"the server ended with status {status}, starting it again in {pause:g} s")
            if self.stopping.wait(pause):
                return
            pause = min(pause * 2, RESTART_MOST)

    def _publish(self, port: int) -> None:
        self.port = port
        temporary = self.directory / f"address.{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"port": port, "secret": self.secret}, file)
        temporary.replace(self.directory / "address.json")
        say(f"the server listens on port {port}")

    def stop(self) -> None:
        with self.guard:
            self.stopping.set()
            process = self.process
        if process is not None:
            if process.stdin:
                process.stdin.close()
            with contextlib.suppress(OSError):
                process.terminate()
            try:
                process.wait(CLOSE_WITHIN)
            except subprocess.TimeoutExpired:
                say("the server does not close, killing it")
                process.kill()
        self.thread.join()


class Postmaster:
    """A PostgreSQL server that the users start; this only stops it."""

    def __init__(self, pgdata: Path) -> None:
        self.pgdata = pgdata

    def start(self) -> None:
        """Nothing: the first user starts the server."""

    def stop(self) -> None:
        for sign, patience in ((FAST, CLOSE_WITHIN), (IMMEDIATE, CLOSE_WITHIN)):
            pid = postmaster_pid(self.pgdata)
            if pid is None:
                return
            say(f"stopping PostgreSQL, process {pid}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
            end = time.monotonic() + patience
            while time.monotonic() < end:
                if postmaster_pid(self.pgdata) is None:
                    return
                time.sleep(0.02)


def postmaster_pid(pgdata: Path) -> int | None:
    """The process id of the PostgreSQL server that runs on `pgdata`, or None.

    `postmaster.pid` survives a crash, and the number in it may belong to some other process by now.
    """
    try:
        pid = int((pgdata / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if works_in(pid, pgdata) else None


def works_in(pid: int, pgdata: Path) -> bool:
    """Whether that process is one of the server's, which all have the data directory as working directory."""
    import psutil  # comes with the embedded PostgreSQL

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).samefile(pgdata)
    except (OSError, psutil.Error):
        return False


def keep(server: Child | Postmaster, directory: Path, ready: IO[bytes]) -> NoReturn:
    """Hold the server until nobody uses it."""
    with (
        open(directory / "keeper.lock", "ab") as own,
        open(directory / "users.lock", "ab") as users,
        open(directory / "gate.lock", "ab") as gate,
    ):
        fcntl.flock(own, fcntl.LOCK_EX)
        ready.write(b".")
        ready.close()
        server.start()
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)  # waits for the last one to leave
            fcntl.flock(users, fcntl.LOCK_UN)
            # Somebody may have come in between; with the gate closed nobody can.
            fcntl.flock(gate, fcntl.LOCK_EX)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(gate, fcntl.LOCK_UN)
                continue
            # The last one to leave waits for us, and takes a held lock for a newcomer.
            fcntl.flock(users, fcntl.LOCK_UN)
            server.stop()
            os._exit(0)  # at once, so that the locks are released by the end of the process and not before


def detach(log: Path) -> IO[bytes]:
    """Become a daemon; returns the pipe on which the starter waits for one byte."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with open(reading, "rb") as pipe:
            os._exit(0 if pipe.read(1) else 1)
    os.close(reading)
    os.setsid()
    os.umask(0o077)  # what it makes is for its own user alone
    os.chdir("/")  # or the folder of the first user could not be removed or unmounted
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)
    os.close(output)
    return open(writing, "wb", buffering=0)


def main(arguments: list[str]) -> None:
    kind, directory = arguments[0], Path(arguments[1])
    ready = detach(directory / ("server.log" if kind == "child" else "keeper.log"))
    server: Child | Postmaster
    if kind == "child":
        server = Child(directory, arguments[arguments.index("--") + 1 :])
    else:
        server = Postmaster(Path(arguments[2]))
    keep(server, directory, ready)


if __name__ == "__main__":
    main(sys.argv[1:])
