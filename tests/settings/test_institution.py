"""What an institution tells of itself."""

from __future__ import annotations

import pytest

from passbook.errors import Refused
from passbook.settings import Settings


def test_languages_are_tags_separated_by_commas() -> None:
    assert Settings.load({}).languages == []
    assert Settings.load({"PASSBOOK_INSTITUTION_LANGUAGES": "sw, en-KE,zh-Hant-TW"}).languages == [
        "sw",
        "en-KE",
        "zh-Hant-TW",
    ]


@pytest.mark.parametrize("wrong", ["Swahili and English", "sw;en", "e", "en_KE"])
def test_what_is_no_language_tag_is_refused(wrong: str) -> None:
    with pytest.raises(Refused, match="language tag"):
        Settings.load({"PASSBOOK_INSTITUTION_LANGUAGES": wrong})
