"""Writing the audit log, and proving that nobody has changed it since.

Each row has the hash of the row before it in its own hash, and the ids have no gap: whoever changes, removes or
inserts a row breaks the chain at that row. Somebody with the rights of the database's owner could make the whole
chain anew; a head noted elsewhere (an *anchor*) shows that too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, true

from passbook.audit import repeats
from passbook.audit.events import Event
from passbook.audit.repeats import Sight
from passbook.audit.restores import ServiceDatabaseRestored
from passbook.credentials import new_id
from passbook.errors import Refused
from passbook.servicedb.tables import audit_event

#: Key of the advisory lock under which the chain grows; held from the flush to the commit alone.
_CHAIN_LOCK = 0x70617375
_BEGINNING = b"\0" * 32
_AT_ONCE = 2000


@dataclass(frozen=True)
class Actor:
    """Who does something, and from where."""

    kind: Literal["person", "administrator", "operator", "anonymous", "worker"]
    #: Opaque id; for an operator at the command line, the name of their account on the machine.
    id: str = ""
    request_id: str = ""
    address: str = ""


#: The worker finishing what others have begun.
WORKER = Actor("worker")


@dataclass(frozen=True)
class Entry:
    """A row of the log."""

    id: int
    at: datetime
    event: str
    actor_kind: str
    actor: str
    person: str | None
    device: str | None
    reason: str
    request_id: str
    address: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class Head:
    """The last row: noted elsewhere, it proves later that no row up to it was changed."""

    id: int
    hash: str

    def __str__(self) -> str:
        return f"{self.id}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """From `17:ab12…`. Raises `Refused` for anything else."""
        number, colon, digest = text.partition(":")
        if not colon or not (number.isascii() and number.isdigit()) or len(digest) != 64:
            raise Refused(f"{text!r} is no anchor.", remedy="It is ID:HASH, as `passbook audit verify` prints it.")
        return cls(int(number), digest.lower())


@dataclass(frozen=True)
class Lost:
    """Rows that a restored service database does not have, as its log tells: after `common`, up to `until`."""

    #: The row that tells so.
    told_by: int
    common: int
    until: int

    def has(self, number: int) -> bool:
        """Whether a row of this number was lost (another may have the number now)."""
        return self.common < number <= self.until


@dataclass(frozen=True)
class Verdict:
    """What a verification found: how many rows hold, and the first that does not."""

    rows: int
    head: Head | None
    broken: int | None = None
    why: str = ""
    #: Rows that were lost when the service database was restored: what was recorded about that.
    lost: tuple[Lost, ...] = ()

    @property
    def ok(self) -> bool:
        return self.broken is None


class Pending:
    """The events of one transaction: they enter the chain together, right before the commit.

    The chain can grow only one transaction at a time. Waiting for it *before* other rows are locked would let two
    transactions wait for each other, so nothing may follow the flush but the commit.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        #: Those that may be one of many, by their place among the rows.
        self._sights: dict[int, Sight] = {}

    def add(self, by: Actor, event: Event, reason: str, *, number: int = 0) -> None:
        """Keep an event for the flush. It gets the next number, or `number` if that is higher."""
        fields = event.fields()
        if event.in_full is not None:
            self._sights[len(self._rows)] = Sight(
                event.name(),
                by.kind,
                by.id,
                None if event.by_place else fields.get("person"),
                None if event.by_place else fields.get("administrator"),
                by.address,
                event.in_full,
            )
        self._rows.append(
            {
                "event": event.name(),
                "actor_kind": by.kind,
                "actor": by.id,
                "person": fields.pop("person", None),
                "device": fields.pop("device", None),
                "reason": reason,
                "request_id": by.request_id,
                "address": by.address,
                "detail": _canonical(fields),
                "id": number,
            }
        )

    def flush(self, connection: Connection) -> Head | None:
        """Append the rows to the chain, but for repeats, which are counted; its new head, or None for no rows."""
        self._leave_out_repeats(connection)
        if not self._rows:
            return None
        connection.execute(select(func.pg_advisory_xact_lock(_CHAIN_LOCK)))
        # A statement of its own, begun with the lock held: else it would not see what the last holder wrote.
        last = select(audit_event.c.id, audit_event.c.hash).order_by(audit_event.c.id.desc()).limit(1).subquery()
        beginning = select(func.clock_timestamp().label("now")).subquery()
        now, number, previous = connection.execute(
            select(beginning.c.now, func.coalesce(last.c.id, 0), func.coalesce(last.c.hash, _BEGINNING))
            .select_from(beginning)
            .outerjoin(last, true())
        ).one()
        previous = bytes(previous)
        for row in self._rows:
            number = max(number + 1, row["id"])
            row |= {"id": number, "at": now, "previous_hash": previous}
            previous = row["hash"] = _hash(row)
        connection.execute(insert(audit_event), self._rows)
        self._rows = []
        return Head(number, previous.hex())

    def _leave_out_repeats(self, connection: Connection) -> None:
        if not self._sights:
            return
        in_full, sums = repeats.count(connection, list(self._sights.values()))
        left_out = {number for number, written in zip(self._sights, in_full, strict=True) if not written}
        rows = [row for number, row in enumerate(self._rows) if number not in left_out]
        self._rows, self._sights = [], {}
        for one in sums:
            self.add(Actor(one.actor_kind, one.actor, address=one.address), one.event, "")  # type: ignore[arg-type]
        self._rows += rows


