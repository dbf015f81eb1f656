"""The examples of units: what systemd says of them, and that they give each process settings that are there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from passbook.settings import DECLARATIONS

UNITS = sorted((Path(__file__).parents[2] / "examples" / "systemd").glob("*.service"))
unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)


def test_there_is_one_for_each_process() -> None:
    commands = {re.findall(r"ExecStart=\S+ (.*)", path.read_text())[0].split(" --port")[0] for path in UNITS}
    assert commands == {"worker run", "gateway", "auth --only people", "auth --only administration"}


@unit
def test_a_unit_names_settings_and_its_own_secrets(unit: Path) -> None:
    text = unit.read_text()
    known = {declaration.variable for declaration in DECLARATIONS}
    named = dict(re.findall(r"(PASSBOOK_\w+)=(\S+)", text))
    assert {name.removesuffix("_FILE") for name in named} <= known
    given = set(re.findall(r"LoadCredential=([\w-]+):", text))
    assert {value.removeprefix("%d/") for name, value in named.items() if name.endswith("_FILE")} == given
    for word in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "LimitNOFILE=65536"):
        assert word in text


@unit
def test_systemd_takes_a_unit_and_finds_it_closed(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/passbook/bin/passbook", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr, done.stderr
    offline = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(tmp_path / unit.name)]
    done = subprocess.run(offline, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
