"""Projections are functions of their rows: no clock, no I/O, nothing left over from another client."""

from __future__ import annotations

import ast
import datetime
import sys
from pathlib import Path

import pytest

import projections
from projections.project import Projected, project
from tests.projections.conftest import Read

HERE = Path(projections.__file__).parent
SOURCES = sorted(HERE.rglob("*.py"))
CLOCKS = {"now", "today", "utcnow", "time", "monotonic", "fromtimestamp", "perf_counter", "localtime", "gmtime"}
ALLOWED = {
    "__future__",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "hashlib",
    "msgspec",
    "projections",
    "typing",
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(HERE)))
def test_no_clock_and_no_outside(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules = [node.module or ""]
        else:
            modules = []
        assert {module.split(".")[0] for module in modules} <= ALLOWED
        if isinstance(node, ast.Attribute):
            assert node.attr not in CLOCKS, f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval", "__import__"}


def test_the_day_of_the_projection_leaves_no_trace(
    told: Read, shown: list[Projected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every module of the projections gets a clock that is decades off."""
    replaced = 0
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "projections":
            for attribute, wrong in (("date", _Date), ("datetime", _Datetime)):
                if hasattr(module, attribute):
                    monkeypatch.setattr(module, attribute, wrong)
                    replaced += 1
    assert replaced > 5
    aggregates, context = told
    again = [one for aggregate in aggregates for one in project(aggregate, None, context)]
    assert [(one.id, one.body) for one in again] == [(one.id, one.body) for one in shown]


class _Date(datetime.date):
    @classmethod
    def today(cls) -> _Date:
        return cls(2090, 3, 7)


class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _Datetime:
        return cls(2090, 3, 7, tzinfo=tz)


def test_projecting_twice_gives_the_same_bytes_and_leaves_the_rows_alone(
    told: Read, shown: list[Projected]
) -> None:
    aggregates, context = told
    again = [one for aggregate in reversed(aggregates) for one in project(aggregate, None, context)]
    assert {one.id: one.body for one in again} == {one.id: one.body for one in shown}
