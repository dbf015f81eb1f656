"""`passbook demo`: tells its story, ends cleanly, starts again with its data, and says what is in its way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.support.killing import passbook


def _environment(directory: Path, port: int) -> dict[str, str]:
    return {
        "PASSBOOK_DATA_DIR": str(directory),
        "PASSBOOK_GATEWAY_PORT": str(port),
        "PASSBOOK_GATEWAY_ADMIN_PORT": "0",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _left_over(directory: Path) -> list[str]:
    """Processes that still have something to do with this directory."""
    found = []
    for process in psutil.process_iter():
        try:
            text = " ".join([*process.cmdline(), process.environ().get("PASSBOOK_DATA_DIR", "")])
        except psutil.Error:
            continue
        if str(directory) in text and process.pid != os.getpid():
            found.append(text)
    return found


async def test_the_story_is_told_twice_and_nothing_is_left(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    environment = _environment(directory, _free_port())
    status, output, errors = await passbook("demo", "--once", environment=environment)
    assert status == 0, errors
    assert "asha" in output
    assert "agent-baraka" in output
    assert "carries 30 clients" in output
    assert re.search(r"loan:\d+", output)
    assert re.search(r"on the phone [\d.]+ s after it was in the ledger", output)
    assert not _left_over(directory)
    password = re.search(r"asha\W+customer\W+1\W+(\w+)", output)
    assert password

    status, again, errors = await passbook("demo", "--once", environment=environment)
    assert status == 0, errors
    assert password[1] in again, "the second start keeps its people"
    assert not _left_over(directory)


async def test_a_busy_port_gets_a_clear_message(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, errors = await passbook("demo", "--once", environment=_environment(directory, port))
    assert status == 3
    assert str(port) in errors
    assert "PASSBOOK_GATEWAY_PORT" in errors
    assert "Traceback" not in errors
    assert not _left_over(directory)


@contextlib.asynccontextmanager
async def _telling(directory: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A demo that has told its story and goes on running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "passbook",
        "demo",
        env={**os.environ, **_environment(directory, port)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    told = b""
    async with asyncio.timeout(90):
        while b"Ctrl-C ends it" not in told:
            line = await process.stdout.readline()
            assert line, (told, await process.stderr.read() if process.stderr else b"")
            told += line
    yield process
    if process.returncode is None:
        process.kill()
    await process.communicate()


def _tour() -> list[list[str]]:
    """The commands of the README's tour that stand by themselves, as they are written there."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    lines = [line.split("#")[0].split() for line in readme.splitlines() if line.startswith(".venv/bin/passbook ")]
    return [words[1:] for words in lines if not any(word.isupper() for word in words)]


#: What the demo says when a command of the tour has reached the phone.
_TOLD = {
    "move deposit": "↓ savings:",
    "--deny": "taken back",
    "--grant": "more documents",
}


async def _said(process: asyncio.subprocess.Process, told: str) -> None:
    assert process.stdout
    async with asyncio.timeout(60):
        while told not in (line := (await process.stdout.readline()).decode()):
            assert line, f"the demo ended without {told!r}"


async def test_the_tour_works_as_it_is_written_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    directory, port = tmp_path / "demo", _free_port()
    tour = _tour()
    assert len(tour) >= 6
    async with _telling(directory, port) as process:
        for command in tour:
            status, output, errors = await passbook(*command, environment=_environment(directory, port))
            assert status == 0, (command, output, errors)
            assert output
            # The worker looks once a second: wait until the phone has what the command did, as a person would.
            words = " ".join(command)
            for part, told in _TOLD.items():
                if part in words:
                    await _said(process, told)
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"Stopped" in output
    assert b"Traceback" not in errors
    assert not _left_over(directory)


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGKILL])
async def test_however_it_ends_nothing_is_left_behind(tmp_path: Path, sign: signal.Signals) -> None:
    directory = tmp_path / "demo"
    async with _telling(directory, _free_port()) as process:
        process.send_signal(sign)
        await process.communicate()
    async with asyncio.timeout(30):
        while left := _left_over(directory):
            assert left
            await asyncio.sleep(0.1)
