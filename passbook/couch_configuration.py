"""CouchDB's configuration, changed over its own API: what it takes for it to accept the gateway's tokens.

Needs a server administrator's credentials, and nothing else in Passbook changes a configuration.
"""

from __future__ import annotations

import asyncio
import re
import time
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import msgspec
import structlog

from passbook import patience
from passbook.addresses import without_credentials
from passbook.errors import Refused, Unavailable

#: How the embedded server calls itself.
EMBEDDED_VENDOR = "Passbook embedded server"
JWT_HANDLER = "{chttpd_auth, jwt_authentication_handler}"
#: What CouchDB has where nothing is configured.
USUAL_HANDLERS = "{chttpd_auth, cookie_authentication_handler}, {chttpd_auth, default_authentication_handler}"
KEYS = "jwt_keys"
UP_WITHIN = 30.0  # seconds that a node has to come back after a restart
_GONE_WITHIN = 5.0  # seconds after which a node that was told to restart is taken to have done so
_REQUEST_SECONDS = 30.0
_PAUSE = 0.1
#: What a proxy answers for a node that went, or that it found hanging, while it was asked.
_OF_A_PROXY = (502, 503, 504)

log = structlog.get_logger()

BY_HAND = f"""\
Give PASSBOOK_COUCHDB_URL the user and password of a server administrator who may configure CouchDB; or put this
          into the local.ini of every node and restart it (docs/operators.md, "CouchDB", says how to make a key):
              [chttpd]
              authentication_handlers = {JWT_HANDLER}, {USUAL_HANDLERS}
              [jwt_keys]
              hmac:NAME = KEY_IN_BASE64
          and set PASSBOOK_COUCHDB_JWT_KEY=NAME:KEY_IN_BASE64."""


def untrusted(base: str, error: aiohttp.ClientSSLError) -> Refused:
    """What to raise where the CouchDB at `base` has no certificate that is trusted."""
    said = str(getattr(error, "certificate_error", None) or error.os_error)
    reason = re.sub(r"^\[SSL[^\]]*\] | \(_ssl\.c:\d+\)$", "", said)
    return Refused(
        f"CouchDB at {base} has no TLS that can be trusted: {reason}.",
        remedy="Name the file of an authority of your own in SSL_CERT_FILE; docs/operators.md, "
        '"TLS towards the servers".',
    )


