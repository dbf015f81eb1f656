"""Reading HTTP Basic: the name and the secret that a device sends."""

from __future__ import annotations

import base64
import binascii

LONGEST_NAME = 200  # characters of a device id
LONGEST_HEADER = 2048  # characters of an Authorization header


def name_and_secret(authorization: list[str]) -> tuple[str, bytes]:
    """Name and secret; for anything malformed a name that no device has, so that it goes the same way."""
    nothing = "", b""
    if len(authorization) != 1 or len(authorization[0]) > LONGEST_HEADER:
        return nothing
    scheme, _, value = authorization[0].partition(" ")
    if scheme.lower() != "basic":
        return nothing
    try:
        name, colon, secret = base64.b64decode(value.strip(), validate=True).partition(b":")
        text = name.decode()
    except (binascii.Error, ValueError):
        return nothing
    if not colon or len(text) > LONGEST_NAME or not text.isprintable():
        return nothing
    return text, secret
