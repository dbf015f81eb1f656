"""The bounds on connections by themselves, in a process with next to no files."""

from __future__ import annotations

import json
import subprocess
import sys

#: Promises more connections than there are files for, and takes 200: how often it asked the system for one, what it
#: logged, and whether one that comes after all have gone is served.
PROGRAM = r"""
import asyncio, json, resource, socket
import structlog
from passbook.listening import BoundedConnection, Bounds, Listener, bound

told, tried = [], 0
structlog.configure(processors=[lambda logger, name, event: told.append(event["event"]) or ""])

class Echo(BoundedConnection):
    def __init__(self, listener):
        self._listener = listener

    def asks_nothing(self):
        return False

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"hello")

class Counted(Listener):
    def _accept(self, listening):
        global tried
        tried += 1
        super()._accept(listening)

async def main():
    listener = Counted(Bounds(1000, 60, 60), refusal=b"full")
    sockets = bound("127.0.0.1", 0, what="The test", remedy="")
    address = sockets[0].getsockname()
    # The other ends are a process of their own.
    listener.start(sockets, lambda: Echo(listener))
    other = await asyncio.create_subprocess_exec(
        __import__("sys").executable, "-c",
        "import socket, sys\n"
        f"them = [socket.create_connection({address!r}) for _ in range(200)]\n"
        "print(flush=True)\nsys.stdin.read()",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    await other.stdout.readline()
    while not told:
        await asyncio.sleep(0.05)
    before = tried
    await asyncio.sleep(2)
    full, tries = listener.connections, tried - before
    await other.communicate(b"")
    while listener.connections:
        await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection(*address[:2])
    hello = await reader.readexactly(5)
    writer.close()
    print(json.dumps({"full": full, "tries": tries, "told": told, "hello": hello.decode()}))

asyncio.run(main())
"""


def test_T36_without_files_nothing_turns_in_circles() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert 30 < said["full"] < 64
    assert said["tries"] <= 5  # in two seconds
    assert said["told"] == ["connections_not_taken"]
    assert said["hello"] == "hello"
    assert "Too many open files" not in done.stderr
