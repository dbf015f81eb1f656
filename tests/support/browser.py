"""A real browser without a window, driven over the DevTools protocol: to evaluate scripts in a page of ours."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")
STARTED_WITHIN = 60.0
LONGEST_MESSAGE = 64 * 1024 * 1024

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # it will not run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--remote-debugging-port=0",
)


def found() -> str | None:
    """The browser's program, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A page that has been opened."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None

    async def open(self, url: str) -> None:
        """Go there and wait until it has loaded."""
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        await self._call("Page.enable")
        await self._call("Page.navigate", url=url)
        async with asyncio.timeout(STARTED_WITHIN):
            while not await self.evaluate(  # noqa: ASYNC110 - the page tells nobody
                f"location.href.startsWith({url!r}) && document.readyState === 'complete'"
            ):
                await asyncio.sleep(0.05)

    async def evaluate(self, script: str, within: float = 30.0) -> Any:
        """The value of an expression, or of the promise that it is. Raises `AssertionError` for an exception."""
        async with asyncio.timeout(within):
            answer = await self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str, within: float = 15.0) -> Any:
        """The first value of the expression that counts as true."""
        end = time.monotonic() + within
        while True:
            value = await self.evaluate(condition)
            if value:
                return value
            assert time.monotonic() < end, f"not within {within} s: {condition}"
            await asyncio.sleep(0.05)

    async def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        session = {} if self._session is None else {"sessionId": self._session}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **session})
        async for message in self._socket:
            said = message.json()
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]
        raise AssertionError("the browser is gone")


@contextlib.asynccontextmanager
async def browser(directory: Path) -> AsyncIterator[Page]:
    """A browser with a fresh profile in `directory`, with one page."""
    program = found()
    assert program is not None
    directory.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        program,
        *_ARGUMENTS,
        f"--user-data-dir={directory}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
    )
    assert process.stderr is not None
    draining: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(STARTED_WITHIN):
            said = b""
            while not (address := re.search(rb"DevTools listening on (ws://\S+)", said)):
                line = await process.stderr.readline()
                assert line, f"the browser ended: {said.decode(errors='replace')}"
                said += line
        draining = asyncio.create_task(process.stderr.read())  # or it would stop when the pipe is full
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(address[1].decode(), max_msg_size=LONGEST_MESSAGE) as socket,
        ):
            yield Page(socket)
            with contextlib.suppress(AssertionError, ConnectionError, TimeoutError):
                async with asyncio.timeout(5):
                    await Page(socket)._call("Browser.close")
    finally:
        if process.returncode is None:
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
        if draining is not None:
            await draining
