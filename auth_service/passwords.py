"""Passwords of people: how they are hashed, what they must be, and how an initial one is made."""

from __future__ import annotations

import secrets

import argon2

from passbook.errors import Refused

#: argon2id with the library's parameters (RFC 9106, low-memory profile).
_HASHER = argon2.PasswordHasher()

SHORTEST = 10
LONGEST = 200

#: No letters and digits that are mistaken for one another when read out over a phone.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_INITIAL_LENGTH = 14


def hash_password(password: str) -> str:
    """The argon2id hash of `password`. Raises `Refused` for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Refused(f"A password has {SHORTEST} to {LONGEST} characters.")
    return _HASHER.hash(password)


def initial_password() -> str:
    """A random password to hand over once: 69 bits, easy to dictate. It must be changed at first login."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_INITIAL_LENGTH))
