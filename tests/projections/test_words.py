"""The public words: closed lists, each word explained, and no code of the ledger becomes any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from passbook.scope import PERMISSIONS
from projections import vocabulary, words
from projections.vocabulary import Codes
from tests.projections import builders as make
from tests.schemas import ALL, word_lists

CODES = [one for one in vars(vocabulary).values() if isinstance(one, Codes)]
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / f"{ALL}.json").read_text())


@pytest.mark.parametrize("codes", CODES, ids=lambda one: one.source)
def test_every_code_has_a_word_of_its_list(codes: Codes) -> None:
    assert set(codes.words.values()) | {words.UNKNOWN} <= set(codes.list.words)


def test_every_list_is_used_by_a_document_and_every_word_explained() -> None:
    assert len(CODES) > 25
    used = json.dumps({name: one for name, one in SCHEMA["$defs"].items() if "properties" in one})
    for one in word_lists():
        assert f"#/$defs/{one.name}" in used, one.name
        assert all(one.meanings.values()), one.name
        assert len(set(one.meanings.values())) == len(one.words), f"two words of {one.name} mean the same"


def test_permissions_are_those_of_the_scope() -> None:
    assert words.PERMISSION.words == PERMISSIONS


@pytest.mark.parametrize(
    "spoilt",
    [{"status": "Active"}, {"status": None}, {"_id": "loan:012"}, {"more": 1}, {"principal": {"current": 1.5}}],
    ids=str,
)
def test_the_schema_of_all_documents_takes_ours_and_nothing_else(spoilt: dict[str, Any]) -> None:
    check = jsonschema.Draft202012Validator(SCHEMA)
    document = make.documents(make.of_loan())["loan:12"] | {"_id": "loan:12", "_rev": "1-" + "0" * 32}
    check.validate(document)
    assert list(check.iter_errors(document | spoilt))


def test_a_schedule_type_that_is_new_to_us_is_unknown() -> None:
    row = make.loan(schedule_type="SPIRAL")
    assert make.documents(make.of_loan(row))["loan:12"]["terms"]["schedule_type"] == words.UNKNOWN
