"""The secret that seals signing keys: the setting, or one made at random and kept in the data directory."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from passbook.data_directory import data_directory
from passbook.errors import Refused
from passbook.settings import Settings

_NAME = "auth-secret"


def auth_secret(settings: Settings) -> str:
    """The secret; made if there is none yet. Raises `Refused` if its file cannot be kept private."""
    if settings.auth_secret:
        return settings.auth_secret
    path = settings.data_dir.absolute() / _NAME
    with suppress(FileNotFoundError):
        return _read(path)
    data_directory(path.parent)
    # Written whole under another name: two processes that start at once agree on whichever was first.
    fresh = path.with_name(f"{_NAME}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()
    return _read(path)


def _read(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise Refused(f"Others on this machine may read {path}.", remedy=f"chmod 600 {path}")
    return path.read_text().strip()