def tell_repeats(connection: Connection) -> None:
    """Tell how often events were repeated whose while is over: the auth service does so now and then."""
    for one in repeats.sweep(connection):
        record(connection, Actor(one.actor_kind, one.actor, address=one.address), one.event)  # type: ignore[arg-type]


#: Key under which a connection carries its `Pending`; `ServiceDatabase.begin` puts it there and flushes it.
PENDING = "passbook.audit.pending"


def record(connection: Connection, by: Actor, event: Event, *, reason: str = "") -> None:
    """Note an event in the transaction of `connection`: it is in the log if, and only if, that is committed."""
    pending: Pending = connection.info[PENDING]
    pending.add(by, event, reason)


def go_on(connection: Connection, by: Actor, *, common: int, until: Head | None, reason: str) -> None:
    """Record that the log goes on after a restore: its next number is higher than any that was lost.

    `common` is the last row known to be in both logs, `until` the last one that is known to have been lost. Nobody
    else adds to the chain from here to the commit, so nothing may be locked after this.
    """
    connection.execute(select(func.pg_advisory_xact_lock(_CHAIN_LOCK)))
    last = head(connection)
    pending: Pending = connection.info[PENDING]
    event = ServiceDatabaseRestored(
        common=common,
        until=until.id if until else 0,
        anchor=str(until) if until else "",
        follows=last.id if last else 0,
    )
    pending.add(by, event, reason, number=event.until + 1)


def head(connection: Connection) -> Head | None:
    """The last row, or None for an empty log."""
    row = connection.execute(
        select(audit_event.c.id, audit_event.c.hash).order_by(audit_event.c.id.desc()).limit(1)
    ).one_or_none()
    return Head(row.id, bytes(row.hash).hex()) if row else None


def has(connection: Connection, anchor: Head | None) -> bool:
    """Whether the log has this row; of None, it has."""
    if anchor is None:
        return True
    found = connection.execute(select(audit_event.c.hash).where(audit_event.c.id == anchor.id)).scalar()
    return found is not None and bytes(found).hex() == anchor.hash


def lost(connection: Connection) -> list[Lost]:
    """What the log tells of rows that were lost when the service database was restored, oldest first."""
    rows = connection.execute(
        select(audit_event).where(audit_event.c.event == ServiceDatabaseRestored.name()).order_by(audit_event.c.id)
    )
    told = [(row.id, msgspec.json.decode(row.detail)) for row in rows]
    return [Lost(number, detail["common"], detail["until"]) for number, detail in told]


