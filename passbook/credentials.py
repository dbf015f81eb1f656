"""Names and secrets made of randomness, and the digest under which a secret is kept."""

from __future__ import annotations

import hashlib
import secrets


def new_id(prefix: str) -> str:
    """An opaque id of 128 random bits, for example `person-4f0c…`: it says nothing and cannot be guessed."""
    return f"{prefix}-{secrets.token_hex(16)}"


def new_secret() -> str:
    """A replication secret: 256 random bits, in characters that are safe in URLs."""
    return secrets.token_urlsafe(32)


def secret_digest(secret: str | bytes) -> bytes:
    """How a replication secret is kept. Plain SHA-256: a slow hash guards guessable passwords, not 256 bits."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).digest()


def principal(person_id: str) -> str:
    """The CouchDB principal of a person, as it stands in the `_security` of their database."""
    return f"passbook:{person_id}"
