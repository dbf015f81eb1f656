"""How the gateway speaks to CouchDB: as the one person whose device asks, never as an administrator.

CouchDB takes a short JSON Web Token signed with a key that its configuration holds, and compares its subject with
the `_security` of the database. So a request that went to the wrong database by a mistake of the gateway's is refused
by CouchDB as well. The embedded server has no such thing: there the gateway uses its credentials.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import msgspec
import structlog
from joserfc import jwt
from joserfc.jwk import OctKey

from passbook.credentials import principal
from passbook.errors import Refused, Unavailable
from passbook.preparation import EMBEDDED_VENDOR
from passbook.settings import without_credentials

log = structlog.get_logger()

_HANDLER = "{chttpd_auth, jwt_authentication_handler}"
#: What CouchDB has where nothing is configured.
_HANDLERS = "{chttpd_auth, cookie_authentication_handler}, {chttpd_auth, default_authentication_handler}"
_KEY = re.compile(r"hmac:(passbook-[0-9a-f]{16})")
_SECONDS = 300  # that a token is good for: it is looked at when a request begins
_REMEMBERED = 10_000
_UP_WITHIN = 30.0


class CouchAccess:
    """Makes tokens, each for one person and nothing else."""

    def __init__(self, kid: str, key: bytes) -> None:
        self._kid = kid
        self._key = OctKey.import_key(key)
        self._made: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def token(self, person_id: str) -> str:
        """A token with which CouchDB takes the bearer for this person's principal.

        It carries no role, and there is no way to ask for one: `_admin` in a signed token makes an administrator.
        """
        known = self._made.get(person_id)
        now = time.time()
        if known is not None and known[1] - now > _SECONDS / 2:
            return known[0]
        expires = int(now) + _SECONDS
        claims: dict[str, Any] = {
            "sub": principal(person_id),
            "iss": "passbook",
            "exp": expires,
            "_couchdb.roles": [],
        }
        made = jwt.encode({"alg": "HS256", "typ": "JWT", "kid": self._kid}, claims, self._key, algorithms=["HS256"])
        self._made[person_id] = (made, expires)
        self._made.move_to_end(person_id)
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)
        return made


async def prepare(couchdb_url: str, *, connect_seconds: float) -> tuple[CouchAccess | None, str]:
    """Access for the gateway, and a word on what was done for it; None for the embedded server.

    Puts a key into CouchDB's configuration, on every node, if there is none, and switches tokens on, for which
    CouchDB restarts (once, within a second or so). Needs the credentials of a server administrator. Raises
    `Unavailable` or `Refused`.
    """
    async with _Administration(couchdb_url, connect_seconds) as server:
        welcome = await server.ask("GET", "/")
        if welcome.get("vendor", {}).get("name") == EMBEDDED_VENDOR:
            return None, "embedded server: its own credentials"
        membership = await server.ask("GET", "/_membership")
        nodes: list[str] = membership.get("cluster_nodes") or ["_local"]
        kid, key = await _key(server, nodes)
        restarted = [node for node in nodes if await _switch_on(server, node)]
        for node in restarted:
            log.warning("CouchDB restarts to take tokens", node=node)
            await server.restart(node)
        access = CouchAccess(kid, key)
        await _prove(server, access)
    return access, "prepared, CouchDB restarted for it" if restarted else "tokens of one person each"


async def _key(server: _Administration, nodes: list[str]) -> tuple[str, bytes]:
    """The newest of our keys, on every node; made if there is none."""
    found: dict[str, str] = {}
    having: dict[str, dict[str, str]] = {}
    for node in nodes:
        having[node] = await server.ask("GET", f"/_node/{node}/_config/jwt_keys", missing={})
        found |= {name: value for name, value in having[node].items() if _KEY.fullmatch(name)}
    if not found:
        name = f"hmac:passbook-{secrets.token_hex(8)}"
        found = {name: base64.b64encode(secrets.token_bytes(32)).decode()}
    name = max(found)
    for node in nodes:
        if having[node].get(name) != found[name]:
            await server.configure(node, "jwt_keys", name, found[name])
    match = _KEY.fullmatch(name)
    if match is None:
        raise AssertionError(name)
    return match[1], base64.b64decode(found[name])


async def _switch_on(server: _Administration, node: str) -> bool:
    """Whether tokens had to be switched on, which takes a restart of the node."""
    path = f"/_node/{node}/_config/chttpd/authentication_handlers"
    handlers: str = await server.ask("GET", path, missing=_HANDLERS)
    if "jwt_authentication_handler" in handlers:
        return False
    await server.configure(node, "chttpd", "authentication_handlers", f"{_HANDLER}, {handlers}")
    return True


async def _prove(server: _Administration, access: CouchAccess) -> None:
    name = "proof"
    session = await server.ask("GET", "/_session", token=access.token(name))
    if session.get("userCtx", {}).get("name") != principal(name) or session["userCtx"].get("roles"):
        raise Refused(
            "CouchDB does not take the gateway's tokens for what they say.",
            remedy="Look at [jwt_auth] and [chttpd] authentication_handlers in its configuration; "
            "docs/operators.md says what they must be.",
        )


class _Administration:
    """CouchDB with an administrator's credentials, for the few requests that prepare it."""

    def __init__(self, url: str, connect_seconds: float) -> None:
        parts = urlsplit(url)
        self._base = without_credentials(url).rstrip("/")
        self._basic = aiohttp.encode_basic_auth(
            unquote(parts.username or ""), unquote(parts.password or ""), "utf-8"
        )
        self._timeout = aiohttp.ClientTimeout(total=30, connect=connect_seconds)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> _Administration:
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: Any = None, *, missing: Any = None, token: str | None = None
    ) -> Any:
        headers = {"Authorization": self._basic if token is None else f"Bearer {token}"}
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(method, self._base + path, data=data, headers=headers) as answer:
                said = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise Unavailable(
                f"CouchDB at {self._base} does not answer.",
                remedy="Check that it runs and can be reached from here, and PASSBOOK_COUCHDB_URL.",
            ) from None
        if answer.status == 404 and missing is not None:
            return missing
        if answer.status >= 400 and token is None:
            raise Refused(
                f"CouchDB at {self._base} answered {answer.status} to {method} {path}.",
                remedy="PASSBOOK_COUCHDB_URL needs user and password of a server administrator.",
            )
        try:
            return msgspec.json.decode(said)
        except msgspec.DecodeError:
            raise Refused(f"What answers at {self._base} is no CouchDB.") from None

    async def configure(self, node: str, section: str, key: str, value: str) -> None:
        await self.ask("PUT", f"/_node/{node}/_config/{section}/{quote(key, safe='')}", value)

    async def restart(self, node: str) -> None:
        """Restart a node and wait until it answers again."""
        await self.ask("POST", f"/_node/{node}/_restart", {})
        # It answers before it stops: only a question that came after can tell.
        await asyncio.sleep(0.5)
        end = time.monotonic() + _UP_WITHIN
        while True:
            try:
                await self.ask("GET", "/_up", missing={})
                return
            except Unavailable:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)
