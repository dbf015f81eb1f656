"""Request bodies: read up to a limit, decoded into a known shape, and encoded anew.

CouchDB never sees the bytes that a device sent, so there is nothing two JSON readers could disagree about. A body
in which an object has a key twice is refused: nobody honest sends one, and readers differ on which of them counts.

The limits fit what replication sends, with room. With `batch_size` 1,000 and ids of 36 characters, as long as they
come here, PouchDB 9 sends a `_bulk_get` of 90 KB, a `_revs_diff` of 79 KB, and, both ways, a `_bulk_docs` of 160 KB
and what is in the documents; CouchDB's replicator, with 500 at a time, half of that. Nothing that replicates sends
`keys` or `doc_ids` unless the app says so.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from sync_gateway import compress
from sync_gateway.answers import Problem, bad_request, too_large

MEGABYTE = 1_000_000
ASKING = 256 * 1024  # bytes of a body that asks for documents
MOST_WRITTEN = 2_000  # documents in one `_bulk_docs`
MOST_ASKED = 2_000  # documents that one body may ask for; CouchDB takes some 0.2 ms for each
MOST_REVISIONS = 20  # of one document in one `_bulk_get`; there is one unless somebody made conflicts
#: Values in the JSON of a body, which is what decoding it costs: a microsecond each, some 0.2 without malice.
MOST_VALUES = 10_000
MOST_VALUES_WRITTEN = 20_000
MOST_DIGITS = 100  # of a whole number
#: Up to so many are decoded without waiting for a turn: all that PouchDB sends for batches of its usual size.
FEW_VALUES = 500
READ_WITHIN = 60.0  # seconds that a device may take to send a body


class WantedDocument(msgspec.Struct, omit_defaults=True):
    """One document of a `_bulk_get`."""

    id: str
    rev: str | None = None
    atts_since: list[str] | None = None


class WantedDocuments(msgspec.Struct):
    docs: list[WantedDocument]


class WantedIds(msgspec.Struct, omit_defaults=True):
    """Which documents a feed is to have; see `selectors`."""

    doc_ids: list[str] | None = None
    selector: dict[str, Any] | None = None


class Listing(msgspec.Struct, omit_defaults=True):
    """The options of `_all_docs`, which some clients put into the body."""

    attachments: bool | UnsetType = UNSET
    conflicts: bool | UnsetType = UNSET
    descending: bool | UnsetType = UNSET
    end_key: str | UnsetType = UNSET
    endkey: str | UnsetType = UNSET
    include_docs: bool | UnsetType = UNSET
    inclusive_end: bool | UnsetType = UNSET
    key: str | UnsetType = UNSET
    keys: list[str] | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    skip: int | UnsetType = UNSET
    start_key: str | UnsetType = UNSET
    startkey: str | UnsetType = UNSET
    update_seq: bool | UnsetType = UNSET


class Receipt(msgspec.Struct, forbid_unknown_fields=True):
    """What a device says that has obeyed an order to wipe: the order's `jti`."""

    order: str


class WrittenDocuments(msgspec.Struct):
    docs: list[dict[str, Any]]


class _TwiceInOneObject(Exception):
    pass


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) != len({name for name, _ in pairs}):
        raise _TwiceInOneObject


def _short(digits: str) -> int:
    """Of a number with more digits than a double can hold CouchDB makes a 500."""
    if len(digits) > MOST_DIGITS:
        raise ValueError
    return int(digits)


_Result = TypeVar("_Result")


class Turn(Protocol):
    """Does work on the event loop for whoever asks, and charges them for it; at once if it is small."""

    async def __call__(self, piece: Callable[[], _Result], *, small: bool) -> _Result: ...


async def _at_once(piece: Callable[[], _Result], *, small: bool) -> _Result:
    return piece()


