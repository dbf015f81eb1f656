"""The witness's database in CouchDB: one for each audit log, so that several installations may share a CouchDB.

The log is known by its first row, which every back-up of a service database has and no other installation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from passbook import couch_copies
from passbook.audit.chain import Head
from passbook.couch import CouchClient, DatabaseMissing
from passbook.errors import Unavailable
from passbook.witness.entries import AT_ONCE, Entry

PREFIX = "passbook-witness-"
#: No principal has this name: server administrators alone read the witness.
_NOBODY = "passbook-witness"
_HEAD = "head"
_ENTRIES = "row:"
_ATTEMPTS = 5


class Store:
    """The witness of the log whose first row has this hash (hexadecimal)."""

    def __init__(self, couch: CouchClient, first_hash: str) -> None:
        self._couch = couch
        self.name = PREFIX + first_hash[:32]

    async def head(self) -> Head | None:
        """The newest row of the log that was noted; None if there is no witness."""
        return (await self._read())[0]

    async def lost(self) -> bool:
        """Whether no node of CouchDB has it, as far as can be told: one made anew has nothing yet. May raise."""
        nodes = await couch_copies.membership(self._couch)
        if not nodes.whole:
            raise Unavailable("The witness in CouchDB cannot be read while a node of CouchDB is away.")
        try:
            copies = await couch_copies.copies(self._couch, self.name, nodes)
            found = [await couch_copies.revisions(self._couch, copy, [_HEAD]) for copy in copies]
        except DatabaseMissing:
            return await couch_copies.lost(self._couch, self.name)
        return not any(found)

    async def make(self) -> None:
        """Make the database if there is none."""
        await self._couch.create_database(self.name, [_NOBODY])

    async def put_head(self, head: Head) -> None:
        """Note the newest row, unless a newer one is noted."""
        for _ in range(_ATTEMPTS):
            known, revision = await self._read()
            if known is not None and known.id >= head.id:
                return
            document: dict[str, Any] = {"_id": _HEAD, "row": head.id, "hash": head.hash}
            if revision is not None:
                document["_rev"] = revision
            if await self._write([document]):
                return
        raise Unavailable("The witness in CouchDB could not be written.")

    async def add(self, entries: Sequence[Entry]) -> None:
        """Keep these rows. Those that are kept already stay as they are."""
        await self._write([{"_id": entry.id, **msgspec.to_builtins(entry)} for entry in entries])

    async def entries(self) -> AsyncIterator[list[Entry]]:
        """Everything that is kept, a page at a time, in the order of the rows."""
        after = _ENTRIES
        while True:
            page = await self._couch.all_leaves(self.name, after, AT_ONCE)
            found = [leaf for leaf in page if leaf.id.startswith(_ENTRIES)]
            if found:
                yield [msgspec.convert(leaf.body, Entry) for leaf in found]
            if len(page) < AT_ONCE:
                return
            after = page[-1].id

    async def _read(self) -> tuple[Head | None, str | None]:
        try:
            leaf = (await self._couch.leaves(self.name, [_HEAD]))[_HEAD]
        except DatabaseMissing:
            return None, None
        if leaf.body is None:
            return None, leaf.revision
        return Head(leaf.body["row"], leaf.body["hash"]), leaf.revision

    async def _write(self, documents: Sequence[dict[str, Any]]) -> bool:
        """Write documents; False if one was there already, or was written by somebody else meanwhile."""
        results = await self._couch.bulk(self.name, [msgspec.json.encode(one) for one in documents])
        errors = {result.error for result in results} - {None}
        if errors - {"conflict"}:
            raise Unavailable(f"CouchDB does not take the witness: {', '.join(sorted(map(str, errors)))}.")
        return not errors
