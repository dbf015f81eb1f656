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
class Verdict:
    """What a verification found: how many rows hold, and the first that does not."""

    rows: int
    head: Head | None
    broken: int | None = None
    why: str = ""

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

    def add(self, by: Actor, event: Event, reason: str) -> None:
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
            }
        )

    def flush(self, connection: Connection) -> None:
        """Append the rows to the chain, but for repeats, which are counted."""
        self._leave_out_repeats(connection)
        if not self._rows:
            return
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
            number += 1
            row |= {"id": number, "at": now, "previous_hash": previous}
            previous = row["hash"] = _hash(row)
        connection.execute(insert(audit_event), self._rows)
        self._rows = []

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


def head(connection: Connection) -> Head | None:
    """The last row, or None for an empty log."""
    row = connection.execute(
        select(audit_event.c.id, audit_event.c.hash).order_by(audit_event.c.id.desc()).limit(1)
    ).one_or_none()
    return Head(row.id, bytes(row.hash).hex()) if row else None


def verify(
    connection: Connection, *, anchors: Sequence[Head] = (), progress: Callable[[int], None] = lambda _: None
) -> Verdict:
    """Walk the chain from its beginning. The first row that does not hold is named; `anchors` must be in it."""
    previous, number = _BEGINNING, 0
    known = {anchor.id: anchor.hash for anchor in anchors}
    for row in _walk(connection):
        number += 1
        problem = _problem(row, number, previous, known)
        if problem:
            return Verdict(number - 1, None, min(row.id, number) if row.id > number else row.id, problem)
        previous = bytes(row.hash)
        if number % _AT_ONCE == 0:
            progress(number)
    missing = min((anchor for anchor in known if anchor > number), default=None)
    if missing is not None:
        return Verdict(number, None, number + 1, f"the log ends before row {missing}, which an anchor names")
    return Verdict(number, Head(number, previous.hex()) if number else None)


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


def _problem(row: Row[Any], number: int, previous: bytes, anchors: dict[int, str]) -> str:
    if row.id != number:
        return f"row {number} is missing" if row.id > number else f"row {row.id} was put before the beginning"
    if bytes(row.previous_hash) != previous:
        return "it does not follow the row before it"
    if bytes(row.hash) != _hash(row._asdict()):
        return "its content is not what was recorded"
    if number in anchors and anchors[number] != bytes(row.hash).hex():
        return "it is not the row that the anchor names: the log was made anew"
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
