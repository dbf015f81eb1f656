"""The switch for everybody: whether anybody at all may sign in or synchronise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from passbook.audit.chain import Actor, record
from passbook.audit.events import TenantClosed, TenantOpened
from passbook.servicedb.tables import tenant
from passbook.witness import note


@dataclass(frozen=True)
class Tenant:
    """The switch. `reason` is why it was last turned."""

    open: bool
    reason: str
    changed_at: datetime

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def show(connection: Connection) -> Tenant:
    """How the switch stands."""
    row = connection.execute(select(tenant.c.open, tenant.c.reason, tenant.c.changed_at)).one()
    return Tenant(*row)


def switch(connection: Connection, by: Actor, *, to_open: bool, reason: str) -> Tenant:
    """Turn access on or off for everybody; gateways are told with the commit. Sessions and devices outlive it.

    Raises `OlderDatabase` where it would be on in a database that was restored and not seen to.
    """
    if to_open:
        note.read(connection).check()
    turned = connection.execute(
        update(tenant)
        .where(tenant.c.open != to_open)
        .values(open=to_open, reason=reason, changed_at=func.now(), version=tenant.c.version + 1)
    )
    if turned.rowcount:
        record(connection, by, TenantOpened() if to_open else TenantClosed(), reason=reason)
    return show(connection)
