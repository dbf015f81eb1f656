"""The house: which folder may import which, how long a module gets, and what must not be in the tree."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What each folder may import of ours, besides itself.
MAY_IMPORT = {
    "projections": set(),
    "passbook": set(),
    "sync_worker": {"projections", "passbook"},
    "auth_service": {"passbook"},
    "sync_gateway": {"passbook"},
    "couch_design_docs": set(),
    "sample_institution": {"passbook"},
}
LONGEST_MODULE = 400
#: One list each, and no shorter for being cut in two.
LONGER = {"projections/rows.py", "projections/documents/loans.py", "projections/documents/savings.py"} | {
    "passbook/audit/events.py",
    "passbook/declarations.py",
}


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _modules(folder: str) -> list[Path]:
    return [path for path in _tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] == folder]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    modules = _modules(folder)
    assert modules
    for path in modules:
        ours = _imports(path) & (MAY_IMPORT.keys() | {"tests", "benchmarks"}) - {folder}
        assert ours <= MAY_IMPORT[folder], f"{path.relative_to(ROOT)} imports {ours - MAY_IMPORT[folder]}"


def test_every_folder_of_code_is_in_the_import_graph() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in _tracked() if path.name == "__init__.py"}
    assert folders == MAY_IMPORT.keys() | {"tests", "benchmarks"}


def test_projections_know_no_clock_and_no_outside() -> None:
    forbidden = {"os", "time", "socket", "asyncio", "aiohttp", "sqlalchemy", "pathlib", "random", "secrets"}
    for path in _modules("projections"):
        assert not _imports(path) & forbidden, path
        text = path.read_text()
        assert not re.search(r"\b(?:now|today|utcnow)\(", text), path


def test_modules_are_short() -> None:
    for folder in MAY_IMPORT:
        for path in _modules(folder):
            name = str(path.relative_to(ROOT))
            if name not in LONGER:
                assert len(path.read_text().splitlines()) <= LONGEST_MODULE, name


SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a token of a code host": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}"),
    "a cloud key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w+"),
    "an option that names a registry": re.compile(r"--(?:extra-)?index-url|--registry[ =]|--find-links"),
}

_ADDRESS = re.compile(r"\b[a-z][a-z+]*://(?:[^\s/@'\"`<>]*@)?([A-Za-z0-9][A-Za-z0-9.-]*)")
#: Names that may stand in the tree: those that nobody can have (RFC 2606, RFC 6761), single words, and those of two
#: standards and of a picture's maker.
_OURS_TO_NAME = re.compile(
    r"(?:.*\.)?example(?:\.org)?\.?|.*\.(?:invalid|localhost)|[A-Za-z0-9-]+|(?:www\.w3|json-schema)\.org|www\.textualize\.io",
    re.IGNORECASE,
)


@pytest.mark.parametrize("what", sorted(SECRETS))
def test_the_tree_holds_no(what: str) -> None:
    me = Path(__file__)
    for path in _tracked():
        if path == me or path.suffix in (".png", ".svg"):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            assert not SECRETS[what].search(line), f"{path.relative_to(ROOT)}:{number}: {what}"


def test_the_tree_names_no_address_of_the_outside() -> None:
    for path in _tracked():
        if path.suffix == ".png" or path.name == "package-lock.json":  # a lock says who asks for donations
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for host in _ADDRESS.findall(line):
                named = _OURS_TO_NAME.fullmatch(host) or _is_inside(host)
                assert named, f"{path.relative_to(ROOT)}:{number}: {host}"


def _is_inside(host: str) -> bool:
    """Whether this is an address that leads to no server of the internet."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def test_npm_locks_name_no_address_and_keep_their_hashes() -> None:
    import json

    locks = [path for path in _tracked() if path.name == "package-lock.json"]
    assert locks
    for path in locks:
        packages = json.loads(path.read_text())["packages"]
        assert not any("resolved" in one for one in packages.values()), path
        assert all("integrity" in one for name, one in packages.items() if name), path


def test_every_python_pin_has_a_hash() -> None:
    for name in ("requirements.lock", "requirements-node.lock"):
        blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text().strip())
        assert len(blocks) >= 1
        for block in blocks:
            assert "==" in block, f"{name}: {block.splitlines()[0]}"
            assert "--hash=sha256:" in block, f"{name}: {block.splitlines()[0]}"


def test_no_environment_of_the_tester_reaches_the_product() -> None:
    assert not [name for name in os.environ if re.match(r"PASSBOOK_(?!TEST_)", name)]
