"""`passbook restored`: what follows after the service database was restored from a back-up."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from auth_service import lost, restoring, tenant
from auth_service.commands.session import at_keyboard
from auth_service.lost import Lost
from auth_service.restoring import Report
from auth_service.secret import auth_secret
from passbook.audit.chain import Actor, Head
from passbook.context import Outside, opened, service_database
from passbook.couch import CouchClient
from passbook.erasure import erase
from passbook.errors import Refused
from passbook.output import Json, print_facts, print_json
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from passbook.witness import note
from passbook.witness.entries import database_digest
from passbook.witness.keeper import Keeper

app = typer.Typer(help="See to a service database that was restored from a back-up.", invoke_without_command=True)


class _Undo(Exception):
    pass


@app.callback()
def restored(
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the audit log.")] = "",
    anchor: Annotated[
        str, typer.Option(help="The last `audit anchor` that was logged before the restore: ID:HASH.")
    ] = "",
    without_anchor: Annotated[
        bool, typer.Option("--without-anchor", help="There is no such line: what the witness has must do.")
    ] = False,
    revoke_every_device: Annotated[
        bool,
        typer.Option("--revoke-every-device", help="Also revoke all devices: for when the witness is lost too."),
    ] = False,
    keep_closed: Annotated[bool, typer.Option("--keep-closed", help="Do not switch access on at the end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Take away again what was taken away since the back-up; access is off until the end. Can be repeated."""
    if not dry_run and not reason.strip():
        raise Refused("Say why.", remedy="--reason 'disk lost, restored from the back-up of Monday'")
    if not dry_run and bool(anchor) == without_anchor:
        raise Refused(
            "Give the last anchor, or say that there is none.",
            remedy="Look for the last `audit anchor` in the logs of the auth service, wherever they are kept: "
            "--anchor ID:HASH. If there is none: --without-anchor.",
        )
    last = Head.parse(anchor) if anchor else None
    settings = Settings.load()
    with (
        opened(settings, servicedb=True, couchdb=True) as outside,
        service_database(outside, compared=False) as database,
    ):
        work = _Work(outside, database, at_keyboard(), reason, last)
        report = asyncio.run(work.done(every_device=revoke_every_device, dry_run=dry_run, keep_closed=keep_closed))
    if as_json:
        print_json(report.as_json())
    else:
        print_facts({name: _shown(value) for name, value in report.as_json().items()})


def _shown(value: object) -> object:
    return " ".join(value) if isinstance(value, list) else value


class _Work:
    """One run of the command."""

    def __init__(
        self, outside: Outside, database: ServiceDatabase, by: Actor, reason: str, anchor: Head | None
    ) -> None:
        self._outside = outside
        self._database = database
        self._by = by
        self._reason = reason
        self._anchor = anchor

    async def done(self, *, every_device: bool, dry_run: bool, keep_closed: bool) -> Report:
        settings = self._outside.settings
        async with CouchClient(
            self._outside.couchdb_url, connections=4, connect_seconds=settings.connect_seconds
        ) as couch:
            await couch.check()
            keeper = Keeper(self._database, couch)
            store = await keeper.store()
            found = await lost.find(self._database, store, self._anchor)
            self._check(found)
            if dry_run:
                return self._tried(found, every_device)
            restoring.begin(self._database, self._by, found, reason=self._reason)
            with self._database.begin() as connection:
                report, leaving = restoring.take_away(
                    connection, self._by, found, every_device=every_device, reason=self._reason
                )
            for person_id, name in leaving:
                await erase(couch, self._database, person_id, name, by=self._by)
            nobodys = {found.created[person_id] for person_id in report.people_missing} - {""}
            for name in await couch.databases() if nobodys else ():
                if database_digest(name) in nobodys:
                    await couch.delete_database(name)
            restoring.order_wipes(
                self._database,
                self._by,
                found,
                report,
                secret=auth_secret(settings),
                issuer=settings.auth_url,
                reason=self._reason,
            )
            store = store or await keeper.store()
            if store is not None:
                await keeper.renew(store, after=found.common)
        if not keep_closed:
            with self._database.begin() as connection:
                report.open = tenant.switch(connection, self._by, to_open=True, reason=self._reason).open
        return report

    def _check(self, found: Lost) -> None:
        written = self._database.run(note.read)
        if found.witnessed and found.until is None and written.lacks is None:
            raise Refused(
                "This service database lacks nothing that its witness has: it is not an older one.",
                code="not_older",
            )

    def _tried(self, found: Lost, every_device: bool) -> Report:
        report = Report()
        try:
            with self._database.begin() as connection:
                report, _ = restoring.take_away(
                    connection, self._by, found, every_device=every_device, reason=self._reason
                )
                raise _Undo
        except _Undo:
            return report
