"""Request bodies: read up to a limit, decoded into a known shape, and encoded anew.

CouchDB never sees the bytes that a device sent, so there is nothing two JSON readers could disagree about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from sync_gateway.answers import bad_request, too_large

MEGABYTE = 1_000_000


class WantedDocument(msgspec.Struct, omit_defaults=True):
    """One document of a `_bulk_get`."""

    id: str
    rev: str | None = None
    atts_since: list[str] | None = None


class WantedDocuments(msgspec.Struct):
    docs: list[WantedDocument]


class WantedIds(msgspec.Struct, omit_defaults=True):
    doc_ids: list[str] | None = None


class WantedKeys(msgspec.Struct, omit_defaults=True):
    keys: list[Any] | None = None


class WrittenDocuments(msgspec.Struct):
    docs: list[dict[str, Any]]


@dataclass(frozen=True)
class Rule:
    """The shape and the size that a body may have."""

    shape: Any
    limit: int
    optional: bool = False
    check: Callable[[Any], bool] = lambda _: True

    async def read(self, request: web.Request) -> Any:
        """The decoded body; raises `answers.Problem` if it is too large or not of this shape."""
        if (request.content_length or 0) > self.limit:
            raise too_large()
        data = bytearray()
        async for chunk in request.content.iter_any():  # decompressed already: the limit holds against bombs
            data += chunk
            if len(data) > self.limit:
                raise too_large()
        if not data and self.optional:
            return None
        try:
            decoded = msgspec.json.decode(data, type=self.shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise bad_request("The request body is not JSON of the expected shape.") from None
        if not self.check(decoded):
            raise bad_request("The request body asks for something that is not served.")
        return decoded


def _no_local_documents(wanted: WantedDocuments) -> bool:
    return not any(document.id.startswith("_local/") for document in wanted.docs)


def _plain_checkpoint(document: dict[str, Any]) -> bool:
    return "_attachments" not in document


CHANGES = Rule(WantedIds, MEGABYTE, optional=True)
BULK_GET = Rule(WantedDocuments, MEGABYTE, check=_no_local_documents)
ALL_DOCS = Rule(WantedKeys, MEGABYTE, optional=True)
REVS_DIFF = Rule(dict[str, list[str]], MEGABYTE)
CHECKPOINT = Rule(dict[str, Any], 16_384, check=_plain_checkpoint)
BULK_DOCS = Rule(WrittenDocuments, 8 * MEGABYTE)
