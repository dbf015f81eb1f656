"""Users of embedded servers, gone at the end of each test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.processes import User, eventually, servers


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], User]]:
    """Starts users of the servers of one data directory; at the end nothing may be left of them."""
    users = []

    def starter(kind: str) -> User:
        users.append(User(kind, tmp_path))
        return users[-1]

    yield starter
    for user in users:
        if user.process.poll() is None:
            user.kill()
        for stream in (user.process.stdin, user.process.stdout):
            if stream is not None:
                stream.close()
    try:
        eventually(lambda: not servers(tmp_path), "nothing is left running")
    finally:
        for process in servers(tmp_path):
            with contextlib.suppress(psutil.Error):
                process.kill()