@dataclass(frozen=True)
class Rule:
    """The shape and the size that a body may have."""

    shape: Any
    limit: int
    optional: bool = False
    #: Why what the body asks for is refused; empty if it is not.
    check: Callable[[Any], str] = lambda _: ""
    #: Seconds to send it, if they are fewer than `READ_WITHIN`.
    within: float | None = None
    values: int = MOST_VALUES

    async def read(self, request: web.Request, turn: Turn = _at_once) -> Any:
        """The decoded body; raises `answers.Problem` if it is too large or not of this shape."""
        if (request.content_length or 0) > self.limit:
            raise too_large()
        data = await self._received(request)
        if not data and self.optional:
            return None
        # At least as many as there are, for what these stand for within a text counts as well.
        values = data.count(b",") + data.count(b"[") + data.count(b"{")
        if values > self.values:
            raise too_large()
        return await turn(lambda: self._checked(data), small=values <= FEW_VALUES)

    def _checked(self, data: bytes) -> Any:
        decoded = self.decoded(data)
        refusal = self.check(decoded)
        if refusal:
            raise bad_request(refusal)
        return decoded

    def decoded(self, data: bytes) -> Any:
        """`data` in this shape; raises `answers.Problem` for anything that could be read in two ways."""
        try:
            decoded = msgspec.json.decode(data, type=self.shape)
            # msgspec takes the last of two keys and says nothing. The standard library's reader shows them all: for
            # a `_bulk_get` of 1,000 documents it takes 0.4 ms, for the worst that fits some ten.
            json.loads(data.decode(), object_pairs_hook=_once_each, parse_int=_short)
        except _TwiceInOneObject:
            raise bad_request("The request body has a key twice in one object.") from None
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise bad_request("The request body is not JSON of the expected shape.") from None
        return decoded

    async def _received(self, request: web.Request) -> bytes:
        """The body, unpacked where it is compressed, which the caller has found to be gzip."""
        data, received = bytearray(), 0
        packed = compress.Unpacker() if compress.coding(request) == compress.GZIP else None
        try:
            async with asyncio.timeout(self.within or READ_WITHIN):
                async for chunk in request.content.iter_any():
                    received += len(chunk)
                    # One byte over the limit is enough to know.
                    data += chunk if packed is None else packed.unpack(chunk, self.limit + 1 - len(data))
                    if max(received, len(data)) > self.limit:
                        raise too_large()
            if packed is not None and received:
                packed.finish()
        except compress.NotGzip:
            raise bad_request("The request body is not one whole gzip stream.") from None
        except TimeoutError:
            raise Problem(408, "timeout", "The request body did not arrive in time.") from None
        return bytes(data)


_TWICE = "The request body asks for the same twice."
_TOO_MANY = "The request body asks for too much at once."


def _wanted(wanted: WantedDocuments) -> str:
    if any(document.id.startswith("_local/") for document in wanted.docs):
        return "The request body asks for something that is not served."
    if len(wanted.docs) > MOST_ASKED:
        return _TOO_MANY
    if len({(document.id, document.rev) for document in wanted.docs}) < len(wanted.docs):
        return _TWICE
    revisions = Counter(document.id for document in wanted.docs)
    return _TOO_MANY if max(revisions.values(), default=0) > MOST_REVISIONS else ""


def _each_once(names: Sequence[str] | None) -> str:
    if not names:
        return ""
    return _TOO_MANY if len(names) > MOST_ASKED else _TWICE if len(set(names)) < len(names) else ""


def _few_ids(wanted: WantedIds) -> str:
    return _each_once(wanted.doc_ids)


def _few_keys(listing: Listing) -> str:
    return "" if listing.keys is UNSET else _each_once(listing.keys)


def _few_revisions(asked: dict[str, list[str]]) -> str:
    return _TOO_MANY if len(asked) > MOST_ASKED else max(map(_each_once, asked.values()), default="")


def _not_too_many(written: WrittenDocuments) -> str:
    # Each gets an answer of a hundred bytes, however little was sent for it.
    return _TOO_MANY if len(written.docs) > MOST_WRITTEN else ""


def _plain_checkpoint(document: dict[str, Any]) -> str:
    return "A checkpoint has no attachments." if "_attachments" in document else ""


CHANGES = Rule(WantedIds, ASKING, optional=True, check=_few_ids)
BULK_GET = Rule(WantedDocuments, ASKING, check=_wanted)
ALL_DOCS = Rule(Listing, ASKING, optional=True, check=_few_keys)
REVS_DIFF = Rule(dict[str, list[str]], ASKING, check=_few_revisions)
CHECKPOINT = Rule(dict[str, Any], 16_384, check=_plain_checkpoint)
BULK_DOCS = Rule(WrittenDocuments, MEGABYTE, check=_not_too_many, values=MOST_VALUES_WRITTEN)
RECEIPT = Rule(Receipt, 1_000, within=5.0)
