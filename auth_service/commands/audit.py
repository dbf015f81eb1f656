"""`passbook audit …`."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer
from sqlalchemy import func, select

from auth_service.commands.session import at_keyboard, transaction
from passbook.audit import chain
from passbook.audit.chain import Head, record
from passbook.audit.events import AuditRead, AuditVerified, kinds
from passbook.errors import CheckFailed, NotFound, Refused
from passbook.lookup import person_id_of
from passbook.output import Json, print_facts, print_json, print_table
from passbook.progress import reporting
from passbook.servicedb.tables import audit_event

app = typer.Typer(
    help="The audit log: what happened, and the proof that nobody has changed it.", no_args_is_help=True
)


@app.command("list")
def list_(
    event: Annotated[str | None, typer.Option(help="Only events of this name.")] = None,
    person: Annotated[str | None, typer.Option(help="Only about this person: user name or id.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this one did: an id.")] = None,
    device: Annotated[str | None, typer.Option(help="Only about this device.")] = None,
    since: Annotated[str | None, typer.Option(help="From this day or time on, UTC unless it says.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this day or time.")] = None,
    before: Annotated[int | None, typer.Option(help="Only rows before this one.", min=1)] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=100_000)] = 100,
    as_json: Json = False,
) -> None:
    """Show what happened, newest first."""
    if event is not None and event not in kinds():
        raise Refused(f"{event!r} is no event.", remedy=f"They are: {', '.join(sorted(kinds()))}.")
    with transaction(compared=False) as connection:
        if person is not None:
            with suppress(NotFound):  # somebody who was erased is in the log by id
                person = person_id_of(connection, person)
        found = chain.entries(
            connection,
            event=event,
            person=person,
            actor=actor,
            device=device,
            since=_instant(since),
            until=_instant(until),
            before=before,
            limit=limit,
        )
        record(connection, at_keyboard(), AuditRead(shown=len(found)))
    if as_json:
        print_json([vars(one) for one in found])
    else:
        print_table(
            ("id", "at", "event", "actor", "person", "device", "reason", "detail"),
            [
                (
                    one.id,
                    one.at,
                    one.event,
                    f"{one.actor_kind} {one.actor}".strip(),
                    one.person,
                    one.device,
                    one.reason,
                    " ".join(f"{name}={value}" for name, value in one.detail.items() if value is not None),
                )
                for one in found
            ],
        )


@app.command()
def verify(
    anchor: Annotated[
        list[str], typer.Option("--anchor", help="ID:HASH noted earlier: the log must have that row.")
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Prove that no row was changed, taken out or put in. Exit 1 names the first row that does not hold."""
    anchors = [Head.parse(text) for text in anchor]
    with transaction(compared=False) as connection:
        rows = connection.execute(select(func.count()).select_from(audit_event)).scalar_one()
        with reporting("rows") as reporter:
            verdict = chain.verify(connection, anchors=anchors, progress=lambda done: reporter.update(done, rows))
        record(connection, at_keyboard(), AuditVerified(rows=verdict.rows, ok=verdict.ok))
    facts = {
        "ok": verdict.ok,
        "rows": verdict.rows,
        "anchor": str(verdict.head) if verdict.head else None,
        "broken": verdict.broken,
        "why": verdict.why,
        "lost": [f"{one.common + 1} to {one.until} (row {one.told_by})" for one in verdict.lost if one.until],
    }
    if as_json:
        print_json(facts)
    else:
        print_facts({name: value for name, value in facts.items() if value not in (None, "", [])})
    if not verdict.ok:
        raise CheckFailed(f"Row {verdict.broken} of the audit log does not hold: {verdict.why}.")


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"{text!r} is no time.", remedy="Write 2026-11-22 or 2026-11-22T14:30:00Z.") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
