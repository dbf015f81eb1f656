"""Events that somebody can cause as often as they like: a few are written in full, the rest of a while are counted.

The log only grows, so whoever could add a row with each request could fill the disk, and hide what matters among
rows that do not. Events of a class with `in_full` are counted by event, actor, whom they concern and place: so many
in ten minutes have rows of their own, as they happen, and all further ones have one row together (`Repeated`), with
their number. It is written with the next such event after that while, or by the auth service's sweep. The numbers
that wait for that are in an unlogged table: a crash of the database server may lose them, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from passbook.audit.events import Repeated
from passbook.servicedb.tables import audit_repeat

WHILE = timedelta(minutes=10)
_AT_ONCE = 1000


@dataclass(frozen=True)
class Sight:
    """An event that may be one of many: as whose, about whom and where it is counted, and how many are in full."""

    event: str
    actor_kind: str
    actor: str
    person: str | None
    administrator: str | None
    address: str
    in_full: int

    @property
    def key(self) -> bytes:
        named = (self.event, self.actor_kind, self.actor, self.person, self.administrator, self.address)
        return hashlib.sha256(msgspec.json.encode(named)).digest()


@dataclass(frozen=True)
class Sum:
    """What is to be told of repeats that are over: the event, and who caused it from where."""

    actor_kind: str
    actor: str
    address: str
    event: Repeated


def count(connection: Connection, sights: Sequence[Sight]) -> tuple[list[bool], list[Sum]]:
    """Count events; for each whether it gets a row of its own, and what has to be told of those before them.

    Keeps rows locked until the transaction ends: to be called right before its end.
    """
    in_full = [True] * len(sights)
    sums = []
    # In one order, or two transactions with the same two events could wait for each other.
    for number, sight in sorted(enumerate(sights), key=lambda pair: pair[1].key):
        new = insert(audit_repeat).values(
            key=sight.key,
            event=sight.event,
            actor_kind=sight.actor_kind,
            actor=sight.actor,
            person=sight.person,
            administrator=sight.administrator,
            address=sight.address,
        )
        before = connection.execute(
            new.on_conflict_do_update(index_elements=["key"], set_={"key": new.excluded.key}).returning(
                *audit_repeat.c, (audit_repeat.c.since <= func.clock_timestamp() - WHILE).label("over")
            )
        ).one()
        now: dict[str, Any] = {"until": func.clock_timestamp()}
        if before.over:
            sums += _sum(before)
            now |= {"since": func.clock_timestamp(), "written": 1, "counted": 0}
        elif before.written < sight.in_full:
            now["written"] = before.written + 1
        else:
            in_full[number] = False
            now["counted"] = before.counted + 1
        connection.execute(update(audit_repeat).where(audit_repeat.c.key == sight.key).values(now))
    return in_full, sums


def sweep(connection: Connection) -> list[Sum]:
    """Forget repeats that are over; what has to be told of them."""
    over = connection.execute(
        select(audit_repeat)
        .where(audit_repeat.c.since <= func.now() - WHILE)
        .order_by(audit_repeat.c.key)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    connection.execute(delete(audit_repeat).where(audit_repeat.c.key.in_([row.key for row in over])))
    return [one for row in over for one in _sum(row)]


def _sum(row: Row[Any]) -> list[Sum]:
    if not row.counted:
        return []
    repeated = Repeated(
        of=row.event,
        times=row.counted,
        since=_text(row.since),
        until=_text(row.until),
        person=row.person,
        administrator=row.administrator,
    )
    return [Sum(row.actor_kind, row.actor, row.address, repeated)]


def _text(at: Any) -> str:
    return str(at.astimezone(UTC).isoformat(timespec="seconds"))
