"""The processes of the demo: auth service, gateway and worker, just as an operator would start them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from passbook.errors import EXIT_UNAVAILABLE, PassbookError, PortBusy, Refused, Unavailable
from passbook.settings import Settings

_PR_SET_PDEATHSIG = 1
_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0

#: In the demo everything is embedded: the operator's own servers are not touched, whatever the settings say.
_NOT_INHERITED = re.compile(
    r"PASSBOOK_(?:(?:LEDGER|SERVICE_DB|COUCHDB)_(?:URL|USER|PASSWORD)|IMAGE_DIR|AUTH_SECRET)(?:_FILE)?"
)


def environment(settings: Settings) -> dict[str, str]:
    """The environment of every child."""
    inherited = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.fullmatch(name)}
    return {
        "PASSBOOK_GATEWAY_ADMIN_PORT": "0",  # nobody watches a demo, and two may run
        **inherited,
        "PASSBOOK_DATA_DIR": str(settings.data_dir.absolute()),
        "PASSBOOK_PUBLIC_URL": settings.public_url,
        "PASSBOOK_WORKER_INTERVAL_SECONDS": "1",
    }


async def command(arguments: Sequence[str], env: Mapping[str, str]) -> Any:
    """Run `passbook ARGUMENTS --json` and return what it printed. Its error is raised as ours."""
    process = await asyncio.create_subprocess_exec(
        *_passbook(),
        *arguments,
        "--json",
        env=dict(env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, problem = await process.communicate()
    if process.returncode:
        raise _error(process.returncode, problem.decode())
    return json.loads(output)


class Child:
    """A long-running `passbook` command."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    def said(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def check(self) -> None:
        """Raise what ended the child, if it ended."""
        if self.process.returncode is not None:
            raise _error(self.process.returncode or EXIT_UNAVAILABLE, self.said())

    async def stop(self) -> None:
        """Ask it to end, and see that it does."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), _STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@contextlib.asynccontextmanager
async def running(
    arguments: Sequence[str], env: Mapping[str, str], log: Path, *, ready: str
) -> AsyncIterator[Child]:
    """`passbook ARGUMENTS` in the background until the block ends; begins when its log says `ready`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches the demo alone, which then ends its children in order.
        process = await asyncio.create_subprocess_exec(
            *_passbook(),
            *arguments,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    child = Child(process, log)
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while ready not in child.said():
                child.check()
                await asyncio.sleep(0.05)
        yield child
    except TimeoutError:
        raise Unavailable(f"`passbook {' '.join(arguments)}` does not get ready.", remedy=f"See {log}.") from None
    finally:
        await child.stop()


def _end_with_parent() -> None:
    """On Linux: be told to stop when the demo dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _passbook() -> tuple[str, ...]:
    return (sys.executable, "-m", "passbook")


def _error(status: int, said: str) -> PassbookError:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    told = next((i for i, line in enumerate(lines) if line.startswith("passbook: ")), max(len(lines) - 1, 0))
    message = lines[told].removeprefix("passbook: ") if lines else "A part of the demo ended without a word."
    remedy = " ".join(line.strip() for line in lines[told + 1 :])
    if "port" in message.lower():
        return PortBusy(message, remedy=remedy)
    return (Unavailable if status == EXIT_UNAVAILABLE else Refused)(message, remedy=remedy)
