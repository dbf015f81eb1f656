"""What the Makefile finds out about the machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from passbook.embedded.node import find

ROOT = Path(__file__).parents[2]


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("version", "npm", "found"),
    [
        ("18.0.0", True, "yes"),
        ("20.20.2", True, "yes"),
        ("26.1.0", True, "yes"),
        ("16.3.0", True, ""),
        ("20.1.0", False, ""),
    ],
)
def test_a_node_that_is_there_is_used(tmp_path: Path, version: str, npm: bool, found: str) -> None:
    """The real Node pretends to be this version; since 20 it refuses an exit status that is no number."""
    node = tmp_path / "node"
    real = find().node
    pretend = f"Object.defineProperty(process, 'versions', {{value: {{node: '{version}'}}}});"
    _program(node, f'exec "{real}" -e "{pretend} $2"')
    _program(tmp_path / "npm", "exit 0" if npm else "exit 1")
    said = subprocess.run(
        ["make", "-s", "--eval", "said: ; @echo '$(NODE)'", "said"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == found
