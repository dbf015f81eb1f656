"""Towards CouchDB: rebuilds the request, sends it as the person whose device asks, and understands the answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import aiohttp
import msgspec
import structlog
from aiohttp import web
from yarl import URL

from passbook import patience
from passbook.couch_access import NOBODY, CouchAccess
from passbook.freshness import in_words
from sync_gateway import routes
from sync_gateway.answers import Problem, answer, not_found, unavailable
from sync_gateway.credentials import Principal
from sync_gateway.delivery import ROUTE, STALLED_FOR, OthersFirst, Slots, begin, deliver, narrow_socket

__all__ = ["ROUTE", "STALLED_FOR", "Upstream"]

CONNECT_WITHIN = 5.0  # seconds
WAIT_WITHIN = 10.0  # seconds that a request waits for a free connection, and a large answer for its turn
SILENT_FOR = 30.0  # seconds without a byte of an answer that has begun: what is asked of CouchDB never waits
#: Seconds that this machine's clock and CouchDB's may differ: tokens are good for some minutes.
CLOCKS_WITHIN = 60.0
#: Of all connections, those that large answers may hold: the rest is for everybody else.
_FOR_LARGE = 0.75

_INFO_FIELDS = (
    "doc_count",
    "doc_del_count",
    "update_seq",
    "instance_start_time",
    "compact_running",
)
_NO_DATABASE = ("Database does not exist.", "no_db_file")


class _User(msgspec.Struct):
    name: str | None = None


class _Session(msgspec.Struct):
    """Whom CouchDB takes us for, or why it does not."""

    user: _User = msgspec.field(name="userCtx", default_factory=_User)
    reason: str = ""


log = structlog.get_logger()


class Upstream:
    """CouchDB, spoken to as the person whose device asks; without `access`, with the credentials in `url`."""

    def __init__(self, url: str, access: CouchAccess | None = None, *, connections: int = 100) -> None:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
        self._base = f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
        self._access = access
        self._connections = connections
        #: Of the embedded server, which takes nothing else.
        self._own = ""
        if access is None and parts.username is not None:
            self._own = aiohttp.encode_basic_auth(unquote(parts.username), unquote(parts.password or ""))
        #: How often CouchDB answered, by status.
        self.answers: Counter[str] = Counter()
        self._session: aiohttp.ClientSession | None = None
        self._late = patience.Late(self._base)
        self._keeping: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[bool] | None = None
        large = max(1, int(connections * _FOR_LARGE))
        self.slots = Slots(large, waiting=(connections - large) // 2, wait_within=WAIT_WITHIN)

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            # Idle feeds hold none; who finds all of them busy waits for a moment.
            connector=aiohttp.TCPConnector(limit=self._connections, socket_factory=narrow_socket),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent",),
        )
        if self._access is not None:
            self._keeping = asyncio.create_task(self._access.keep())

    async def close(self) -> None:
        for task in (self._keeping, self._mending):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._session is not None:
            await self._session.close()

    async def info(self, principal: Principal) -> web.Response:
        """What CouchDB says about the database, without its real name; whose it is, and how fresh."""
        upstream = await self._request(principal, "GET", self._url(principal, (), {}), {})
        async with upstream:
            await _raise_for_status(upstream, principal)
            beginning: deque[bytes] = deque()
            try:
                await begin(upstream, beginning)
                said = msgspec.json.decode(b"".join(beginning), type=dict[str, Any])
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                raise _unreachable(error) from None
        kept = {name: said[name] for name in _INFO_FIELDS if name in said}
        checked = principal.checked_at
        told = {"person": principal.person_id, **kept, "checked_at": checked and in_words(checked)}
        return answer({"db_name": routes.DATABASE, **told})

    async def failing(self, people: Sequence[Principal]) -> str:
        """Why devices cannot read from CouchDB; empty if they can. Tries it with a token, and as these people."""
        if self._access is not None and (reason := await self._tokens_refused(self._access)):
            # As for a device, CouchDB's configuration is mended where that may be done; nobody waits for it here.
            if self._mending is None or self._mending.done():
                self._mending = asyncio.create_task(self._access.renewed(self._access.generation))
            return reason
        refused: list[int] = []
        for principal in people:
            try:
                async with await self._request(principal, "GET", self._url(principal, (), {}), {}) as answer:
                    if answer.status in (200, 404):
                        return ""  # it is let in; that its database is there is the worker's task
                    refused.append(answer.status)
            except Problem:
                return "CouchDB does not answer."
        if not refused:
            return ""
        return f"CouchDB lets people into none of {len(refused)} databases of their own: it answers {refused[0]}."

    async def _tokens_refused(self, access: CouchAccess) -> str:
        """Why CouchDB takes no tokens; empty if it does."""
        try:
            authorization = f"Bearer {access.token(NOBODY)}"
            answer = await self._sent("GET", URL(f"{self._base}/_session"), {"Authorization": authorization}, None)
            async with answer:
                said = msgspec.json.decode(await answer.read(), type=_Session)
        except (Problem, aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            return "CouchDB does not answer."
        if answer.status == 200 and said.user.name is not None:
            return ""
        reason = f"CouchDB does not take the gateway's tokens: {said.reason or 'it takes them for nobody'}."
        with contextlib.suppress(KeyError, ValueError):
            ahead = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
            if abs(ahead) > CLOCKS_WITHIN:
                where = "ahead of" if ahead > 0 else "behind"
                reason += f" Its clock is {abs(ahead):.0f} seconds {where} this machine's."
        return reason

    async def forward(
        self, request: web.Request, match: routes.Match, principal: Principal, body: Any
    ) -> web.StreamResponse:
        """Ask CouchDB what the device asked, and pass the answer on."""
        try:
            return await self._forwarded(request, match, principal, body)
        except OthersFirst:
            async with self.slots.turn(principal.person_id):
                return await self._forwarded(request, match, principal, body, in_turn=True)

    async def _forwarded(
        self, request: web.Request, match: routes.Match, principal: Principal, body: Any, *, in_turn: bool = False
    ) -> web.StreamResponse:
        async with self.asked(
            request.method,
            match,
            principal,
            body,
            if_none_match=request.headers.get("If-None-Match"),
            multipart=_wants_multipart(request, match),
        ) as upstream:
            return await deliver(request, match, upstream, self.slots, principal.person_id, in_turn=in_turn)

    @asynccontextmanager
    async def asked(
        self,
        method: str,
        match: routes.Match,
        principal: Principal,
        body: Any,
        *,
        if_none_match: str | None = None,
        multipart: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """CouchDB's answer to a request made anew from its matched parts. Raises `Problem` for an error of it."""
        headers = {
            "Accept": "*/*" if match.route.attachment else "multipart/mixed" if multipart else "application/json",
            "Accept-Encoding": "identity",
        }
        if if_none_match is not None:
            headers["If-None-Match"] = if_none_match
        data = None
        if match.route.body is not None:
            data = msgspec.json.encode({} if body is None else body)
            headers["Content-Type"] = "application/json"
        url = self._url(principal, match.segments[1:], match.query)
        upstream = await self._request(principal, method, url, headers, data)
        async with upstream:
            await _raise_for_status(upstream, principal)
            yield upstream

    def _url(self, principal: Principal, segments: tuple[str, ...], query: dict[str, str]) -> URL:
        path = "/".join(quote(segment, safe="") for segment in (principal.database, *segments))
        search = urlencode(query, quote_via=quote)
        return URL(f"{self._base}/{path}{'?' if search else ''}{search}", encoded=True)

    async def _request(
        self, principal: Principal, method: str, url: URL, headers: dict[str, str], data: bytes | None = None
    ) -> aiohttp.ClientResponse:
        if self._access is None:
            return await self._sent(method, url, {**headers, "Authorization": self._own}, data)
        for last in (False, True):
            generation = self._access.generation
            authorization = f"Bearer {self._access.token(principal.person_id)}"
            upstream = await self._sent(method, url, {**headers, "Authorization": authorization}, data)
            if not await self._refuses_token(upstream, authorization):
                return upstream
            upstream.close()
            # Nothing was done yet: CouchDB looks at the token first. With a new one it can be asked again.
            if last or not await self._access.renewed(generation):
                break
        log.error("couchdb_refuses_tokens")
        raise unavailable()

    async def _refuses_token(self, upstream: aiohttp.ClientResponse, authorization: str) -> bool:
        """Whether this is an answer to our token and not to the request."""
        if upstream.status == 401:
            return True
        if upstream.status != 400:
            return False
        try:
            await upstream.read()  # which sets its connection free
        except BaseException:
            upstream.close()
            raise
        # A bad token and a bad request look alike. In this question nothing but the token can be wrong.
        session = await self._sent("GET", URL(f"{self._base}/_session"), {"Authorization": authorization}, None)
        async with session:
            return session.status in (400, 401)

    async def _sent(
        self, method: str, url: URL, headers: dict[str, str], data: bytes | None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise unavailable()
        # A connection that CouchDB was just closing shows only when it is used, and behind one address another node
        # may answer where one hangs. Reading twice does no harm.
        for attempt in (1, 2):
            try:
                got = await self._begun(method, url, headers, data, patience.seconds(attempt))
                self.answers[str(got.status)] += 1
                return got
            except (aiohttp.ServerDisconnectedError, aiohttp.SocketTimeoutError) as error:
                late = isinstance(error, aiohttp.SocketTimeoutError)
                if attempt == 2 or method == "PUT" or (method == "DELETE" and late):
                    raise _unreachable(error) from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _unreachable(error) from None
        raise unavailable()

    async def _begun(
        self, method: str, url: URL, headers: dict[str, str], data: bytes | None, within: float
    ) -> aiohttp.ClientResponse:
        """An answer that has begun; what follows of it may pause for longer than the beginning."""
        if self._session is None:
            raise unavailable()
        limits = aiohttp.ClientTimeout(
            total=None, connect=WAIT_WITHIN, sock_connect=CONNECT_WITHIN, sock_read=within
        )
        with self._late.watched(method, url.raw_path):
            got = await self._session.request(
                method, url, headers=headers, data=data, allow_redirects=False, timeout=limits
            )
        protocol = got.connection.protocol if got.connection is not None else None
        if protocol is not None:
            protocol.read_timeout = SILENT_FOR
            protocol.start_timeout()
        return got


def _wants_multipart(request: web.Request, match: routes.Match) -> bool:
    """Whether a document's revisions are to come with their attachments as they are: so CouchDB reads them."""
    return "open_revs" in match.query and request.headers.get("Accept", "").startswith("multipart/mixed")


def _unreachable(error: BaseException) -> Problem:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        log.error("couchdb_connections_busy")  # or, rarely, one that cannot be made
    else:
        log.error("couchdb_unavailable", error=type(error).__name__)
    return unavailable()


async def _raise_for_status(upstream: aiohttp.ClientResponse, principal: Principal) -> None:
    """Turn an error of CouchDB's into one of ours: same words, nothing else; our faults are not the device's."""
    status = upstream.status
    if status < 400:
        return
    if status in (401, 403):
        # This person is not let into this database: it is not theirs, or its `_security` is not what we set.
        log.error("couchdb_refused", status=status, person=principal.person_id)
        raise unavailable()
    if status >= 500:
        log.error("couchdb_failed", status=status)
        raise unavailable()
    error, reason = "bad_request", "CouchDB refused the request."
    try:
        said = msgspec.json.decode(await upstream.read(), type=dict[str, Any])
        error, reason = str(said["error"]), str(said["reason"])
    except (msgspec.DecodeError, aiohttp.ClientError, TimeoutError, KeyError):
        pass  # a HEAD, for example, has no body
    if status == 404:
        if reason in _NO_DATABASE:
            # It should exist; the worker will make it again, and the device finds its place in it.
            log.error("database_missing")
            raise unavailable("The database is being prepared.", code="not_ready")
        raise not_found() if reason == "missing" else Problem(404, error, reason)
    raise Problem(status, error, reason)
