"""Amounts and rates: exact decimal text, whatever stands in the ledger."""

from __future__ import annotations

import re
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.garbage import BadValue
from projections.money import LIMIT, MOST_DIGITS, ROUNDING_MODES, Digits, rate

DIGITS = st.integers(0, MOST_DIGITS)
MODES = st.sampled_from(sorted(ROUNDING_MODES.values()))
#: All that DECIMAL(19,6) can hold, small and odd values often.
STORED = st.one_of(
    st.decimals(min_value=-LIMIT + 1, max_value=LIMIT - 1, places=6),
    st.decimals(min_value=-2, max_value=2, places=6),
    st.sampled_from(
        [Decimal(text) for text in ("0", "-0", "-0.000000", "-0.004", "1E+3", "0E-12", "-1E-6", "0.5")]
    ),
)


def text_of(amount: Decimal) -> str:
    """The amount as it stands in a document."""
    encoded = msgspec.json.encode(amount)
    text = msgspec.json.decode(encoded)
    assert isinstance(text, str), "an amount must not become a number: phones count in binary"
    return text


@given(STORED, DIGITS, MODES)
def test_an_amount_has_exactly_the_digits_of_its_currency(amount: Decimal, digits: int, mode: str) -> None:
    text = text_of(Digits(digits, "m_loan 1", mode)(amount))
    assert re.fullmatch(r"-?[0-9]+" + (rf"\.[0-9]{{{digits}}}" if digits else ""), text), text
    assert not re.fullmatch(r"-0(\.0*)?", text), "zero has no sign"
    assert Decimal(text) == amount.quantize(Decimal(1).scaleb(-digits), rounding=mode)
    assert abs(Decimal(text) - amount) < Decimal(1).scaleb(-digits)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, ["0.03", "-0.03", "0.02"]),
        (1, ["0.02", "-0.02", "0.01"]),
        (2, ["0.03", "-0.02", "0.02"]),
        (3, ["0.02", "-0.03", "0.01"]),
        (4, ["0.03", "-0.03", "0.02"]),
        (5, ["0.02", "-0.02", "0.01"]),
        (6, ["0.02", "-0.02", "0.02"]),
    ],
)
def test_the_ledger_s_rounding_modes_by_their_numbers(number: int, expected: list[str]) -> None:
    digits = Digits(2, "m_loan 1", ROUNDING_MODES[number])
    assert [text_of(digits(Decimal(one))) for one in ("0.025", "-0.025", "0.015")] == expected


def test_half_to_even_is_the_rule_unless_changed() -> None:
    assert text_of(Digits(0, "m_loan 1")(Decimal("2.5"))) == "2"
    assert text_of(Digits(0, "m_loan 1")(Decimal("3.5"))) == "4"


@given(st.decimals(min_value=-1, max_value=0, places=6), DIGITS, MODES)
def test_what_rounds_to_nothing_has_no_sign(amount: Decimal, digits: int, mode: str) -> None:
    shown = Digits(digits, "m_loan 1", mode)(amount)
    assert shown or not shown.is_signed()


@given(DIGITS)
def test_null_is_zero_with_all_its_digits(digits: int) -> None:
    one = Digits(digits, "m_loan 1")
    assert text_of(one(None)) == text_of(one.zero) == text_of(one(Decimal("-0.000000")))
    assert text_of(one(None)) == ("0." + "0" * digits if digits else "0")
    assert one.optional(None) is None
    assert one.optional(Decimal(3)) == 3


GARBAGE = ["NaN", "-NaN", "sNaN", "Infinity", "-Infinity", "1E13", "-1E13", "10000000000000.000001", "1E+9999"]


@pytest.mark.parametrize("digits", [0, 2, 6])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_refused_and_named_without_being_repeated(garbage: str, digits: int) -> None:
    with pytest.raises(BadValue) as caught:
        Digits(digits, "m_loan 4711")(Decimal(garbage))
    assert str(caught.value).startswith("m_loan 4711: ")
    assert garbage not in str(caught.value)
    assert not re.search(r"10000000000000|1e\+?13|infinit|nan", str(caught.value), re.IGNORECASE)
    assert caught.value.__context__ is None or garbage not in str(caught.value.__context__)


def test_the_largest_amounts_of_the_ledger_are_believed() -> None:
    assert text_of(Digits(6, "m_loan 1")(Decimal("9999999999999.999999"))) == "9999999999999.999999"
    assert text_of(Digits(2, "m_loan 1")(Decimal("-9999999999999.99"))) == "-9999999999999.99"


@pytest.mark.parametrize("digits", [-1, 7, 99])
def test_absurd_digits_are_refused(digits: int) -> None:
    with pytest.raises(BadValue, match="m_loan 5: currency digits"):
        Digits(digits, "m_loan 5")


def test_nothing_depends_on_the_thread_s_own_arithmetic() -> None:
    with localcontext(rounding=ROUND_FLOOR):
        assert text_of(Digits(1, "m_loan 1")(Decimal("0.25"))) == "0.2"
        assert text_of(Digits(1, "m_loan 1")(Decimal("0.35"))) == "0.4"
    assert Digits(1, "m_loan 1", ROUND_HALF_EVEN)(Decimal("0.25")) == Decimal("0.2")


@given(st.decimals(min_value=-(10**6), max_value=10**12, places=6))
def test_a_rate_is_plain_text_without_padding(value: Decimal) -> None:
    text = rate(value, "m_loan 1")
    assert text is not None
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", text), text
    assert text != "-0"
    assert Decimal(text) == value


@pytest.mark.parametrize("garbage", ["NaN", "sNaN", "Infinity", "1E13"])
def test_a_rate_that_is_no_number_is_refused(garbage: str) -> None:
    with pytest.raises(BadValue, match=r"^m_loan 1: a rate is not a number"):
        rate(Decimal(garbage), "m_loan 1")


def test_a_rate_may_be_unknown_and_may_be_nothing() -> None:
    assert rate(None, "m_loan 1") is None
    assert rate(Decimal("0.000000"), "m_loan 1") == rate(Decimal("-0.0"), "m_loan 1") == "0"
