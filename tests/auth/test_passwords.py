"""What passwords must be, and that comparing them never says more than yes or no."""

from __future__ import annotations

import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import argon2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_service import passwords
from auth_service.passwords import (
    DUMMY_HASH,
    LONGEST,
    WeakPassword,
    check_policy,
    hash_password,
    initial_password,
    needs_rehash,
    verify,
)

GOOD = "pelican harbour 42 thimble"
#: Symbols that each may stand for several letters: what zxcvbn takes longest over.
_SLOW = "4@8({[<369&#!1/|0$5+7%2"


def test_argon2id_with_the_parameters_of_owasp() -> None:
    for hashed in (hash_password(GOOD), DUMMY_HASH):
        found = argon2.extract_parameters(hashed)
        assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (
            argon2.Type.ID,
            19_456,
            2,
            1,
        )
        assert (found.salt_len, found.hash_len) == (16, 32)
        assert not needs_rehash(hashed)


def test_a_hash_fits_its_password_alone() -> None:
    hashed = hash_password(GOOD)
    assert hashed != hash_password(GOOD)
    assert verify(hashed, GOOD)
    assert not verify(hashed, GOOD + " ")
    assert not verify(hashed, GOOD.upper())
    assert not verify(hashed, "")


def test_hashes_made_with_other_parameters_verify_and_are_renewed() -> None:
    old = argon2.PasswordHasher().hash(GOOD)
    assert verify(old, GOOD)
    assert needs_rehash(old)


@pytest.mark.parametrize(
    ("password", "username", "why"),
    [
        ("short", "", "at least 10"),
        ("é" * 9, "", "at least 10"),
        ("e\u0301" * 9, "", "at least 10"),
        ("x7" * 101, "", "at most 200"),
        ("x" * 100_000, "", "at most 200"),
        ("pelican\x00harbour 42", "", "cannot be typed"),
        ("pelican\tharbour 42", "", "cannot be typed"),
        ("pelican\nharbour 42", "", "cannot be typed"),
        ("pelican\ud800harbour 42", "", "cannot be typed"),
        ("Pelican-ASHA.K-harbour", "asha.k", "user name is part"),
        ("pelican ＡＳＨＡ harbour", "asha", "user name is part"),
        ("password123", "", "easy to guess"),
        ("aaaaaaaaaaaa", "", "easy to guess"),
        ("a" * 200, "", "easy to guess"),
        ("1234567890", "", "easy to guess"),
        ("qwertyuiop", "", "easy to guess"),
        ("passbook2026", "", "easy to guess"),
    ],
)
def test_a_weak_password_is_refused_with_what_to_do(password: str, username: str, why: str) -> None:
    with pytest.raises(WeakPassword, match=why) as refused:
        hash_password(password, username=username)
    assert refused.value.code == "weak_password"
    assert refused.value.remedy
    assert password not in str(refused.value)


@pytest.mark.parametrize(
    ("password", "username"),
    [
        (GOOD, "asha"),
        ("z7-" * 20 + "kob pelican", "asha"),
        ("joy pelican harbour", "joy"),  # a name so short may be part of a password by accident
        ("सूरज नदी किताब पहाड़", "asha"),
        ("крепость-луна-43", "asha"),
        ("🦩🌋🧵🪗🛶🧊🦑🪁🥁🧲", "asha"),
        ("a" * 32 + "j4Kq-90xT.vW!2", "asha"),  # what counts stands at the end
        ("x" * 8 + "7" + "vq" * 95, "asha"),
    ],
)
def test_a_good_password_is_taken(password: str, username: str) -> None:
    assert verify(hash_password(password, username=username), password)


def test_the_same_password_from_another_keyboard() -> None:
    composed, decomposed = (unicodedata.normalize(form, "crème brûlée für Zoë") for form in ("NFC", "NFD"))
    assert composed != decomposed
    hashed = hash_password(composed)
    assert verify(hashed, decomposed)
    assert verify(hash_password(decomposed), composed)
    assert verify(hash_password("harbour thimble 42"), "harbour thimble ４２")
    assert verify(hash_password("harbour thimble 42"), "harbour\u00a0thimble\u00a042")


@pytest.mark.parametrize("hashed", ["-", "", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv", "é", "x" * 5000])
def test_what_is_no_hash_matches_nothing(hashed: str) -> None:
    assert not verify(hashed, GOOD)
    assert not verify(hashed, "")
    assert not needs_rehash(hashed)


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=900))
def test_nothing_that_is_typed_makes_comparing_fail(password: str) -> None:
    assert verify(DUMMY_HASH, password) is False


def test_the_same_work_for_a_name_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in calls: real hash, dummy, no hash at all, and a password too long for any are one argon2 each."""
    computed: list[argon2.Parameters] = []
    genuine = argon2.low_level.verify_secret

    def counted(hashed: bytes, secret: bytes, kind: argon2.Type) -> bool:
        computed.append(argon2.extract_parameters(hashed.decode()))
        return genuine(hashed, secret, kind)

    real = hash_password(GOOD)
    monkeypatch.setattr("argon2._password_hasher.verify_secret", counted)
    # What is no hash at all is found out by its first characters, and compared with the dummy.
    for hashed, password in ((real, "wrong"), (DUMMY_HASH, "wrong"), ("-", "wrong"), (real, "x" * 100_000)):
        computed.clear()
        assert not verify(hashed, password)
        assert [(one.memory_cost, one.time_cost, one.parallelism) for one in computed] == [(19_456, 2, 1)]


@pytest.mark.parametrize("length", [32, 72, LONGEST])
def test_judging_a_password_takes_bounded_time(length: int) -> None:
    began = time.process_time()
    check_policy((_SLOW * 10)[:length], username="asha")
    assert time.process_time() - began < 3


def test_names_of_others_are_not_held_against_a_password() -> None:
    """zxcvbn keeps the user's own words in a global."""

    def judged(number: int) -> bool:
        try:
            check_policy("Xq7vTzkw9pR", username="Xq7vTzkw9pX" if number % 2 else "asha")
        except WeakPassword:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(judged, range(200)))


def test_initial_passwords_satisfy_the_policy_and_are_easy_to_dictate() -> None:
    made = {initial_password("asha") for _ in range(50)}
    assert len(made) == 50
    for password in made:
        check_policy(password, username="asha")
        assert set(password) <= set(passwords._ALPHABET)
        assert len(password) == 14


def test_an_initial_password_never_has_the_name_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter("ashaqmv7tkz4wn" + "q7mvx2tkz4wnre")
    monkeypatch.setattr("auth_service.passwords.secrets.choice", lambda _: next(drawn))
    assert initial_password("Asha") == "q7mvx2tkz4wnre"
