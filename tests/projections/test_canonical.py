"""A document read back from CouchDB has our digest exactly when nobody changed it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import canonical
from projections.project import Projected
from tests.projections import builders as make

#: Anything that a text column can hold: no lone surrogates, and PostgreSQL has no NUL.
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.sampled_from(["🌍 नमस्ते", "مرحبا\u202eabc", "line\u2028and\u2029paragraph", "</script>", "ﬃ é é"]),
    st.sampled_from(['"\\/\b\f\n\r\t\x7f', "\x01\x1f", "\x80\x9f", "\ufeff\ufffe", "\U0010ffff"]),
)
RESERVED: dict[str, Any] = {
    "_id": "client:7",
    "_rev": "3-917fa2381192822767f010b95b45325b",
    "_attachments": {"picture": {"content_type": "image/png", "stub": True, "length": 4, "revpos": 1}},
    "_revisions": {"start": 3, "ids": ["a", "b", "c"]},
}


def read_back(body: bytes, *, ascii_only: bool) -> dict[str, Any]:
    """The document as CouchDB answers it: other order, other spelling, its own fields added."""
    stored = dict(reversed(json.loads(body).items())) | RESERVED
    answer: dict[str, Any] = json.loads(json.dumps(stored, ensure_ascii=ascii_only, indent=1))
    return answer


@given(first=TEXT, office=TEXT, receipt=TEXT, ascii_only=st.booleans())
def test_a_round_trip_keeps_the_digest(first: str, office: str, receipt: str, ascii_only: bool) -> None:
    aggregate = make.of_client(
        make.client(firstname=first, office=office, display_name=first + office),
        transactions=[make.client_transaction(receipt_number=receipt)],
    )
    for document in make.projected(aggregate).values():
        assert canonical.digest(document.body) == document.digest
        assert canonical.digest_of(read_back(document.body, ascii_only=ascii_only)) == document.digest


def test_a_round_trip_of_the_whole_ledger_keeps_every_digest(shown: list[Projected]) -> None:
    for document in shown:
        assert canonical.digest_of(read_back(document.body, ascii_only=True)) == document.digest
        assert canonical.encode(json.loads(document.body)) == document.body


@pytest.mark.parametrize("change", [{"office": "Other"}, {"extra": None}, {"client_id": "7"}, {"schema": 2}])
def test_any_change_is_noticed(change: dict[str, Any]) -> None:
    document = make.projected(make.of_client())["client:7"]
    assert canonical.digest_of(json.loads(document.body) | change) != document.digest


def test_canonical_is_compact_sorted_and_without_nulls(shown: list[Projected]) -> None:
    def look(part: Any) -> None:
        if isinstance(part, dict):
            assert list(part) == sorted(part)
            assert None not in part.values()
            assert not any(key.startswith("_") for key in part)
            for value in part.values():
                look(value)
        elif isinstance(part, list):
            for value in part:
                look(value)

    for document in shown:
        assert b"\n" not in document.body
        look(json.loads(document.body))
