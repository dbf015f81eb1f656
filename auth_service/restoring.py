"""After the service database was restored from a back-up: nobody comes in again who was out.

What was taken away since the back-up is taken away again, as the witness has it; what was given is not given again.
Access is off until the end. Everything can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import structlog
from sqlalchemy import Connection, delete, func, select, update

from auth_service import administrators, devices, granting, people, tenant, wiping
from auth_service.lost import Lost, lower_role
from auth_service.passwords import given_or_new
from auth_service.scopes import Window
from passbook.audit import chain
from passbook.audit.chain import Actor
from passbook.errors import Conflict
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import activation, administrator, approval, device, person, person_client, session
from passbook.witness import note

log = structlog.get_logger()


@dataclass
class Report:
    """What was done, by ids, and what is left for somebody to do."""

    #: The last row that both logs have, the last one that was lost, and how many the witness had in between.
    common: int = 0
    until: int = 0
    rows_known: int = 0
    devices_revoked: list[str] = field(default_factory=list)
    people_suspended: list[str] = field(default_factory=list)
    people_erased: list[str] = field(default_factory=list)
    clients_unlinked: int = 0
    people_permitted_less: list[str] = field(default_factory=list)
    sessions_ended: int = 0
    approvals_refused: int = 0
    administrators_changed: list[str] = field(default_factory=list)
    wipes_ordered: list[str] = field(default_factory=list)
    # What is left to do
    people_without_password: list[str] = field(default_factory=list)
    administrators_without_password: list[str] = field(default_factory=list)
    people_missing: list[str] = field(default_factory=list)
    administrators_missing: list[str] = field(default_factory=list)
    wipes_not_ordered: list[str] = field(default_factory=list)
    links_missing: int = 0
    last_owners: list[str] = field(default_factory=list)
    signing_keys_to_rotate: bool = False
    open: bool = False

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def begin(database: ServiceDatabase, by: Actor, lost: Lost, *, reason: str) -> None:
    """Switch access off, and record what was lost: from here on the log's numbers are higher than all before."""
    with database.begin() as connection:
        tenant.switch(connection, by, to_open=False, reason=reason)
        if lost.until is not None:
            note.write_older(connection, lost.until)
    with database.begin() as connection:
        chain.go_on(connection, by, common=lost.common, until=lost.until, reason=reason)


def take_away(
    connection: Connection, by: Actor, lost: Lost, *, every_device: bool, reason: str
) -> tuple[Report, list[tuple[str, str]]]:
    """Take away again what was taken away; the report, and people (id, database) who are still to be erased."""
    report = Report(common=lost.common, until=lost.until.id if lost.until else 0, rows_known=lost.rows)
    there = _there(connection, person, (*lost.erased, *lost.suspended, *lost.passwords, *lost.permissions))
    there |= _there(connection, person, [person_id for person_id, _ in lost.links])
    leaving = [people.begin_deletion(connection, by, one, reason=reason) for one in sorted(lost.erased & there)]
    report.people_erased = [person_id for person_id, _ in leaving]
    there -= lost.erased
    for one in sorted(lost.suspended & there):
        people.suspend(connection, by, one, reason=reason)
        report.people_suspended.append(one)
    _devices(connection, by, lost, report, every_device=every_device, reason=reason)
    _scopes(connection, by, lost, report, there, reason=reason)
    _passwords(connection, by, lost, report, there, reason=reason)
    _administrators(connection, by, lost, report, reason=reason)
    _end_what_was_begun(connection, report)
    made = _there(connection, person, list(lost.created))
    report.people_missing = sorted(lost.created.keys() - made - lost.erased)
    report.signing_keys_to_rotate = lost.keys_rotated
    return report, leaving


def order_wipes(
    database: ServiceDatabase, by: Actor, lost: Lost, report: Report, *, secret: str, issuer: str, reason: str
) -> None:
    """Order again the wipes that were ordered; their signatures were lost."""
    with database.begin() as connection:
        there = sorted(_there(connection, device, list(lost.wiped)))
    for one in there:
        try:
            with database.begin() as connection:
                wiping.order(connection, by, one, secret=secret, issuer=issuer, reason=reason)
            report.wipes_ordered.append(one)
        except Conflict:
            report.wipes_not_ordered.append(one)


