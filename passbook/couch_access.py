"""How the gateway speaks to CouchDB: as the one person whose device asks, never as an administrator.

CouchDB takes a short JSON Web Token signed with a key that its configuration holds, and compares its subject with
the `_security` of the database. So a request that went to the wrong database by a mistake of the gateway's is
refused by CouchDB as well. The embedded server has no such thing: there the gateway uses its credentials.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from joserfc import jwt
from joserfc.jwk import OctKey

from passbook.couch_configuration import BY_HAND, EMBEDDED_VENDOR, JWT_HANDLER, KEYS, UP_WITHIN, Server
from passbook.credentials import principal, signing_key
from passbook.errors import PassbookError, Refused

log = structlog.get_logger()

#: Keys that Passbook made: the time stands first, so that the newest sorts last.
_OURS = re.compile(r"hmac:(passbook-\d{10}-[0-9a-f]{8})")
#: Ids of people, and nothing that CouchDB could take for a name of its own.
_PERSON = re.compile(r"person-[a-z0-9-]{1,80}")
#: Nobody's: to try out whether CouchDB takes tokens.
NOBODY = "person-" + "0" * 32
_SECONDS = 300  # that a token is good for: it is looked at when a request begins
_REMEMBERED = 10_000
#: Seconds between two looks for a newer key.
LOOK_EVERY = 20.0
#: Seconds between two attempts to mend access that CouchDB refuses.
_MEND_EVERY = 5.0
#: Seconds within which a key that was just configured must be taken.
_KEY_WITHIN = 5.0

Key = tuple[str, bytes]


class CouchAccess:
    """Makes tokens, each for one person and nothing else."""

    def __init__(
        self,
        key: Key,
        *,
        newest: Callable[[], Awaitable[Key | None]] | None = None,
        mend: Callable[[], Awaitable[Key]] | None = None,
    ) -> None:
        """`newest` tells which key is to be used now; `mend` makes CouchDB take tokens again."""
        self._newest, self._mend = newest, mend
        self._mending = asyncio.Lock()
        self._mended_at = float("-inf")
        self._made: OrderedDict[str, tuple[str, float]] = OrderedDict()
        #: Counts the changes of the key, and the times that every token was made anew.
        self.generation = 0
        self._use(key)

    @property
    def kid(self) -> str:
        """The name of the key in use."""
        return self._kid

    def token(self, person_id: str) -> str:
        """A token with which CouchDB takes the bearer for this person's principal.

        It carries no role, and there is no way to ask for one: `_admin` in a signed token makes an administrator.
        Raises `ValueError` for whatever is no person's id.
        """
        if _PERSON.fullmatch(person_id) is None:
            raise ValueError("a token is made for a person only")
        now = time.time()
        known = self._made.get(person_id)
        # The second condition: a clock that was set back would otherwise make it last for ever.
        if known is not None and _SECONDS / 2 < known[1] - now <= _SECONDS:
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

    async def renewed(self, generation: int) -> bool:
        """After CouchDB refused a token of this generation: whether another attempt is worth while.

        Whoever comes first looks for a newer key or mends the configuration; the others wait for that.
        """
        async with self._mending:
            if generation != self.generation:
                return True
            if time.monotonic() - self._mended_at < _MEND_EVERY:
                return False
            self._mended_at = time.monotonic()
            try:
                key = await self._mend() if self._mend else (self._kid, self._key.raw_value)
            except PassbookError as error:
                log.error("couchdb_access_lost", error=error.message)
                return False
            log.warning("couchdb_access_renewed", kid=key[0])
            self._use(key)
            return True

    async def keep(self) -> None:
        """Take up newer keys as they come, for ever."""
        while self._newest is not None:
            await asyncio.sleep(LOOK_EVERY)
            try:
                key = await self._newest()
            except PassbookError as error:
                log.warning("couchdb_key_not_read", error=error.message)
                continue
            if key is not None and key[0] != self._kid:
                log.info("couchdb_key_changed", kid=key[0])
                self._use(key)

    def _use(self, key: Key) -> None:
        self._kid, self._key = key[0], OctKey.import_key(key[1])
        self._made.clear()
        self.generation += 1


async def prepare(couchdb_url: str, *, connect_seconds: float, key: str = "") -> tuple[CouchAccess | None, str]:
    """Access for the gateway, and a word on what was done for it; None for the embedded server.

    Puts a key into CouchDB's configuration, on every node, if there is none, and switches tokens on, for which
    CouchDB restarts once, within a second or two. `key` (`NAME:BASE64`) is used instead of one made here; if
    CouchDB takes it as it is, no administrator's credentials are needed. Raises `Unavailable` or `Refused`.
    """
    given = signing_key(key) if key else None
    async with Server(couchdb_url, connect_seconds) as server:
        if await _embedded(server):
            return None, "embedded server: its own credentials"
        administrator = server.administrator
        refusal = "no key is given" if given is None else await _verdict(server, CouchAccess(given))
        if given is not None and not refusal:
            used, done = given, ["with the given key"]
        elif administrator:
            used, done = await _configured(server, given)
        else:
            raise Refused(
                f"CouchDB at {server.base} does not take the gateway's tokens: {refusal}.", remedy=BY_HAND
            )

    async def newest() -> Key | None:
        async with Server(couchdb_url, connect_seconds) as server:
            return _newest(await server.keys("_local"))

    async def mend() -> Key:
        async with Server(couchdb_url, connect_seconds) as server:
            return (await _configured(server, given))[0]

    access = CouchAccess(used, newest=None if given else newest, mend=mend if administrator else None)
    return access, ", ".join(["one person at a time", *done])


async def keep(couchdb_url: str, *, connect_seconds: float, key: str = "") -> list[str]:
    """As `prepare`, on every node even if the one that answers is in order; what had to be done, mostly nothing."""
    async with Server(couchdb_url, connect_seconds) as server:
        if await _embedded(server):
            return []
        return (await _configured(server, signing_key(key) if key else None))[1]


async def rotate(couchdb_url: str, *, connect_seconds: float, overlap: float) -> dict[str, Any]:
    """A new key on every node, and after `overlap` seconds the old ones out; says which.

    Gateways take the new one up within `LOOK_EVERY` seconds, or as soon as CouchDB refuses the old one.
    """
    async with Server(couchdb_url, connect_seconds) as server:
        if await _embedded(server):
            raise Refused("The embedded server takes no tokens: there is no key to change.")
        if not server.administrator:
            raise Refused("PASSBOOK_COUCHDB_URL has no credentials.", remedy=BY_HAND)
        nodes, away = await server.nodes()
        if away:
            # It would come back with the old key alone, and with one that should be gone.
            raise Refused(f"Not every node of CouchDB can be reached: {', '.join(away)}.")
        name, value = _new()
        for node in nodes:
            await server.configure(node, KEYS, name, value)
        await _accepted(server, CouchAccess(_opened(name, value)), len(nodes), _KEY_WITHIN)
        log.info("couchdb_key_added", kid=name)
        await asyncio.sleep(overlap)
        removed = set()
        for node in nodes:
            for old in await server.keys(node):
                if _OURS.fullmatch(old) and old < name:
                    await server.configure(node, KEYS, old, None)
                    removed.add(old)
        return {"key": name, "removed": sorted(removed), "nodes": nodes}


async def _embedded(server: Server) -> bool:
    _, welcome = await server.ask("GET", "/")
    vendor = welcome.get("vendor") if isinstance(welcome, dict) else None
    return isinstance(vendor, dict) and vendor.get("name") == EMBEDDED_VENDOR


async def _configured(server: Server, given: Key | None) -> tuple[Key, list[str]]:
    """See to it that CouchDB takes tokens; the key to use, and what had to be done."""
    done: list[str] = []
    nodes, away = await server.nodes()
    if away:
        log.warning("couchdb_nodes_away", nodes=away)
    key, added = await _key(server, nodes, given)
    if added:
        done.append("a key was added")
    switched = [node for node in nodes if await _switch_on(server, node)]
    access = CouchAccess(key)
    verdict = await _verdict(server, access)
    if switched or verdict == _IGNORED:
        # The second: somebody configured it and did not get as far as the restart.
        for node in switched or nodes:
            log.warning("couchdb_restarts_to_take_tokens", node=node)
            await server.restart(node)
        done.append("tokens were switched on, CouchDB restarted")
    await _accepted(server, access, len(nodes), UP_WITHIN if switched else _KEY_WITHIN)
    return key, done


async def _key(server: Server, nodes: list[str], given: Key | None) -> tuple[Key, bool]:
    """The given key, or the newest of ours, on every node, and whether it was missing anywhere.

    It is made if there is none. Two gateways may do so at once: both keys are good, and both gateways will find
    the newer one.
    """
    having = {node: await server.keys(node) for node in nodes}
    if given is not None:
        name, value = f"hmac:{given[0]}", base64.b64encode(given[1]).decode()
    else:
        found = {name: value for keys in having.values() for name, value in keys.items() if _OURS.fullmatch(name)}
        name, value = max(found.items()) if found else _new()
    missing = [node for node in nodes if having[node].get(name) != value]
    for node in missing:
        await server.configure(node, KEYS, name, value)
    return _opened(name, value), bool(missing)


def _new() -> tuple[str, str]:
    name = f"hmac:passbook-{int(time.time()):010}-{secrets.token_hex(4)}"
    return name, base64.b64encode(secrets.token_bytes(32)).decode()


def _newest(keys: dict[str, str]) -> Key | None:
    ours = {name: value for name, value in keys.items() if _OURS.fullmatch(name)}
    return _opened(*max(ours.items())) if ours else None


def _opened(name: str, value: str) -> Key:
    return name.removeprefix("hmac:"), base64.b64decode(value)


async def _switch_on(server: Server, node: str) -> bool:
    """Whether tokens had to be switched on, which takes a restart of the node."""
    handlers = await server.handlers(node)
    if "jwt_authentication_handler" in handlers:
        return False
    await server.configure(node, "chttpd", "authentication_handlers", f"{JWT_HANDLER}, {handlers}")
    return True


_IGNORED = "it takes the bearer of a token for nobody"


async def _verdict(server: Server, access: CouchAccess) -> str:
    """Why CouchDB does not take tokens for what they say; empty if it does."""
    status, said = await server.ask("GET", "/_session", token=access.token(NOBODY))
    said = said if isinstance(said, dict) else {}
    if status == 401 and "exp" not in str(said.get("reason")):
        return _IGNORED  # where it lets nobody in without a name
    if status != 200:
        return str(said.get("reason") or f"it answered {status}")
    user = said.get("userCtx", {})
    if user.get("name") is None:
        return _IGNORED
    if user.get("name") != principal(NOBODY) or user.get("roles"):
        return "it takes the bearer of a token for somebody else, or gives them roles"
    return ""


async def _accepted(server: Server, access: CouchAccess, nodes: int, within: float) -> None:
    """Wait until tokens are taken, every time: behind one address several nodes may answer in turn."""
    end = time.monotonic() + within
    taken = 0
    while taken < 2 * nodes - 1:
        verdict = await _verdict(server, access)
        taken = taken + 1 if not verdict else 0
        if verdict and time.monotonic() > end:
            raise Refused(
                f"CouchDB at {server.base} does not take the gateway's tokens: {verdict}.",
                remedy="Look at [jwt_auth] and [chttpd] authentication_handlers in its configuration, and at the "
                'clocks of both machines; docs/operators.md, "CouchDB", says what they must be.',
            )
        if verdict:
            await asyncio.sleep(0.1)
