"""Passwords: what they must be, how they are hashed and compared, and how an initial one is made.

Everything here takes processor time (a hash about 20 ms) and belongs in a thread; `hashing.Hashing` bounds how many
run at once.
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from base64 import b64encode

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from passbook.errors import Refused

#: argon2id as OWASP's Password Storage Cheat Sheet has it: 19 MiB, two passes, one lane.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, salt_len=16)

SHORTEST = 10
LONGEST = 200
#: Characters that are looked at before normalisation: a composed character has at most four parts.
_LONGEST_TYPED = 4 * LONGEST
#: A user name of so many characters must not be part of the password; a shorter one may be so by accident.
_NAME_THAT_COUNTS = 4
#: zxcvbn's score (0 to 4) from which a password will do: more than a million guesses.
_LEAST_SCORE = 2
#: What zxcvbn is given at once. Its time grows steeply with the length (2 s for 72 symbols, 0.4 s for these).
_SCORED = 32

#: No letters and digits that are mistaken for one another when read out over a phone.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_INITIAL_LENGTH = 14

#: zxcvbn keeps the user's own words in a global: two threads at once would score with each other's.
_SCORING = threading.Lock()


class WeakPassword(Refused):
    """This password will not do."""

    code = "weak_password"


def _unmatched() -> str:
    def random(length: int) -> str:
        return b64encode(secrets.token_bytes(length)).decode().rstrip("=")

    made = _HASHER
    parameters = f"m={made.memory_cost},t={made.time_cost},p={made.parallelism}"
    return f"$argon2id$v=19${parameters}${random(made.salt_len)}${random(made.hash_len)}"


#: To verify against when there is nobody of that name: the same work, and no password that matches is known,
#: because the digest in it was drawn at random and not computed.
DUMMY_HASH = _unmatched()


def check_policy(password: str, *, username: str) -> None:
    """Raise `WeakPassword`, which says why and what to do, unless `password` may be that of `username`.

    10 to 200 characters after normalisation, no control characters, without the user name in it, and not among
    the first million guesses. Takes 2 to 400 ms.
    """
    if len(password) > _LONGEST_TYPED:
        raise _too_long()
    normal = _normalised(password)
    if len(normal) < SHORTEST:
        raise WeakPassword(
            f"A password has at least {SHORTEST} characters.", remedy="Four words in a row are easy to remember."
        )
    if len(normal) > LONGEST:
        raise _too_long()
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in normal):
        raise WeakPassword(
            "There is a character in this password that cannot be typed, such as a tab or a line break.",
            remedy="Use letters, digits, punctuation and spaces; what was pasted may have brought more along.",
        )
    name = _folded(username)
    if len(name) >= _NAME_THAT_COUNTS and name in _folded(normal):
        raise WeakPassword(
            "The user name is part of this password.", remedy="Choose one that has nothing to do with the name."
        )
    score, warning = _score(normal, name)
    if score < _LEAST_SCORE:
        raise WeakPassword(
            f"This password is easy to guess. {warning}".strip(),
            remedy="Use four or more words that do not belong together, or let a password manager make one.",
        )


def hash_password(password: str, *, username: str = "") -> str:
    """The argon2id hash of `password`. Raises `WeakPassword` if `check_policy` does."""
    check_policy(password, username=username)
    return _HASHER.hash(_normalised(password))


def verify(hashed: str, password: str) -> bool:
    """Whether `password` is the one of `hashed`. What is no hash matches nothing, after the same work."""
    # Nothing that long can have been hashed; neither can the empty password that is compared instead.
    typed = _encoded(password) if len(password) <= _LONGEST_TYPED else b""
    try:
        return _HASHER.verify(hashed, typed)
    except (InvalidHashError, UnicodeEncodeError):
        return verify(DUMMY_HASH, password)
    except VerificationError:
        return False


def needs_rehash(hashed: str) -> bool:
    """Whether `hashed` was made with other parameters than today's. What is no hash does not."""
    try:
        return _HASHER.check_needs_rehash(hashed)
    except (InvalidHashError, UnicodeEncodeError):
        return False


def renew(password: str) -> str:
    """The hash of a password that is in use already, whatever today's policy says to it."""
    return _HASHER.hash(_normalised(password))


def initial_password(username: str = "") -> str:
    """A random password to hand over once: 69 bits, easy to dictate. It must be changed at first login."""
    while True:
        password = "".join(secrets.choice(_ALPHABET) for _ in range(_INITIAL_LENGTH))
        try:
            check_policy(password, username=username)
        except WeakPassword:  # once in 80,000 for a name of four letters, which is part of it by accident
            continue
        return password


def given_or_new(password: str | None, *, username: str) -> tuple[str, str | None]:
    """The hash of a password that was given, or of one made here, which is the second value.

    Raises `WeakPassword` for a given one that will not do.
    """
    if password is not None:
        return hash_password(password, username=username), None
    initial = initial_password(username)
    return hash_password(initial, username=username), initial


def _too_long() -> WeakPassword:
    return WeakPassword(f"A password has at most {LONGEST} characters.", remedy="Choose a shorter one.")


def _normalised(text: str) -> str:
    # The same key gives é in one character on one phone and in two on another, and a full-width digit on a third.
    return unicodedata.normalize("NFKC", text)


def _encoded(password: str) -> bytes:
    return _normalised(password).encode("utf-8", "surrogatepass")


def _folded(text: str) -> str:
    return _normalised(_normalised(text).casefold())


def _score(password: str, name: str) -> tuple[int, str]:
    """zxcvbn's score of `password` and what it says against it: the better of its beginning and its end."""
    # Imported here: its word lists are needed by those alone who set a password.
    from zxcvbn import zxcvbn  # type: ignore[import-untyped]

    score, warning = 0, ""
    for part in dict.fromkeys((password[:_SCORED], password[-_SCORED:])):
        with _SCORING:
            result = zxcvbn(part, user_inputs=[name, "passbook"])
        if result["score"] >= score:
            score, warning = result["score"], str(result["feedback"]["warning"])
        if score >= _LEAST_SCORE:
            break
    return score, warning