def _there(connection: Connection, table: Any, ids: Sequence[str]) -> set[str]:
    """Those of `ids` that are there, people on their way out aside."""
    query = select(table.c.id).where(table.c.id.in_(ids))
    if table is person:
        query = query.where(person.c.state != "deleting")
    return set(connection.execute(query).scalars())


def _devices(
    connection: Connection, by: Actor, lost: Lost, report: Report, *, every_device: bool, reason: str
) -> None:
    query = select(device.c.id).where(device.c.revoked_at.is_(None)).order_by(device.c.id)
    if not every_device:
        query = query.where(device.c.id.in_(lost.revoked))
    report.devices_revoked = list(connection.execute(query).scalars())
    if report.devices_revoked:
        devices.revoke_many(connection, by, report.devices_revoked, reason=reason)
    # With the seal a repeated registration would get its credential once more.
    connection.execute(update(device).where(device.c.sealed_secret.is_not(None)).values(sealed_secret=None))


def _scopes(connection: Connection, by: Actor, lost: Lost, report: Report, there: set[str], *, reason: str) -> None:
    links = select(person_client.c.person_id, person_client.c.client_id)
    here = {tuple(row) for row in connection.execute(links.where(person_client.c.person_id.in_(there)))}
    for one in sorted(there):
        gone = [client for (owner, client), linked in lost.links.items() if owner == one and not linked]
        gone = [client for client in gone if (one, client) in here]
        if gone:
            granting.unlink(connection, by, one, gone, reason=reason)
            report.clients_unlinked += len(gone)
        if one in lost.permissions:
            now, then = people.show(connection, one), lost.permissions[one]
            window = _narrower(Window(now.history_from, now.history_months), then)
            less = granting.permit(
                connection,
                by,
                one,
                only=[name for name in now.permissions if name in then["permissions"]],
                window=window,
                reason=reason,
            )
            if less.version != now.version:
                report.people_permitted_less.append(one)
    report.links_missing = sum(
        linked and owner in there and (owner, client) not in here for (owner, client), linked in lost.links.items()
    )


def _narrower(now: Window, then: dict[str, Any]) -> Window:
    """The window as it was set in the end, unless that was wider: between a day and months nobody can tell."""
    since = date.fromisoformat(then["history_from"]) if then["history_from"] else None
    months: int | None = then["history_months"]
    if since is None and months is None:
        return now
    if now.since is not None and since is not None:
        return Window(max(now.since, since), None)
    if now.months is not None and months is not None:
        return Window(None, min(now.months, months))
    return Window(since, months)


def _passwords(
    connection: Connection, by: Actor, lost: Lost, report: Report, there: set[str], *, reason: str
) -> None:
    # Nobody has this one: whoever knows the password that was replaced comes no further.
    nobodys, _ = given_or_new(None, username="")
    for one in sorted(lost.passwords & there):
        people.reset_password(connection, by, one, nobodys, reason=reason)
        report.people_without_password.append(one)
    for one in sorted(_there(connection, administrator, list(lost.passwords))):
        administrators.reset_password(connection, by, one, nobodys, reason=reason)
        report.administrators_without_password.append(one)


def _administrators(connection: Connection, by: Actor, lost: Lost, report: Report, *, reason: str) -> None:
    here = _there(connection, administrator, [*lost.administrators, *lost.administrators_created])
    report.administrators_missing = sorted(lost.administrators_created - here)
    for one in sorted(lost.administrators.keys() & here):
        now, then = administrators.show(connection, one), lost.administrators[one]
        role = lower_role(now.role, then.get("role", now.role))
        state = "suspended" if then.get("state") == "suspended" else now.state
        try:
            less = administrators.change(connection, by, one, role=role, state=state, reason=reason)
        except Conflict:  # somebody must be able to make another one
            report.last_owners.append(one)
            continue
        if less.version != now.version:
            report.administrators_changed.append(one)


def _end_what_was_begun(connection: Connection, report: Report) -> None:
    """Every session, every code that was not used, every act that waits for approval: some of them had ended."""
    connection.execute(delete(activation).where(activation.c.used_at.is_(None)))
    report.sessions_ended = connection.execute(
        update(session).where(session.c.ended_at.is_(None)).values(ended_at=func.now(), ended_because="institution")
    ).rowcount
    report.approvals_refused = connection.execute(
        update(approval).where(approval.c.decided_at.is_(None)).values(decided_at=func.now(), decision="refused")
    ).rowcount
