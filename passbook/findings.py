"""What `passbook init` finds out about the servers around it: how each stands, and what to do about it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

_WIDTH = 100


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is what to do where it is not as it should be."""

    what: str
    found: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return not self.remedy

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": self.ok, **asdict(self)}


def print_findings(findings: Iterable[Finding]) -> None:
    """A line each, the remedy of a warning below it."""
    for one in findings:
        print(f"{'ok' if one.ok else 'warning':<9}{one.what}: {one.found}")
        for line in textwrap.wrap(one.remedy, _WIDTH, break_long_words=False, break_on_hyphens=False):
            print(f"{'':<11}{line}")
