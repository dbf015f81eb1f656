"""A small CouchDB client for the worker: aiohttp and msgspec, bytes in and out, errors by what to do about them.

Only what Passbook needs. Bodies of documents are passed as canonical bytes and never parsed on their way out.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import msgspec

from passbook import patience
from passbook.addresses import without_credentials
from passbook.couch_configuration import untrusted
from passbook.errors import Refused, Unavailable

#: An answer that takes longer than this, from its question to its end, has failed.
_REQUEST_SECONDS = 120.0
#: What a body needs at the slowest until CouchDB has it, bytes a second: a node that hangs takes none.
_LOWEST_RATE = 100_000
#: A server that restarts (the embedded one does so within a second) or hangs is asked this often.
_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS = 0.2
_LARGE_BODY_BYTES = 256 * 1024


class DatabaseMissing(Exception):
    """CouchDB has no database of that name."""


class BulkResult(msgspec.Struct):
    """CouchDB's answer for one document of a bulk write."""

    id: str | None = None
    ok: bool | None = None
    rev: str | None = None
    error: str | None = None
    reason: str | None = None


class Bulk(list[BulkResult]):
    """CouchDB's answers to a bulk write. `doubtful` if it was taken by fewer nodes than a quorum (202).

    What so few nodes have may be unknown to the others when these come and it goes.
    """

    def __init__(self, results: Iterable[BulkResult], *, doubtful: bool = False) -> None:
        super().__init__(results)
        self.doubtful = doubtful


class Leaf(msgspec.Struct):
    """The winning revision of a stored document; `body` is None when there is no such document."""

    id: str
    revision: str | None
    deleted: bool
    body: dict[str, Any] | None


@dataclass
class Requests:
    """How many requests of each kind were made: tests and benchmarks count them."""

    reads: int = 0
    writes: int = 0


class _Row(msgspec.Struct):
    key: str
    value: dict[str, Any] | None = None
    doc: dict[str, Any] | None = None
    error: str | None = None


class _Rows(msgspec.Struct):
    rows: list[_Row]


_BULK = msgspec.json.Decoder(list[BulkResult])
_ROWS = msgspec.json.Decoder(_Rows)


