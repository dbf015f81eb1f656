"""Other users of the machine can neither read the embedded servers' data nor hold their locks."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from passbook.embedded import couchdb, postgres
from passbook.errors import Refused
from passbook.settings import Settings
from tests.support.processes import User

Start = Callable[[str], User]
SERVERS = {"postgres": postgres, "couchdb": couchdb}
LOCKS = ("users.lock", "keeper.lock", "gate.lock")
NOBODY = 65534

#: Holds every lock it can, says how many, and goes on holding them until told to end. It starts as root, since the
#: interpreter may be where only root gets to, and then is somebody else.
HOLD = f"""
import fcntl, os, sys
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
held = []
for path in sys.argv[1:]:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.append(descriptor)  # somebody has it now; it is ours when they leave
    except OSError:
        continue
    else:
        held.append(descriptor)
print(len(held), flush=True)
sys.stdin.read()
"""


def _open_for_all(folder: Path) -> None:
    """As an earlier release left it, under a common umask."""
    folder.chmod(0o755)
    for lock in LOCKS:
        (folder / lock).touch()
        (folder / lock).chmod(0o644)


@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_data_and_locks_are_for_their_owner_alone(start: Start, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    for left_open in (False, True):
        if left_open:
            tmp_path.chmod(0o777)
            _open_for_all(folder)
        user = start(kind)
        assert user.url
        for directory in (tmp_path, folder):
            # Nobody may list it. Root's PostgreSQL runs as another user, who must get through.
            assert stat.S_IMODE(directory.stat().st_mode) & 0o066 == 0, directory
            if os.geteuid():
                assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for lock in LOCKS:
            assert stat.S_IMODE((folder / lock).stat().st_mode) == 0o600, lock
        assert user.leave() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a moment")
@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_somebody_else_cannot_keep_a_server_from_its_users(start: Start, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    first = start(kind)
    assert first.url
    stranger = subprocess.Popen(
        [sys.executable, "-c", HOLD, *(str(folder / lock) for lock in LOCKS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "0\n", "locks that a stranger holds"
        assert first.leave() == 0
        second = start(kind)
        assert second.url
        assert second.leave() == 0
    finally:
        stranger.communicate("")


@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_a_directory_of_somebody_else_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load({"PASSBOOK_DATA_DIR": str(tmp_path / "data")})
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Refused, match="belongs to another user") as refused, SERVERS[kind].running(settings):
        pass
    assert "PASSBOOK_DATA_DIR" in refused.value.remedy
    assert not list((tmp_path / "data").iterdir()), "nothing was made in it"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    from passbook.embedded.lifecycle import Lock

    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    (tmp_path / "gate.lock").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        Lock(tmp_path / "gate.lock")
    with elsewhere.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