class Server:
    """A CouchDB, asked as `async with Server(url, connect_seconds) as server`.

    With the credentials in `url`, if there are any.
    """

    def __init__(self, url: str, connect_seconds: float) -> None:
        parts = urlsplit(url)
        self.base = without_credentials(url).rstrip("/")
        self.administrator = parts.username is not None
        self._headers = {"Content-Type": "application/json"}
        if parts.username is not None:
            self._headers["Authorization"] = aiohttp.encode_basic_auth(
                unquote(parts.username), unquote(parts.password or ""), "utf-8"
            )
        self._connect_seconds = connect_seconds
        self._late = patience.Late(self.base)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Server:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        """Status and decoded body, whatever they are. Raises `Unavailable` if nothing answers."""
        headers = self._headers if token is None else {**self._headers, "Authorization": f"Bearer {token}"}
        data = None if body is None else msgspec.json.encode(body)
        for attempt in (1, 2):
            limits = aiohttp.ClientTimeout(
                total=_REQUEST_SECONDS, connect=self._connect_seconds, sock_read=patience.seconds(attempt)
            )
            try:
                with self._late.watched(method, path):
                    answer = await self._session.request(
                        method, self.base + path, data=data, headers=headers, timeout=limits
                    )
                async with answer:
                    status, said = answer.status, await answer.read()
                if attempt == 1 and status in _OF_A_PROXY:
                    continue
                break
            except aiohttp.ClientSSLError as error:
                raise untrusted(self.base, error) from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                # Behind one address another node may answer. Everything here can be repeated.
                if attempt == 1 and isinstance(error, aiohttp.SocketTimeoutError):
                    continue
                raise Unavailable(
                    f"CouchDB at {self.base} does not answer.",
                    remedy="Check that it runs and can be reached from here, and PASSBOOK_COUCHDB_URL.",
                ) from None
        try:
            return status, msgspec.json.decode(said)
        except msgspec.DecodeError:
            if status in _OF_A_PROXY:
                raise Unavailable(f"No CouchDB answers behind {self.base} ({status}).") from None
            raise Refused(
                f"What answers at {self.base} is no CouchDB.", remedy="Check host and port in PASSBOOK_COUCHDB_URL."
            ) from None

    async def nodes(self) -> tuple[list[str], list[str]]:
        """The nodes of the cluster that answer, and those that do not: they are away, or hang."""
        membership = await self._administer("GET", "/_membership")
        connected = set(membership["all_nodes"])
        members: list[str] = membership["cluster_nodes"] or ["_local"]
        if len(members) == 1:
            return members, []
        answers = await asyncio.gather(*(self._hangs_not(node) for node in members if node in connected))
        there = {node for node in answers if node}
        return [node for node in members if node in there], [node for node in members if node not in there]

    async def _hangs_not(self, node: str) -> str:
        """The node's name if it answers in time; other nodes take a minute or more to notice one that hangs."""
        try:
            async with asyncio.timeout(patience.NODE_SECONDS):
                status, _ = await self.ask("GET", f"/_node/{node}/_config/chttpd")
        except (TimeoutError, Unavailable):
            status = 0
        if status not in (0, 404, 412) and status < 500:
            return node
        log.warning("couchdb_node_does_not_answer", node=node, seconds=patience.NODE_SECONDS)
        return ""

    async def keys(self, node: str) -> dict[str, str]:
        """The keys that a node takes tokens of, by their names in the configuration."""
        found: dict[str, str] = await self._administer("GET", f"/_node/{node}/_config/{KEYS}", missing={})
        return found

    async def handlers(self, node: str) -> str:
        """How a node finds out who asks."""
        path = f"/_node/{node}/_config/chttpd/authentication_handlers"
        found: str = await self._administer("GET", path, missing=USUAL_HANDLERS)
        return found

    async def configure(self, node: str, section: str, key: str, value: str | None) -> None:
        """Set a value on a node, or with None take it out."""
        path = f"/_node/{node}/_config/{section}/{quote(key, safe='')}"
        if value is None:
            await self._administer("DELETE", path, missing="")
        else:
            await self._administer("PUT", path, value)

    async def configuration(self, node: str) -> dict[str, dict[str, str]]:
        """What is configured on a node, by section; what is not there is as CouchDB comes."""
        found: dict[str, dict[str, str]] = await self._administer("GET", f"/_node/{node}/_config")
        return found

    async def open_files(self, node: str) -> int:
        """How many files of databases a node has open."""
        found = await self._administer("GET", f"/_node/{node}/_stats/couchdb/open_os_files")
        return int(found["value"])

    async def restart(self, node: str) -> None:
        """Restart a node and wait until it answers again."""
        await self._administer("POST", f"/_node/{node}/_restart", {})
        # It answers before it stops, so it must be seen to be gone before it can be seen to be back.
        await self._until(node, False, _GONE_WITHIN)
        if not await self._until(node, True, UP_WITHIN):
            raise Unavailable(f"CouchDB's node {node} does not come back after a restart.")

    async def _until(self, node: str, answers: bool, within: float) -> bool:
        end = time.monotonic() + within
        while await self._answers(node) is not answers:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(_PAUSE)
        return True

    async def _answers(self, node: str) -> bool:
        try:
            return (await self.ask("GET", f"/_node/{node}/_system"))[0] == 200
        except (Unavailable, Refused):
            return False

    async def _administer(self, method: str, path: str, body: Any = None, *, missing: Any = None) -> Any:
        status, said = await self.ask(method, path, body)
        if status == 404 and missing is not None:
            return missing
        if status >= 400:
            reason = f": {said['reason']}" if isinstance(said, dict) and "reason" in said else ""
            raise Refused(
                f"CouchDB at {self.base} does not let itself be configured with these credentials "
                f"({method} {path} was answered {status}{reason}).",
                remedy=BY_HAND,
            )
        return said