def verify(
    connection: Connection, *, anchors: Sequence[Head] = (), progress: Callable[[int], None] = lambda _: None
) -> Verdict:
    """Walk the chain from its beginning. The first row that does not hold is named; `anchors` must be in it.

    Where the service database was restored from a back-up, the log says which numbers it lost: an anchor among
    them is not missed.
    """
    previous, number, rows = _BEGINNING, 0, 0
    missed = {anchor.id: anchor.hash for anchor in anchors}
    lost: list[Lost] = []
    for row in _walk(connection):
        restored = _restored(row, number)
        number = row.id if restored else number + 1
        problem = _problem(row, number, previous)
        if problem:
            return Verdict(rows, None, min(row.id, number) if row.id > number else row.id, problem)
        if restored:
            lost.append(restored)
        rows += 1
        previous = bytes(row.hash)
        if missed.get(number) == previous.hex():
            del missed[number]
        if rows % _AT_ONCE == 0:
            progress(rows)
    missing = min((anchor for anchor in missed if not any(one.has(anchor) for one in lost)), default=None)
    if missing is None:
        return Verdict(rows, Head(number, previous.hex()) if number else None, lost=tuple(lost))
    if missing > number:
        why = f"the log ends before row {missing}, which an anchor names"
        return Verdict(rows, None, number + 1, why, tuple(lost))
    why = "it is not the row that the anchor names: the log was made anew"
    return Verdict(rows, None, missing, why, tuple(lost))


def entries(
    connection: Connection,
    *,
    event: str | None = None,
    person: str | None = None,
    actor: str | None = None,
    device: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Rows that fit all the filters, newest first; `before` is the id to go on from."""
    query = select(audit_event).order_by(audit_event.c.id.desc()).limit(limit)
    for column, value in (("event", event), ("person", person), ("actor", actor), ("device", device)):
        if value is not None:
            query = query.where(audit_event.c[column] == value)
    if since is not None:
        query = query.where(audit_event.c.at >= since)
    if until is not None:
        query = query.where(audit_event.c.at < until)
    if before is not None:
        query = query.where(audit_event.c.id < before)
    return [_entry(row) for row in connection.execute(query)]


def now(connection: Connection) -> datetime:
    """The time by the database's clock, which is the log's."""
    instant: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return instant


def operator(account: str) -> Actor:
    """Somebody at the command line of the machine; what they do in one command has one request id."""
    return Actor("operator", account, new_id("command"))


def _walk(connection: Connection) -> Iterator[Row[Any]]:
    after = -(2**63)
    while True:
        query = select(audit_event).where(audit_event.c.id > after).order_by(audit_event.c.id).limit(_AT_ONCE)
        rows = connection.execute(query).all()
        yield from rows
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1].id


def _restored(row: Row[Any], number: int) -> Lost | None:
    """What the row tells of a restore, if it does, and if it follows the row before it as it says."""
    if row.event != ServiceDatabaseRestored.name():
        return None
    told = msgspec.json.decode(row.detail)
    follows, until = told["follows"], told["until"]
    return Lost(row.id, told["common"], until) if (follows, max(follows, until) + 1) == (number, row.id) else None


def _problem(row: Row[Any], number: int, previous: bytes) -> str:
    if row.id != number:
        return f"row {number} is missing" if row.id > number else f"row {row.id} was put before the beginning"
    if bytes(row.previous_hash) != previous:
        return "it does not follow the row before it"
    if bytes(row.hash) != _hash(row._asdict()):
        return "its content is not what was recorded"
    return ""


def _hash(row: dict[str, Any]) -> bytes:
    content = [
        row["id"],
        row["at"].astimezone(UTC).isoformat(timespec="microseconds"),
        *(row[name] for name in ("event", "actor_kind", "actor", "person", "device", "reason")),
        *(row[name] for name in ("request_id", "address", "detail")),
        bytes(row["previous_hash"]).hex(),
    ]
    return hashlib.sha256(_canonical(content).encode()).digest()


def _canonical(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def _entry(row: Row[Any]) -> Entry:
    values = row._asdict()
    values["detail"] = msgspec.json.decode(row.detail)
    del values["previous_hash"], values["hash"]
    return Entry(**values)
