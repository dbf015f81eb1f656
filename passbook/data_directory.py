"""The data directory: nobody else's, and closed to the other users of the machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from passbook.errors import Refused


def data_directory(path: Path) -> Path:
    """The data directory at `path`, absolute, made if need be. Raises `Refused` if it belongs to somebody else."""
    return kept_private(path.absolute(), passable=True)


def kept_private(directory: Path, *, passable: bool = False) -> Path:
    """`directory`, made if need be, with no access for others. Raises `Refused` if it belongs to somebody else.

    Locks in it decide who starts and stops the embedded servers: whoever could open one could hold it for ever.
    With `passable`, others may pass through if we are root, whose embedded PostgreSQL runs as another user.
    """
    mode = 0o711 if passable and os.geteuid() == 0 else 0o700
    directory.mkdir(mode=mode, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid():
        raise Refused(
            f"{directory} belongs to another user of this machine.",
            remedy="Set PASSBOOK_DATA_DIR to a folder of your own, or give this one to the user who runs Passbook.",
        )
    if stat.S_IMODE(found.st_mode) != mode:
        directory.chmod(mode)
    return directory
