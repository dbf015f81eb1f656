"""What a refresh token says about itself: that this service made it, and in which session.

A mark is made with a key of this service, so it is told from a made-up one without asking the database. It decides
only how a request is slowed, never whether a token holds: that is in the database alone. So a token from before
there were marks, or of another PASSBOOK_AUTH_SECRET, works as it did.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from auth_service.sealing import derived

#: Of the 256 bits of a digest so many characters are kept: 96 bits.
_LENGTH = 16


@dataclass(frozen=True)
class Marks:
    """Makes and reads marks with one key."""

    key: bytes

    @classmethod
    def of(cls, secret: str) -> Marks:
        """With a key that follows from PASSBOOK_AUTH_SECRET."""
        return cls(derived(secret, "refresh tokens"))

    def marked(self, token: str, session: str) -> str:
        """The token with its mark."""
        family = _short(hashlib.sha256(f"session {session}".encode()).digest())
        return token + family + self._tag(token + family)

    def family(self, token: str) -> str | None:
        """Of which session a token is: the same for all tokens of one; None where the mark does not hold."""
        body, tag = token[:-_LENGTH], token[-_LENGTH:]
        if len(body) <= _LENGTH or not hmac.compare_digest(
            self._tag(body).encode(), tag.encode("utf-8", "replace")
        ):
            return None
        return body[-_LENGTH:]

    def _tag(self, text: str) -> str:
        return _short(hmac.digest(self.key, text.encode("utf-8", "replace"), "sha256"))


def _short(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode()[:_LENGTH]