class CouchClient:
    """A connection pool to one CouchDB, used as `async with CouchClient(url, connections=8) as couch`."""

    def __init__(self, url: str, *, connections: int, connect_seconds: float = 5.0) -> None:
        parts = urlsplit(url)
        self._base = without_credentials(url).rstrip("/")
        if parts.username is None:
            raise Refused(
                "PASSBOOK_COUCHDB_URL has no credentials.",
                remedy="The gateway may do without; everything else needs an administrator's: "
                "http://user:password@host:5984.",
            )
        login, password = unquote(parts.username), unquote(parts.password or "")
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Authorization": aiohttp.encode_basic_auth(login, password, "utf-8"),
        }
        #: Its address, with the credentials.
        self.url = url
        self._connections = connections
        self._connect_seconds = connect_seconds
        self._session: aiohttp.ClientSession | None = None
        self._late = patience.Late(self._base)
        self.requests = Requests()

    async def __aenter__(self) -> CouchClient:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=self._connections),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None  # noqa: S101 - entered before it is left
        await self._session.close()

    async def check(self) -> dict[str, Any]:
        """The server's welcome. Raises `Unavailable` or, for wrong credentials, `Refused`."""
        status, body = await self._request("GET", "/", reading=True)
        await self._request("GET", "/_all_dbs?limit=1", reading=True)
        welcome = msgspec.json.decode(body) if status == 200 else None
        if not isinstance(welcome, dict) or not ("couchdb" in welcome or "express-pouchdb" in welcome):
            raise Refused(
                f"What answers at {self._base} is no CouchDB.",
                remedy="Check host and port in PASSBOOK_COUCHDB_URL.",
            )
        return welcome

    async def create_database(self, name: str, principals: Sequence[str]) -> None:
        """Make database `name` if there is none, and let only `principals` and server administrators in.

        Both steps can be repeated. `_security` is set before anything is written: a fresh database holds nothing.
        """
        await self._request("PUT", f"/{name}?q=1", expect=(201, 202, 412))
        await self.close_database(name, principals)

    async def close_database(self, name: str, principals: Sequence[str]) -> None:
        """Let only `principals` and server administrators into database `name`. Raises `DatabaseMissing`."""
        body = msgspec.json.encode(_security(principals))
        status, _ = await self._request("PUT", f"/{name}/_security", body, expect=(200, 404))
        if status == 404:
            raise DatabaseMissing(name)

    async def delete_database(self, name: str) -> None:
        """Delete database `name`; one that is gone already is no error."""
        await self._request("DELETE", f"/{name}", expect=(200, 202, 404))

    async def databases(self) -> list[str]:
        """The names of all databases."""
        _, body = await self._request("GET", "/_all_dbs", reading=True)
        found: list[str] = msgspec.json.decode(body)
        return found

    async def database_exists(self, name: str) -> bool:
        """Whether there is a database `name`."""
        status, _ = await self._request("GET", f"/{name}", expect=(200, 404), reading=True)
        return status == 200

    async def bulk(self, name: str, documents: Iterable[bytes], *, new_edits: bool = True) -> Bulk:
        """Write documents (JSON with `_id` and, of known ones, `_rev`). One result each, in their order.

        With `new_edits=False` the revisions given are stored as they are, and CouchDB answers nothing.
        """
        head = b'{"docs":[' if new_edits else b'{"new_edits":false,"docs":['
        status, body = await self._request(
            "POST",
            f"/{name}/_bulk_docs",
            b"".join((head, b",".join(documents), b"]}")),
            expect=(200, 201, 202, 404),
        )
        if status == 404:
            raise DatabaseMissing(name)
        return Bulk(_BULK.decode(body), doubtful=status == 202)

    async def leaves(self, name: str, ids: Sequence[str], *, bodies: bool = True) -> dict[str, Leaf]:
        """The winning revision of each of `ids`, deleted ones included; bodies only if wanted."""
        query = "?include_docs=true" if bodies else ""
        status, body = await self._request(
            "POST",
            f"/{name}/_all_docs{query}",
            msgspec.json.encode({"keys": list(ids)}),
            expect=(200, 404),
            reading=True,
        )
        if status == 404:
            raise DatabaseMissing(name)
        return {row.key: _leaf(row) for row in _ROWS.decode(body).rows}

    async def all_leaves(self, name: str, after: str | None, limit: int, *, bodies: bool = True) -> list[Leaf]:
        """Up to `limit` documents in order of id, those after `after`; the next page begins after the last."""
        start = f"&startkey={quote(msgspec.json.encode(after).decode())}&skip=1" if after is not None else ""
        docs = "&include_docs=true&conflicts=true" if bodies else ""
        status, body = await self._request(
            "GET", f"/{name}/_all_docs?limit={limit}{docs}{start}", expect=(200, 404), reading=True
        )
        if status == 404:
            raise DatabaseMissing(name)
        found = msgspec.json.decode(body)["rows"]
        return [Leaf(row["id"], row["value"]["rev"], False, row.get("doc")) for row in found]

    async def history(self, name: str, document: str, revision: str) -> list[str]:
        """The hashes of the revisions before `revision`, newest first, as far as CouchDB remembers them."""
        path = f"/{name}/{quote(document, safe='')}?revs=true&rev={quote(revision)}"
        status, body = await self._request("GET", path, expect=(200, 404), reading=True)
        if status == 404:
            return []
        known: list[str] = msgspec.json.decode(body)["_revisions"]["ids"]
        return known[1:]

    async def live(self, name: str, document: str) -> list[str]:
        """The leaf revisions of `document` that are not deleted, the winner first; none if there is no such one."""
        path = f"/{name}/{quote(document, safe='')}?conflicts=true"
        status, body = await self._request("GET", path, expect=(200, 404), reading=True)
        if status == 404:
            return []
        found = msgspec.json.decode(body)
        return [found["_rev"], *found.get("_conflicts", [])]

    async def conflicts(self, name: str, document: str) -> list[str]:
        """The leaf revisions of `document` that lost against the winner and are not deleted."""
        return (await self.live(name, document))[1:]

    async def attachment(self, name: str, document: str, attachment: str) -> bytes | None:
        """The bytes of an attachment, or None."""
        path = f"/{name}/{quote(document, safe='')}/{quote(attachment, safe='')}"
        status, body = await self._request("GET", path, expect=(200, 404), reading=True)
        return body if status == 200 else None

    async def security(self, name: str) -> Mapping[str, Any]:
        """The `_security` object of a database. Raises `DatabaseMissing`."""
        status, body = await self._request("GET", f"/{name}/_security", expect=(200, 404), reading=True)
        if status == 404:
            raise DatabaseMissing(name)
        found: Mapping[str, Any] = msgspec.json.decode(body)
        return found

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        expect: tuple[int, ...] = (200, 201, 202),
        reading: bool = True,
        within: float | None = None,
    ) -> tuple[int, bytes]:
        """Status, one of `expect`, and body of any other request that can be repeated; errors as of the rest.

        With `within` seconds it is made once, and `Unavailable` raised if there is no answer by then.
        """
        return await self._request(method, path, body, expect=expect, reading=reading, within=within)

    async def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        expect: tuple[int, ...] = (200, 201, 202),
        reading: bool = False,
        within: float | None = None,
    ) -> tuple[int, bytes]:
        assert self._session is not None, "use the client inside `async with`"  # noqa: S101
        pause = _FIRST_PAUSE_SECONDS
        attempts = _ATTEMPTS if within is None else 1
        for attempt in range(1, attempts + 1):
            if reading:
                self.requests.reads += 1
            else:
                self.requests.writes += 1
            try:
                timeout = self._timeout(attempt, body, reading=reading, within=within)
                with self._late.watched(method, path.partition("?")[0]):
                    response = await self._session.request(
                        method, self._base + path, data=_payload(body), timeout=timeout
                    )
                async with response:
                    answer = await response.read()
                    status = response.status
            except aiohttp.ClientSSLError as error:
                raise untrusted(self._base, error) from None
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                # Every request here can be repeated. A write that did arrive answers 409 the second time; so does
                # one that a hanging node carries out later, since it names its parent, or brings its own revision.
                if attempt == attempts:
                    raise self._unavailable("does not answer") from None
            except aiohttp.ClientError:
                raise self._unavailable("does not speak HTTP") from None
            else:
                if status in expect:
                    return status, answer
                if status in (401, 403):
                    raise Refused(
                        f"CouchDB at {self._base} refuses these credentials.",
                        remedy="PASSBOOK_COUCHDB_URL needs user and password of a server administrator.",
                    )
                if status < 500 or attempt == attempts:
                    raise self._unavailable(f"answered {status} to {method} {path.split('?')[0]}")
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def _timeout(
        self, attempt: int, body: bytes | None, *, reading: bool, within: float | None
    ) -> aiohttp.ClientTimeout:
        begins = patience.seconds(attempt) if within is None else within
        total = within or _REQUEST_SECONDS
        if within is None and not reading:
            # What a write answers is short, but a hanging node may not even take what is sent to it.
            total = self._connect_seconds + begins + len(body or b"") / _LOWEST_RATE
        return aiohttp.ClientTimeout(total=total, connect=self._connect_seconds, sock_read=begins)

    def _unavailable(self, problem: str) -> Unavailable:
        return Unavailable(
            f"CouchDB at {self._base} {problem}.",
            remedy="Check that it runs and can be reached from here, and PASSBOOK_COUCHDB_URL.",
        )


def lets_in_only(security: Mapping[str, Any], principals: Sequence[str]) -> bool:
    """Whether a `_security` object lets in these and server administrators, and nobody else in whatever role."""
    return dict(security) == _security(principals)


def _security(principals: Sequence[str]) -> dict[str, Any]:
    return {
        "admins": {"names": [], "roles": ["_admin"]},
        "members": {"names": list(principals), "roles": []},
    }


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp sends large bytes in one piece, which holds up everything else, and a file-like body in parts.
    return io.BytesIO(body) if body and len(body) > _LARGE_BODY_BYTES else body


def _leaf(row: _Row) -> Leaf:
    if row.error or row.value is None:
        return Leaf(row.key, None, False, None)
    deleted = bool(row.value.get("deleted"))
    return Leaf(row.key, row.value["rev"], deleted, None if deleted else row.doc)
