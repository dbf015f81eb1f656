"""Towards CouchDB: rebuilds the request, streams the answer, and never holds more than a chunk of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import aiohttp
import msgspec
import structlog
from aiohttp import web
from yarl import URL

from passbook.couch_access import CouchAccess
from sync_gateway import compress, routes
from sync_gateway.answers import COMMON_HEADERS, Problem, answer, not_found, unavailable
from sync_gateway.credentials import Principal

CONNECT_WITHIN = 5.0  # seconds
SILENT_FOR = 90.0  # seconds without a byte from CouchDB; a live feed shows life every 60 at the latest
STALLED_FOR = 120.0  # seconds a device may take to read one chunk
LARGEST_ERROR = 16_384  # bytes of an error's body, or of a database's description

_INFO_FIELDS = (
    "doc_count",
    "doc_del_count",
    "update_seq",
    "purge_seq",
    "instance_start_time",
    "compact_running",
)
_NO_DATABASE = ("Database does not exist.", "no_db_file")

#: Which entry of the allow-list a request matched, for the log.
ROUTE = web.RequestKey("route", str)

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
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            # Idle feeds hold none; who finds all of them busy waits for a moment.
            connector=aiohttp.TCPConnector(limit=self._connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN, sock_read=SILENT_FOR),
            auto_decompress=False,
            skip_auto_headers=("User-Agent",),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def info(self, principal: Principal) -> web.Response:
        """What CouchDB says about the database, without its real name."""
        upstream = await self._request(principal, "GET", self._url(principal, (), {}), {})
        async with upstream:
            await _raise_for_status(upstream)
            said = msgspec.json.decode(await upstream.content.read(LARGEST_ERROR), type=dict[str, Any])
        kept = {name: said[name] for name in _INFO_FIELDS if name in said}
        return answer({"db_name": routes.DATABASE, **kept})

    async def forward(
        self, request: web.Request, match: routes.Match, principal: Principal, body: Any
    ) -> web.StreamResponse:
        """Ask CouchDB what the device asked, and pass the answer on as it comes."""
        async with self.asked(
            request.method, match, principal, body, if_none_match=request.headers.get("If-None-Match")
        ) as upstream:
            response = _begun(request, match, upstream)
            shrink = (
                response.headers.get("Content-Encoding") == "gzip" and "Content-Encoding" not in upstream.headers
            )
            await _stream(request, upstream, response, compress.Compressor(live=False) if shrink else None)
            return response

    @asynccontextmanager
    async def asked(
        self, method: str, match: routes.Match, principal: Principal, body: Any, *, if_none_match: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """CouchDB's answer to a request made anew from its matched parts. Raises `Problem` for an error of it."""
        headers = {
            "Accept": "*/*" if match.route.attachment else "application/json",
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
            await _raise_for_status(upstream)
            yield upstream

    def _url(self, principal: Principal, segments: tuple[str, ...], query: dict[str, str]) -> URL:
        path = "/".join(quote(segment, safe="") for segment in (principal.database, *segments))
        search = urlencode(query, quote_via=quote)
        return URL(f"{self._base}/{path}{'?' if search else ''}{search}", encoded=True)

    async def _request(
        self, principal: Principal, method: str, url: URL, headers: dict[str, str], data: bytes | None = None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise unavailable()
        authorization = self._own if self._access is None else f"Bearer {self._access.token(principal.person_id)}"
        # A connection that CouchDB was just closing shows only when it is used; reading twice does no harm.
        for attempt in range(1 if method == "PUT" else 2):
            try:
                return await self._session.request(
                    method,
                    url,
                    headers={**headers, "Authorization": authorization},
                    data=data,
                    allow_redirects=False,
                )
            except aiohttp.ServerDisconnectedError as error:
                if attempt == 0 and method != "PUT":
                    continue
                raise _unreachable(error) from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _unreachable(error) from None
        raise unavailable()


def _unreachable(error: BaseException) -> Problem:
    log.error("couchdb_unavailable", error=type(error).__name__)
    return unavailable()


async def _raise_for_status(upstream: aiohttp.ClientResponse) -> None:
    """Turn an error of CouchDB's into one of ours: same words, nothing else; our faults are not the device's."""
    status = upstream.status
    if status < 400:
        return
    if status in (401, 403) or status >= 500:
        log.error("couchdb_refused" if status < 500 else "couchdb_failed", status=status)
        raise unavailable()
    error, reason = "bad_request", "CouchDB refused the request."
    try:
        said = msgspec.json.decode(await upstream.content.read(LARGEST_ERROR), type=dict[str, Any])
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


def _begun(request: web.Request, match: routes.Match, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """The answer's head: CouchDB's status, and the few headers of its that a device needs."""
    response = web.StreamResponse(status=upstream.status, headers=COMMON_HEADERS)
    for name in ("Content-Type", "ETag", "Content-Encoding"):
        if name in upstream.headers:
            response.headers[name] = upstream.headers[name]
    length = upstream.content_length
    if _shrinks(request, match, upstream, length):
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        length = None
    if length is not None and upstream.status != 304:
        response.content_length = length
    return response


def _shrinks(
    request: web.Request, match: routes.Match, upstream: aiohttp.ClientResponse, length: int | None
) -> bool:
    return (
        not match.route.attachment
        and request.method != "HEAD"
        and upstream.status == 200
        and "Content-Encoding" not in upstream.headers
        and (length is None or length >= compress.SMALLEST)
        and compress.accepts_gzip(request.headers.get("Accept-Encoding", ""))
    )


async def _stream(
    request: web.Request,
    upstream: aiohttp.ClientResponse,
    response: web.StreamResponse,
    compressor: compress.Compressor | None,
) -> None:
    """Pass the body on. The next chunk is read when the device has taken the last: nothing piles up here."""
    try:
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            out = compressor.compress(chunk) if compressor else chunk
            if out:
                async with asyncio.timeout(STALLED_FOR):
                    await response.write(out)
        if compressor:
            await response.write(compressor.finish())
        await response.write_eof()
    except BaseException as error:
        # The status is out. Only a broken connection can still say that this is not all: an orderly end would
        # make half an answer look like a whole one.
        if request.transport is not None:
            request.transport.abort()
        if isinstance(error, aiohttp.ClientError | TimeoutError | ConnectionError):
            log.info("stream_broken_off", route=request.get(ROUTE), error=type(error).__name__)
            return
        raise
