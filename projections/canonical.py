"""The canonical form of a document, and its digest.

Canonical is JSON with sorted keys, without `_id`, `_rev` and attachments. The same bytes are digested, compared
and sent, so a body read back from CouchDB has our digest exactly when nobody changed it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(order="sorted")


def encode(document: Any) -> bytes:
    """Canonical bytes of a document model, or of a plain mapping read back from CouchDB."""
    return _ENCODER.encode(document)


def digest(body: bytes) -> bytes:
    """SHA-256 of canonical bytes."""
    return hashlib.sha256(body).digest()


def digest_of(stored: dict[str, Any]) -> bytes:
    """Digest of a document as CouchDB returns it; its reserved fields (`_id`, `_rev`, …) are left aside."""
    return digest(encode({key: value for key, value in stored.items() if not key.startswith("_")}))
