"""Sealing a secret under a key that is kept elsewhere: AES-256-GCM, the key derived with HKDF (RFC 5869)."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from passbook.errors import Refused

_NONCE = 12


def seal(key: str, secret: bytes, purpose: str) -> bytes:
    """`secret`, unreadable without `key`. `purpose` is bound to it: the seal opens for no other."""
    nonce = secrets.token_bytes(_NONCE)
    return nonce + AESGCM(derived(key, purpose)).encrypt(nonce, secret, purpose.encode())


def unseal(key: str, sealed: bytes, purpose: str) -> bytes:
    """What was sealed. Raises `Refused` for another key or purpose, or a seal that was tampered with."""
    try:
        return AESGCM(derived(key, purpose)).decrypt(sealed[:_NONCE], sealed[_NONCE:], purpose.encode())
    except InvalidTag:
        raise Refused("This was sealed with another key.", code="sealed_otherwise") from None


def derived(key: str, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose."""
    return HKDF(SHA256(), 32, salt=None, info=b"passbook seal " + purpose.encode()).derive(key.encode())
