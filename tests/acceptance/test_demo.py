"""`passbook demo`: tells its story, ends cleanly, starts again with its data, and says what is in its way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from passbook.embedded import node
from sample_institution.demo.memory import remembered
from tests.support.killing import passbook

ROOT = Path(__file__).parents[2]


def _environment(directory: Path, **settings: int) -> dict[str, str]:
    """Settings of a demo in `directory`, on ports that are free just now."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(2)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        gateway, auth = (str(probe.getsockname()[1]) for probe in sockets)
    ports = {"PASSBOOK_GATEWAY_PORT": gateway, "PASSBOOK_AUTH_PORT": auth, "PASSBOOK_GATEWAY_ADMIN_PORT": "0"}
    return {"PASSBOOK_DATA_DIR": str(directory), **ports, **{name: str(value) for name, value in settings.items()}}


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


def _passwords(told: str) -> dict[str, str]:
    """The passwords in the demo's table, by login."""
    return dict(re.findall(r"│ (\S+) +│ (?:customer|agent|administrator) +│ +\S+ +│ (\w+) +│", told))


async def test_the_story_is_told_twice_and_nothing_is_left(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    environment = _environment(directory)
    status, output, errors = await passbook("demo", "--once", environment=environment)
    assert status == 0, errors
    assert "asha signs in (POST /oauth/token) and registers a phone (POST /devices)" in output
    assert re.search(r"loan:\d+", output)
    assert re.search(r"on the phone [\d.]+ s after it was in the ledger", output)
    assert "agent-baraka carries 30 clients" in output
    assert re.search(
        r"away from the agent: pending …\n… done after [\d.]+ s: ([1-9]\d*) documents taken back", output
    )
    assert re.search(r"([1-9]\d*) documents leave it, ([1-9]\d*) stay", output)
    assert re.search(r"revokes the phone while it listens: cut off after [\d.]+ s", output)
    assert "next sync is refused: 401 revoked" in output
    assert not _left_over(directory)
    passwords = _passwords(output)
    assert passwords.keys() == {"asha", "agent-baraka", "admin"}
    assert (directory / "demo.json").stat().st_mode & 0o077 == 0

    # What a visitor did meanwhile is no obstacle.
    for command in (
        ("person", "suspend", "asha"),
        ("person", "permit", "asha", "--deny", "loans"),
        ("person", "reset-password", "agent-baraka"),
        ("administrator", "reset-password", "admin"),
    ):
        status, _, errors = await passbook(*command, environment=environment)
        assert status == 0, (command, errors)
    status, again, errors = await passbook("demo", "--once", environment=environment)
    assert status == 0, errors
    assert _passwords(again) == passwords, "the second start keeps its logins"
    assert "agent-baraka carries 30 clients" in again
    assert not _left_over(directory)


def test_what_an_older_release_remembered_is_still_good(tmp_path: Path) -> None:
    customer = {"username": "asha", "kind": "customer", "clients": [1], "password": "abcdefgh2345jk", "device": {}}
    agent = {**customer, "username": "agent-baraka", "kind": "agent"}
    (tmp_path / "demo.json").write_text(json.dumps({"customer": customer, "agent": agent}))
    memory = remembered(tmp_path)
    assert memory
    assert (memory.customer.password, memory.administrator.username) == ("abcdefgh2345jk", "admin")


@pytest.mark.parametrize("variable", ["PASSBOOK_GATEWAY_PORT", "PASSBOOK_AUTH_PORT"])
async def test_a_busy_port_gets_a_clear_message(tmp_path: Path, variable: str) -> None:
    directory = tmp_path / "demo"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, errors = await passbook(
            "demo", "--once", environment=_environment(directory, **{variable: port})
        )
    assert status == 3
    assert str(port) in errors
    assert variable in errors
    assert "Traceback" not in errors
    assert not _left_over(directory)


@contextlib.asynccontextmanager
async def _telling(environment: dict[str, str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A demo that goes on running, and the story it has told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "passbook",
        "demo",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    told = b""
    try:
        async with asyncio.timeout(90):
            while b"Ctrl-C ends it" not in told:
                line = await process.stdout.readline()
                assert line, (told, await process.stderr.read() if process.stderr else b"")
                told += line
        yield process, told.decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _tour() -> list[str]:
    """The lines of the README's tour, as they are written there."""
    readme = (ROOT / "README.md").read_text()
    tour = readme[readme.index("## Five minutes with it") : readme.index("## With your own servers")]
    return [line for block in tour.split("```")[1::2] for line in block.strip().splitlines()]


#: What a line of the tour prints, by a word in it; or `↓`: what the demo says when it has reached the phone.
_TOLD = {
    "person list": "agent-baraka",
    "move deposit": "↓ savings:",
    "--deny": "↓ taken back",
    "--grant": "↓ and .* more documents",
    "person changes": r"permissions\s+(?:done|pending)",
    "verify": " 0 findings",
    "/authentication": '"must_change_password":false,"authenticated":true,"me":{"person":"[^"]+","username":"asha"',
    "echo PASSWORD": r"signed in and registered device-\w+\n\d+ documents in .passbook/my-phone",
    "device revoke": "is revoked",
    "my-phone       #": "revoked: ",
}


async def _said(process: asyncio.subprocess.Process, told: str) -> None:
    assert process.stdout
    async with asyncio.timeout(60):
        while not re.search(told, line := (await process.stdout.readline()).decode()):
            assert line, f"the demo ended without {told!r}"


async def _typed(line: str, folder: Path, environment: dict[str, str]) -> str:
    """What a shell in `folder` prints for the line."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        line,
        cwd=folder,
        env={**node.find().environment, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode()


def _folder(folder: Path) -> Path:
    """A folder in which the tour's lines can be typed: with `.venv`, `clients` and a place for `.passbook`."""
    program = folder / ".venv" / "bin" / "passbook"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m passbook "$@"\n')
    program.chmod(0o755)
    (folder / "clients").symlink_to(ROOT / "clients")
    return folder


async def test_the_tour_works_as_it_is_written_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    directory = _folder(tmp_path) / ".passbook"
    environment = _environment(directory)
    tour = _tour()
    assert len(tour) >= 10
    async with _telling(environment) as (process, story):
        # What is not written there: the password, the device, and that our ports are others.
        others = {"PASSWORD": _passwords(story)["asha"], "8720": environment["PASSBOOK_AUTH_PORT"]}
        for line in tour:
            told = next(told for part, told in _TOLD.items() if part in line)
            typed = re.sub("|".join(others), lambda found: others[found[0]], line)
            output = await _typed(typed, tmp_path, environment)
            if told.startswith("↓"):
                # The worker looks once a second: wait until the phone has what the line did, as a person would.
                await _said(process, told)
            else:
                assert re.search(told, output), (typed, output)
            if registered := re.search(r"device-\w+", output):
                others["DEVICE"] = registered[0]
        process.send_signal(signal.SIGINT)
        ended, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"Stopped" in ended
    assert b"Traceback" not in errors
    assert not _left_over(directory)


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGKILL])
async def test_however_it_ends_nothing_is_left_behind(tmp_path: Path, sign: signal.Signals) -> None:
    directory = tmp_path / "demo"
    async with _telling(_environment(directory)) as (process, _):
        process.send_signal(sign)
        await process.communicate()
    async with asyncio.timeout(30):
        while left := _left_over(directory):
            assert left
            await asyncio.sleep(0.1)
