"""Processes that use an embedded server, to be started, looked at and killed by tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

WITHIN = 30.0

PROGRAM = """
import json, sys
from passbook.embedded import couchdb, postgres
from passbook.settings import Settings
settings = Settings.load({"PASSBOOK_DATA_DIR": sys.argv[2]})
with {"couchdb": couchdb, "postgres": postgres}[sys.argv[1]].running(settings) as address:
    print(json.dumps(address.url if sys.argv[1] == "couchdb" else address.url("passbook")), flush=True)
    sys.stdin.read()
"""


def eventually(condition: Callable[[], Any], what: str, within: float = WITHIN) -> Any:
    """The first true result of `condition`."""
    end = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.02)


class User:
    """Another process that uses an embedded server until told to leave."""

    def __init__(self, kind: str, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, kind, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def url(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the user ended instead of printing the address"
        return str(json.loads(line))

    def leave(self) -> int:
        self.process.communicate("")
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def servers(directory: Path, word: str = "") -> list[psutil.Process]:
    """Every process that has to do with `directory`: keepers, Node, PostgreSQL and its children."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            command = process.cmdline()
            about = any(str(directory) in part for part in command) and PROGRAM not in command
            inside = str(directory) in process.cwd()
            ours = process.name() == "node" and str(directory) in process.environ().get(
                "PASSBOOK_EMBEDDED_DIRECTORY", ""
            )
            if (about or inside or ours) and (not word or any(word in part for part in command)):
                found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # some end with the one killed before
            process.send_signal(signal.SIGKILL)


def ask(url: str, path: str = "/", method: str = "GET", body: Any = None) -> Any:
    """The JSON answer of the CouchDB-speaking server, or None while it does not answer."""
    from base64 import b64encode
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    credentials = b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    request = urllib.request.Request(
        f"http://{parts.hostname}:{parts.port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return json.loads(error.read())
    except OSError:
        return None
