"""Access tokens: JSON Web Tokens after RFC 9068, of one algorithm, checked strictly.

A token says whose session it is; whether the session still goes on, the service database says at every request. So
a token is worth nothing the moment the session ends, and the signature keeps made-up session ids out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import extract_compact

from auth_service.keys import ALGORITHM, Keyring
from passbook.credentials import new_id

#: `aud` of people's tokens, and of administrators'.
PEOPLE: Final = "passbook"
ADMINISTRATORS: Final = "passbook-admin"
_TYPE = "at+jwt"
_LONGEST = 2048
_CLOCKS_DIFFER = 5  # seconds that the clocks of two auth processes may be apart


@dataclass(frozen=True)
class Claims:
    """What a token that holds says."""

    subject: str
    session: str
    audience: str
    #: Its own id.
    id: str = ""


class Tokens:
    """Makes and checks access tokens."""

    def __init__(self, keyring: Keyring, *, issuer: str, seconds: int) -> None:
        self._keyring = keyring
        self._issuer = issuer
        self.seconds = seconds

    def make(self, *, subject: str, session: str, audience: str, token_id: str = "") -> str:
        """A token of this session; `token_id` is its `jti`, one of its own if empty."""
        kid, key = self._keyring.signing()
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "sub": subject,
            "sid": session,
            "client_id": audience,
            "iat": now,
            "exp": now + self.seconds,
            "jti": token_id or new_id("token"),
        }
        return jwt.encode({"alg": ALGORITHM, "typ": _TYPE, "kid": kid}, claims, key, algorithms=[ALGORITHM])

    def check(self, token: str) -> Claims | None:
        """What the token says, or None for one that does not hold for any reason at all."""
        if len(token) > _LONGEST or not token.isascii():
            return None
        try:
            header = extract_compact(token.encode()).headers()
            if not isinstance(header, dict):  # joserfc lets `["alg"]` pass
                return None
            kid = header.get("kid")
            if header.get("alg") != ALGORITHM or header.get("typ") != _TYPE or not isinstance(kid, str):
                return None
            # Only these; `jwk`, `jku`, `x5u`, `crit` would let the sender choose the key or the rules.
            if header.keys() - {"alg", "typ", "kid"}:
                return None
            key = self._keyring.verifying(kid)
            if key is None:
                return None
            claims = jwt.decode(token, key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError, TypeError, UnicodeError, RecursionError):
            # The last for JSON nested deeper than it can be read, which anybody may send.
            return None
        return self._accepted(claims)

    def _accepted(self, claims: dict[str, Any]) -> Claims | None:
        now = time.time()
        issued, expires = claims.get("iat"), claims.get("exp")
        # `bool` is an `int` to Python, and a text after every number to Erlang: whole numbers, nothing else.
        if type(issued) is not int or type(expires) is not int:
            return None
        if claims.get("iss") != self._issuer or claims.get("aud") not in (PEOPLE, ADMINISTRATORS):
            return None
        if not issued - _CLOCKS_DIFFER <= now < expires or expires - issued > self.seconds + _CLOCKS_DIFFER:
            return None
        subject, session = claims.get("sub"), claims.get("sid")
        if not isinstance(subject, str) or not isinstance(session, str):
            return None
        token_id = claims.get("jti")
        return Claims(subject, session, claims["aud"], token_id if isinstance(token_id, str) else "")
