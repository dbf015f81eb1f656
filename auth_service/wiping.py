"""Ordering a device to throw its copy away: signed, for one device, good once.

The order waits until the device comes: the gateway hands it over with the 401 that says `revoked`. A device
believes no other. It checks the signature with the key it was given when it was registered, and that the order is
for itself and new. So neither a bare 401, nor somebody in the middle, can make it lose anything.
"""

from __future__ import annotations

import time

from joserfc import jwt
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from auth_service import devices, keys
from auth_service.devices import Device
from passbook.audit.chain import Actor, record
from passbook.audit.events import WipeOrdered
from passbook.credentials import new_id
from passbook.errors import Conflict
from passbook.servicedb.tables import device, wipe_order

#: What the order says it is, so that no other signed statement of ours can be taken for one.
TYPE = "passbook-wipe+jwt"


def order(connection: Connection, by: Actor, device_id: str, *, secret: str, issuer: str, reason: str) -> Device:
    """Revoke a device and order it to wipe; an order that stands already stays as it is.

    Raises `NotFound`, `Conflict` for a device that was registered without a key to believe, and `Refused` when the
    key is sealed with another secret.
    """
    revoked = devices.revoke(connection, by, device_id, reason=reason)
    kid = connection.execute(select(device.c.wipe_kid).where(device.c.id == device_id)).scalar()
    if kid is None:
        raise Conflict(
            "This device was registered before there were wipe orders, and would not believe one.",
            remedy="Revoke it; it keeps what it has until its app is removed.",
            code="no_wipe_key",
        )
    nonce = new_id("wipe")
    claims = {
        "iss": issuer,
        "aud": device_id,
        "sub": device_id,
        "jti": nonce,
        "iat": int(time.time()),
        "act": "wipe",
    }
    statement = jwt.encode(
        {"alg": keys.ALGORITHM, "typ": TYPE, "kid": kid},
        claims,
        keys.private_key(connection, kid, secret),
        algorithms=[keys.ALGORITHM],
    )
    ordered = connection.execute(
        insert(wipe_order)
        .values(device_id=device_id, nonce=nonce, statement=statement)
        .on_conflict_do_nothing()
        .returning(wipe_order.c.nonce)
    ).scalar()
    if ordered is not None:
        record(connection, by, WipeOrdered(person=revoked.person, device=device_id), reason=reason)
    return devices.show(connection, device_id)
