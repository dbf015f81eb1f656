"""`passbook witness …`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from auth_service.commands.session import at_keyboard
from passbook.audit import chain
from passbook.audit.chain import Head
from passbook.audit.restores import WitnessRenewed
from passbook.context import Outside, opened, service_database
from passbook.couch import CouchClient
from passbook.errors import OlderDatabase, Refused
from passbook.output import Json, print_facts, print_json
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from passbook.witness import note
from passbook.witness.keeper import Keeper

app = typer.Typer(
    help="The witness of the audit log in CouchDB, by which a restored service database is known.",
    no_args_is_help=True,
)


@app.command()
def show(as_json: Json = False) -> None:
    """Show how far the service database and its witness have come. Changes nothing."""

    async def look() -> dict[str, str | bool | None]:
        async with _couch(outside) as couch:
            await couch.check()
            store = await Keeper(database, couch).store()
            head = await store.head() if store is not None else None
        with database.begin() as connection:
            written, newest = note.read(connection), chain.head(connection)
            return {
                "database": store.name if store is not None else None,
                "witness": str(head) if head else None,
                "audit_log": str(newest) if newest else None,
                "older": written.lacks is not None or not chain.has(connection, head),
            }

    with _both() as (outside, database):
        _print(asyncio.run(look()), as_json)


@app.command()
def renew(
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the audit log.")],
    anchor: Annotated[str, typer.Option(help="The last `audit anchor` that was logged: ID:HASH.")] = "",
    without_anchor: Annotated[
        bool,
        typer.Option("--without-anchor", help="There is no such line; the service database was not restored."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the witness anew from the audit log, after CouchDB was lost. Not for a database that was restored."""
    if not reason.strip():
        raise Refused("Say why.", remedy="--reason 'CouchDB lost its disk'")
    if bool(anchor) == without_anchor:
        raise Refused(
            "Give the last anchor, or say that there is none.",
            remedy="Look for the last `audit anchor` in the logs of the auth service: --anchor ID:HASH. It proves "
            "that the service database is the newest. If there is none: --without-anchor.",
        )
    last = Head.parse(anchor) if anchor else None

    async def make() -> str | None:
        async with _couch(outside) as couch:
            await couch.check()
            keeper = Keeper(database, couch)
            store = await keeper.store()
            if store is None:
                return None
            if await store.head() is not None:
                raise Refused("The witness is there; it was not lost.", code="not_lost")
            await keeper.renew(store)
            return store.name

    with _both() as (outside, database):
        with database.begin() as connection:
            if note.read(connection).lacks is not None or not chain.has(connection, last):
                raise OlderDatabase
            chain.record(connection, at_keyboard(), WitnessRenewed(), reason=reason)
        _print({"database": asyncio.run(make())}, as_json)


@contextmanager
def _both() -> Iterator[tuple[Outside, ServiceDatabase]]:
    with (
        opened(Settings.load(), servicedb=True, couchdb=True) as outside,
        service_database(outside, compared=False) as database,
    ):
        yield outside, database


def _couch(outside: Outside) -> CouchClient:
    return CouchClient(outside.couchdb_url, connections=1, connect_seconds=outside.settings.connect_seconds)


def _print(facts: dict[str, str | bool | None], as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
