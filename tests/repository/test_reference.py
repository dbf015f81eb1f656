"""The reference pages say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reference import ROOT, pages


@pytest.mark.parametrize("path", sorted(pages()), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_generated_page_is_up_to_date(path: Path) -> None:
    assert path.exists(), "make docs"
    assert path.read_text() == pages()[path], "the code has moved on: make docs"


def test_no_schema_is_left_of_a_document_that_is_gone() -> None:
    expected = {path for path in pages() if path.parent.name == "schemas"}
    assert set((ROOT / "docs" / "schemas").iterdir()) == expected


def test_links_between_the_pages_lead_somewhere() -> None:
    import re

    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks" / "README.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_the_proofs_that_the_threats_page_names_exist() -> None:
    import re

    page = (ROOT / "docs" / "threats.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert len(named) > 10
    for name in named:
        assert f"def {name}(" in code, name
    for path in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", page):
        assert (ROOT / path).exists(), path
