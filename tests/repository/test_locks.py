"""The locks that are made out of the whole one, and the image that is made with them."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.locks import EMBEDDED, ROOT, locks, pins


@pytest.mark.parametrize("path", locks(), ids=lambda path: path.name)
def test_a_lock_is_what_the_whole_one_says(path: object) -> None:
    assert path.read_text() == locks()[path], "run `python -m tests.locks`"


def named(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text(), re.MULTILINE))


def test_the_runtime_lock_has_no_test_tools_and_nothing_embedded() -> None:
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    tools = {re.split(r"[ >=;\[]", one)[0] for one in dev}
    runtime = named("requirements-runtime.lock")
    assert "pytest" in tools & pins().keys()
    assert not runtime & (tools | EMBEDDED | {"pip", "setuptools"})
    assert {"aiohttp", "psycopg-binary", "cryptography", "uvicorn"} <= runtime


def test_the_image_is_made_of_these_locks_by_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    said = "\n".join(lines)
    assert "requirements.lock" not in said
    assert "--require-hashes -r requirements-runtime.lock" in said
    assert "--require-hashes -r requirements-build.lock" in said
    bases = [line for line in lines if line.startswith("FROM")]
    assert bases == ["FROM ${PYTHON_IMAGE} AS build", "FROM ${PYTHON_IMAGE}"]
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    # What hatchling puts into the wheel is there when it is made.
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {line.split()[1] for line in lines if line.startswith("COPY ") and line.count(" ") == 2}
    assert set(wheel["packages"]) | {one.split("/")[0] for one in wheel["force-include"]} <= copied
