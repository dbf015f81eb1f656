"""A person's database as the release before left it: the manifest was `passbook`, in a request of its own."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from passbook.couch import CouchClient
from passbook.credentials import principal
from passbook.servicedb import tables
from projections import canonical
from tests.support.stage import Stage

MANIFEST_1 = "passbook"

#: The fields that it had.
_FIELDS = ("type", "generation", "kind", "permissions", "clients", "counts", "as_of", "history_from")


async def go_back(stage: Stage, username: str) -> dict[str, str]:
    """Make a copy that this release wrote one of the release before, state and all; the revisions."""
    copies = await stage.copies(username)
    now = copies.pop("~passbook")
    manifest = {key: now[key] for key in _FIELDS if key in now} | {"schema": 1}
    name = stage.database_of(username)
    person, documents = tables.person, tables.projected_document
    async with CouchClient(stage.outside.couchdb_url, connections=2) as couch:
        with stage.database.begin() as connection:
            mine = connection.execute(sa.select(person.c.id).where(person.c.username == username)).scalar_one()
            await couch.delete_database(name)
            await couch.create_database(name, [principal(mine)])
            # With the revisions that are on record, then the manifest.
            await couch.bulk(name, [msgspec.json.encode(one) for one in copies.values()], new_edits=False)
            [written] = await couch.bulk(name, [msgspec.json.encode({"_id": MANIFEST_1, **manifest})])
            row = documents.c.person_id == mine, documents.c.document_id == "~passbook"
            connection.execute(
                sa.update(documents)
                .where(*row)
                .values(
                    document_id=MANIFEST_1,
                    digest=canonical.digest_of(manifest),
                    revision=written.rev,
                    ancestors=[],
                )
            )
    return await stage.revisions(username)
