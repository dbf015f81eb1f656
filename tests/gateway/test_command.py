"""`passbook gateway` as an operator runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from passbook.credentials import secret_digest
from passbook.embedded import postgres
from passbook.settings import Settings
from tests.gateway.conftest import NOW, basic
from tests.support.processes import servers

PROGRAM = "import sys; from passbook.cli import main; sys.exit(main())"


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PASSBOOK_")}
    return {**kept, "PASSBOOK_DATA_DIR": str(data_dir), "PASSBOOK_GATEWAY_ADMIN_PORT": "0", **more}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "gateway", "--port", "0"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    if found is None:
        process.kill()
        raise AssertionError(line + process.communicate()[1])
    yield process, found[0]
    if process.poll() is None:
        process.kill()
        process.communicate()


async def test_serves_with_everything_embedded_and_stops(
    gateway: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    import aiohttp

    process, url = gateway
    with (
        postgres.running(Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path)})) as address,
        psycopg.connect(address.url("passbook").replace("+psycopg", "")) as connection,
    ):
        connection.execute(
            "INSERT INTO person (id, username, kind, password_hash, permissions, database_name) "
            "VALUES ('p', 'p', 'customer', '-', '{}', 'p1')"
        )
        connection.execute(
            "INSERT INTO device (id, person_id, secret_digest, installation, expires_at, ends_at) "
            "VALUES ('d', 'p', %s, '', %s + interval '1 h', %s + interval '1 day')",
            (secret_digest("s"), NOW, NOW),
        )
        connection.commit()
        root = url.removesuffix("/passbook")
        async with aiohttp.ClientSession() as http:
            async with http.get(root, headers={"Authorization": basic("d", "s")}) as response:
                assert (await response.json())["couchdb"] == "Welcome"
            async with http.get(root) as response:
                assert response.status == 401
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert servers(tmp_path) == []


def test_busy_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "gateway"],
            env=environment(tmp_path, PASSBOOK_GATEWAY_PORT=str(port)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert str(port) in done.stderr
    assert "PASSBOOK_GATEWAY_PORT" in done.stderr
    assert servers(tmp_path) == []
