"""The keys that sign access tokens: made, sealed, rotated, and read again when another process has rotated them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from joserfc.jwk import ECKey
from sqlalchemy import Connection, func, insert, or_, select, text, update

from auth_service.sealing import seal, unseal
from passbook.audit.chain import Actor, record
from passbook.audit.events import SigningKeyRotated
from passbook.credentials import new_id
from passbook.errors import Refused
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import signing_key

ALGORITHM = "ES256"
PURPOSES = ("access", "wipe")
_CURVE = "P-256"
_ROTATION_LOCK = 0x7061736B
#: How long a process may go on with the keys it knows before it looks again, seconds.
REREAD_AFTER = 30.0
#: How often an unknown key id may make it look sooner, seconds: strangers invent key ids.
_LOOK_AGAIN_AFTER = 2.0


@dataclass(frozen=True)
class _Key:
    kid: str
    verifying: ECKey
    public: dict[str, Any]


def rotate(connection: Connection, by: Actor, secret: str, *, tokens_live: timedelta) -> str:
    """Make a new key, which signs from now on; its id. The one before verifies until its last token has expired.

    So nobody is logged out. Tokens of processes that have not looked yet are allowed for.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ROTATION_LOCK})
    until = func.now() + tokens_live + timedelta(seconds=2 * REREAD_AFTER)
    connection.execute(
        update(signing_key)
        .where(signing_key.c.retires_at.is_(None), signing_key.c.purpose == "access")
        .values(retires_at=until)
    )
    _renew_lost(connection, by, secret)
    return _make(connection, by, secret, "access")


def ensure(connection: Connection, by: Actor, secret: str) -> bool:
    """Make the first keys if there are none; whether there were none. Raises `Refused` for another secret."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ROTATION_LOCK})
    made = False
    for purpose in PURPOSES:
        newest = _newest(connection, purpose)
        if newest is None:
            _make(connection, by, secret, purpose)
            made = True
        elif purpose == "access":
            # The other is opened when an order is to be signed; without its secret everything else goes on.
            _opened(newest, secret)
    return made


def _renew_lost(connection: Connection, by: Actor, secret: str) -> None:
    """A new key for wipe orders, if the present one was sealed with a secret that is lost.

    Devices that are registered from now on believe it. Those that believe the lost one cannot be ordered any more.
    """
    newest = _newest(connection, "wipe")
    if newest is None:
        return
    try:
        _opened(newest, secret)
    except Refused:
        connection.execute(update(signing_key).where(signing_key.c.kid == newest.kid).values(retires_at=func.now()))
        _make(connection, by, secret, "wipe")


def wipe_key(connection: Connection) -> dict[str, Any] | None:
    """The public half of the key that signs wipe orders now, as a JSON Web Key; None before `passbook init`."""
    newest = _newest(connection, "wipe")
    return None if newest is None else dict(newest.public_jwk)


def private_key(connection: Connection, kid: str, secret: str) -> ECKey:
    """The key with this id, to sign with. Raises `Refused` for another secret."""
    row = connection.execute(select(signing_key).where(signing_key.c.kid == kid)).one()
    return _opened(row, secret)


class Keyring:
    """The keys as this process knows them. Safe to use from several threads."""

    def __init__(self, database: ServiceDatabase, secret: str) -> None:
        self._database = database
        self._secret = secret
        self._keys: dict[str, _Key] = {}
        self._signing: tuple[str, ECKey] | None = None
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def signing(self) -> tuple[str, ECKey]:
        """Id and private key to sign with. Raises `Unavailable` when they cannot be read and none are known."""
        self._refresh(REREAD_AFTER)
        if self._signing is None:
            raise Refused("There is no key to sign tokens with.", remedy="Run `passbook init`.")
        return self._signing

    def verifying(self, kid: str) -> ECKey | None:
        """The key with this id, or None."""
        self._refresh(REREAD_AFTER)
        if kid not in self._keys:
            self._refresh(_LOOK_AGAIN_AFTER)
        key = self._keys.get(kid)
        return key.verifying if key else None

    def public(self) -> dict[str, Any]:
        """The JSON Web Key Set that anybody may have (RFC 7517)."""
        self._refresh(REREAD_AFTER)
        return {"keys": [key.public for key in self._keys.values()]}

    def _refresh(self, age: float) -> None:
        if time.monotonic() - self._read_at < age:
            return
        with self._lock:
            if time.monotonic() - self._read_at < age:
                return
            with self._database.begin() as connection:
                rows = connection.execute(
                    select(signing_key)
                    .where(
                        signing_key.c.purpose == "access",
                        or_(signing_key.c.retires_at.is_(None), signing_key.c.retires_at > func.now()),
                    )
                    .order_by(signing_key.c.created_at.desc(), signing_key.c.kid)
                ).all()
            known = self._keys
            self._keys = {
                row.kid: known.get(row.kid) or _Key(row.kid, ECKey.import_key(row.public_jwk), row.public_jwk)
                for row in rows
            }
            newest = next((row for row in rows if row.retires_at is None), None)
            if newest is None:
                self._signing = None
            elif self._signing is None or self._signing[0] != newest.kid:
                # Only this one is opened: after the secret was lost, the keys before still verify.
                self._signing = newest.kid, _opened(newest, self._secret)
            self._read_at = time.monotonic()


def _newest(connection: Connection, purpose: str) -> Any:
    query = select(signing_key).where(signing_key.c.retires_at.is_(None), signing_key.c.purpose == purpose)
    return connection.execute(query.order_by(signing_key.c.created_at.desc()).limit(1)).one_or_none()


def _make(connection: Connection, by: Actor, secret: str, purpose: str) -> str:
    kid = new_id("key")
    key = ECKey.generate_key(_CURVE, private=True)
    public = {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": ALGORITHM}
    private = msgspec.json.encode(key.as_dict(private=True))
    connection.execute(
        insert(signing_key).values(
            kid=kid,
            purpose=purpose,
            public_jwk=public,
            sealed_private_key=seal(secret, private, kid),
            created_at=func.clock_timestamp(),
        )
    )
    record(connection, by, SigningKeyRotated(kid=kid, purpose=purpose))
    return kid


def _opened(row: Any, secret: str) -> ECKey:
    try:
        return ECKey.import_key(msgspec.json.decode(unseal(secret, bytes(row.sealed_private_key), row.kid)))
    except Refused:
        raise Refused(
            "The signing keys in the service database are sealed with another secret than this process has.",
            remedy="Give every process the same PASSBOOK_AUTH_SECRET (or the file auth-secret of the data "
            "directory where `passbook init` ran); if it is lost, `passbook auth rotate-keys`: everybody then "
            "gets new access tokens with their refresh tokens.",
            code="sealed_otherwise",
        ) from None
