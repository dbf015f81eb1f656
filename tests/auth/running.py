"""Processes of Passbook as an operator runs them, with everything they print kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import aiohttp

from tests.support.api import METRICS_TOKEN, SECRET, Api
from tests.support.processes import eventually


class Running:
    """A process that serves until it is told to stop; `files` is how many it may open, as `ulimit -n` says it."""

    def __init__(
        self, directory: Path, environment: Mapping[str, str], *arguments: str, files: int | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.said = directory / f"{'-'.join(arguments[:1])}.out"
        self.logged = self.said.with_suffix(".err")
        with self.said.open("wb") as out, self.logged.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "passbook", *arguments],
                env=clean(environment),
                stdout=out,
                stderr=err,
                preexec_fn=None if files is None else partial(_limit_files, files),
            )

    @property
    def url(self) -> str:
        """Where it listens, once it does."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self.logged.read_text()
            return re.search(r"(http://[\d.]+:\d+)\S*\n", self.said.read_text())

        return str(eventually(found, f"{self.said.stem} listens")[1])

    def stop(self) -> None:
        """Tell it to stop; it must do so in order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.logged.read_text()

    def end(self) -> None:
        """See to it that it is gone, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _limit_files(files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with the settings of Passbook that are given and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PASSBOOK_")}
    return {**kept, **environment}


def settings_for(service_url: str, directory: Path) -> dict[str, str]:
    """Settings with this service database, and with no CouchDB and no ledger that answers."""
    return {
        "PASSBOOK_SERVICE_DB_URL": service_url.replace("+psycopg", ""),
        "PASSBOOK_COUCHDB_URL": "http://nobody:nothing@127.0.0.1:9",
        "PASSBOOK_LEDGER_URL": "postgresql://127.0.0.1:9/nothing",
        "PASSBOOK_DATA_DIR": str(directory),
        "PASSBOOK_AUTH_SECRET": SECRET,
        "PASSBOOK_METRICS_TOKEN": METRICS_TOKEN,
    }


def passbook(
    service_url: str, directory: Path, *arguments: str, given: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """A command, run to its end."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "passbook", *arguments],
        env=clean(settings_for(service_url, directory) | settings),
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextlib.asynccontextmanager
async def auth(
    directory: Path, service_url: str, settings: Mapping[str, str] | None = None, *arguments: str
) -> AsyncIterator[Api]:
    """`passbook auth` on this service database, and a client of it."""
    environment = settings_for(service_url, directory) | dict(settings or {})
    process = Running(directory, environment, "auth", "--port", "0", *arguments)
    try:
        url = await asyncio.to_thread(lambda: process.url)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Api(url, session)
        await asyncio.to_thread(process.stop)
    finally:
        process.end()
