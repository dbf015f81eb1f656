"""Request bodies: read up to a limit, decoded into a known shape, and encoded anew.

CouchDB never sees the bytes that a device sent, so there is nothing two JSON readers could disagree about. A body
in which an object has a key twice is refused: nobody honest sends one, and readers differ on which of them counts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from sync_gateway.answers import Problem, bad_request, too_large

MEGABYTE = 1_000_000
MOST_WRITTEN = 2_000  # documents in one `_bulk_docs`
MOST_ASKED = 10_000  # documents that one body may ask for
READ_WITHIN = 60.0  # seconds that a device may take to send a body


class WantedDocument(msgspec.Struct, omit_defaults=True):
    """One document of a `_bulk_get`."""

    id: str
    rev: str | None = None
    atts_since: list[str] | None = None


class WantedDocuments(msgspec.Struct):
    docs: list[WantedDocument]


class WantedIds(msgspec.Struct, omit_defaults=True):
    doc_ids: list[str] | None = None


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


@dataclass(frozen=True)
class Rule:
    """The shape and the size that a body may have."""

    shape: Any
    limit: int
    optional: bool = False
    check: Callable[[Any], bool] = lambda _: True
    #: Seconds to send it, if they are fewer than `READ_WITHIN`.
    within: float | None = None

    async def read(self, request: web.Request) -> Any:
        """The decoded body; raises `answers.Problem` if it is too large or not of this shape."""
        if (request.content_length or 0) > self.limit:
            raise too_large()
        data = await self._received(request)
        if not data and self.optional:
            return None
        decoded = self.decoded(data)
        if not self.check(decoded):
            raise bad_request("The request body asks for something that is not served.")
        return decoded

    def decoded(self, data: bytes) -> Any:
        """`data` in this shape; raises `answers.Problem` for anything that could be read in two ways."""
        try:
            decoded = msgspec.json.decode(data, type=self.shape)
            # The standard library's reader is the one that shows keys twice. Beside the decoding it costs 0.03 ms
            # for a usual `_bulk_get`, 4 ms for the largest, and up to 100 ms for the worst that fits.
            json.loads(data.decode(), object_pairs_hook=_once_each)
        except _TwiceInOneObject:
            raise bad_request("The request body has a key twice in one object.") from None
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise bad_request("The request body is not JSON of the expected shape.") from None
        return decoded

    async def _received(self, request: web.Request) -> bytes:
        data = bytearray()
        try:
            async with asyncio.timeout(self.within or READ_WITHIN):
                # Decompressed already: the limit holds against bombs as well.
                async for chunk in request.content.iter_any():
                    data += chunk
                    if len(data) > self.limit:
                        raise too_large()
        except TimeoutError:
            raise Problem(408, "timeout", "The request body did not arrive in time.") from None
        return bytes(data)


def _wanted(wanted: WantedDocuments) -> bool:
    few = len(wanted.docs) <= MOST_ASKED
    return few and not any(document.id.startswith("_local/") for document in wanted.docs)


def _few_ids(wanted: WantedIds) -> bool:
    return len(wanted.doc_ids or ()) <= MOST_ASKED


def _few_keys(listing: Listing) -> bool:
    return listing.keys is UNSET or len(listing.keys) <= MOST_ASKED


def _few_revisions(asked: dict[str, list[str]]) -> bool:
    return len(asked) <= MOST_ASKED


def _not_too_many(written: WrittenDocuments) -> bool:
    # Each gets an answer of a hundred bytes, however little was sent for it.
    return len(written.docs) <= MOST_WRITTEN


def _plain_checkpoint(document: dict[str, Any]) -> bool:
    return "_attachments" not in document


CHANGES = Rule(WantedIds, MEGABYTE, optional=True, check=_few_ids)
BULK_GET = Rule(WantedDocuments, MEGABYTE, check=_wanted)
ALL_DOCS = Rule(Listing, MEGABYTE, optional=True, check=_few_keys)
REVS_DIFF = Rule(dict[str, list[str]], MEGABYTE, check=_few_revisions)
CHECKPOINT = Rule(dict[str, Any], 16_384, check=_plain_checkpoint)
BULK_DOCS = Rule(WrittenDocuments, MEGABYTE, check=_not_too_many)
RECEIPT = Rule(Receipt, 1_000, within=5.0)
