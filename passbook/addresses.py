"""Addresses of servers as operators write them: which can be used, and what of one may be shown."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote, urlsplit, urlunsplit

HIDDEN = "***"

#: From the scheme to the last @ of the word. A password that nobody encoded may hold / and @ itself.
_CREDENTIALS = re.compile(r"(\w[\w+.-]*://)\S*@")
_SECRET_PARAMETERS = re.compile(r"([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def hide_credentials(text: str) -> str:
    """`text` with the credentials of every address in it blanked: what stands before the last `@`, and
    parameters that are named like secrets."""
    if "://" not in text:
        return text
    return _SECRET_PARAMETERS.sub(rf"\1{HIDDEN}", _CREDENTIALS.sub(rf"\1{HIDDEN}@", text))


def without_credentials(address: str) -> str:
    """`address` without user name, password and parameters, fit for messages and logs."""
    scheme, separator, rest = address.partition("://")
    try:
        parts = urlsplit(f"{scheme}{separator}{rest.rpartition('@')[2]}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{scheme}{separator}{HIDDEN}"
    if ":" in host:
        host = f"[{host}]"
    return urlunsplit((parts.scheme, f"{host}:{port}" if port else host, parts.path, "", ""))


def can_be_misread(address: str) -> bool:
    """Whether its credentials hold a character that must be percent-encoded.

    Readers disagree on where such credentials end: part of the password would be taken for a host, and shown.
    """
    scheme, _, rest = address.partition("://")
    credentials = rest.rpartition("@")[0]
    # In http all readers take the last @; SQLAlchemy takes the first.
    forbidden = "/?#[]" if scheme in ("http", "https") else "/?#[]@"
    return any(letter in forbidden or letter.isspace() for letter in credentials)


def with_login(address: str, user: str, password: str) -> str:
    """`address` with these credentials, encoded; an empty one leaves what the address has."""
    scheme, _, rest = address.partition("://")
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    known, _, host = rest[:end].rpartition("@")
    known_user, colon, known_password = known.partition(":")
    name = quote(user, safe="") if user else known_user
    secret = f":{quote(password, safe='')}" if password else f"{colon}{known_password}"
    return f"{scheme}://{name}{secret}@{host}{rest[end:]}" if name else address


def is_in_clear(address: str) -> bool:
    """Whether what is sent to an address travels over a network without TLS. Loopback is no network."""
    parts = urlsplit(address)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
