"""Names and secrets made of randomness, and the digest under which a secret is kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets

_NOBODY = b"\0" * 32


def new_id(prefix: str) -> str:
    """An opaque id of 128 random bits, for example `person-4f0c…`: it says nothing and cannot be guessed."""
    return f"{prefix}-{secrets.token_hex(16)}"


def new_secret() -> str:
    """A replication secret: 256 random bits, in characters that are safe in URLs."""
    return secrets.token_urlsafe(32)


def secret_digest(secret: str | bytes) -> bytes:
    """How a replication secret is kept. Plain SHA-256: a slow hash guards guessable passwords, not 256 bits."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).digest()


def same_secret(secret: str | bytes, digest: bytes | None) -> bool:
    """Whether this is the secret kept as `digest`; None where nobody has one, which takes the same time."""
    return hmac.compare_digest(secret_digest(secret), _NOBODY if digest is None else digest)


def principal(person_id: str) -> str:
    """The CouchDB principal of a person, as it stands in the `_security` of their database."""
    return f"passbook:{person_id}"


def signing_key(text: str) -> tuple[str, bytes]:
    """Name and bytes of a key written as `NAME:BASE64`. Raises `ValueError` for one that will not do."""
    name, _, encoded = text.partition(":")
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) is None:
        raise ValueError("the name before the colon is missing, or has other characters than A-Z a-z 0-9 _ . -")
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("what follows the colon is not base64") from None
    if len(key) < 32:
        raise ValueError("the key has less than 32 bytes")
    return name, key
