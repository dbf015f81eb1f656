"""Real `passbook gateway` processes, for tests with clients that nobody changed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gateway.conftest import Device, People, settled
from tests.support.couch import Couch
from tests.support.roles import as_process


@dataclass
class GatewayProcess:
    """A gateway as an operator starts it. `url` is what devices are given."""

    url: str
    log: Path

    @property
    def root(self) -> str:
        return self.url.removesuffix("/passbook")

    def said(self, event: str) -> list[dict[str, Any]]:
        """What it logged under this name so far."""
        lines = self.log.read_text(errors="replace").splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry.get("event") == event]

    def statuses(self, device: Device) -> list[int]:
        """How it answered a device; 499 is none: the device hung up, or was cut off."""
        entries = [entry for entry in self.said("request") if entry.get("device") == device.id]
        return [entry["status"] for entry in entries if entry["status"] != 499]


def environment(service_url: str, couch_url: str, directory: Path, **more: str) -> dict[str, str]:
    """Of a `passbook` command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PASSBOOK_")}
    return {
        **kept,
        "PASSBOOK_SERVICE_DB_URL": as_process(service_url, "gateway").replace("+psycopg", ""),
        "PASSBOOK_COUCHDB_URL": couch_url,
        "PASSBOOK_DATA_DIR": str(directory),
        "PASSBOOK_GATEWAY_ADMIN_PORT": "0",  # many of them on one machine
        "PASSBOOK_LOG_LEVEL": "info",
        "PASSBOOK_LOG_FORMAT": "json",
        **more,
    }


@contextlib.contextmanager
def gateway_process(service_url: str, couch_url: str, directory: Path, **more: str) -> Iterator[GatewayProcess]:
    """A gateway between these two, until this ends."""
    log = directory / "gateway.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "passbook", "gateway", "--port", "0"],
            env=environment(service_url, couch_url, directory, **more),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + log.read_text()
        yield GatewayProcess(found[0], log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.communicate()


async def device_of(gateway: GatewayProcess, couch: Couch, people: People) -> Device:
    """A device of somebody new, which knows this gateway."""
    couch.wrote = people.wrote
    made = await settled(couch, people)
    made.url = gateway.url
    return made
