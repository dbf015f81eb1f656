"""Ordering a device to throw its copy away: signed, for one device, good once.

The order waits until the device comes: the gateway hands it over with the 401 that says `revoked`. A device
believes no other. It checks the signature with the key it was given when it was registered, and that the order is
for itself and new. So neither a bare 401, nor somebody in the middle, can make it lose anything.
"""

from __future__ import annotations

import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey
from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.postgresql import insert

from auth_service import devices, keys
from auth_service.devices import Device
from passbook.audit.chain import Actor, record
from passbook.audit.events import WipeOrdered
from passbook.credentials import new_id
from passbook.errors import Conflict, Refused
from passbook.servicedb.tables import device, wipe_order

#: What the order says it is, so that no other signed statement of ours can be taken for one.
TYPE = "passbook-wipe+jwt"


def order(connection: Connection, by: Actor, device_id: str, *, secret: str, issuer: str, reason: str) -> Device:
    """Order a device to wipe that is revoked already; an order that stands stays as it is.

    Other devices of its phone that were revoked together with it get one each: the app may be using any of them.
    To be called in a transaction of its own, after that of `devices.revoke`: a device that cannot be ordered is to
    be revoked all the same. Raises `NotFound`, and `Conflict` for a device that believes no key, or a lost one.
    """
    revoked = devices.show(connection, device_id)
    if revoked.state != "revoked":
        raise Conflict("This device is not revoked.", remedy="Revoke it first.", code="not_revoked")
    row = connection.execute(select(device).where(device.c.id == device_id)).one()
    if row.wipe_kid is None:
        raise Conflict(
            "This device was registered before there were wipe orders, and would not believe one. It is revoked.",
            remedy="It keeps what it has until its app is removed.",
            code="no_wipe_key",
        )
    try:
        key = keys.private_key(connection, row.wipe_kid, secret)
    except Refused:
        raise Conflict(
            "The key that this device believes is sealed with another secret than this process has. It is revoked.",
            remedy="Give this process the PASSBOOK_AUTH_SECRET that it had. If that is lost, the device cannot be "
            "ordered any more; after `passbook auth rotate-keys` those registered from then on can.",
            code="no_wipe_key",
        ) from None
    _order(connection, by, row, key, issuer=issuer, reason=reason)
    for other in connection.execute(
        select(device).where(
            device.c.person_id == row.person_id,
            device.c.installation == row.installation,
            device.c.revoked_at == row.revoked_at,
            device.c.wipe_kid == row.wipe_kid,
            device.c.id != device_id,
        )
    ):
        _order(connection, by, other, key, issuer=issuer, reason=reason)
    return devices.show(connection, device_id)


def _order(connection: Connection, by: Actor, one: Row[Any], key: ECKey, *, issuer: str, reason: str) -> None:
    nonce = new_id("wipe")
    claims = {
        "iss": issuer,
        "aud": one.id,
        "sub": one.id,
        "jti": nonce,
        "iat": int(time.time()),
        "act": "wipe",
    }
    statement = jwt.encode(
        {"alg": keys.ALGORITHM, "typ": TYPE, "kid": one.wipe_kid},
        claims,
        key,
        algorithms=[keys.ALGORITHM],
    )
    ordered = connection.execute(
        insert(wipe_order)
        .values(device_id=one.id, nonce=nonce, statement=statement)
        .on_conflict_do_nothing()
        .returning(wipe_order.c.nonce)
    ).scalar()
    if ordered is not None:
        record(connection, by, WipeOrdered(person=one.person_id, device=one.id), reason=reason)
