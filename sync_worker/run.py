"""What one pass is about, and what it carries from batch to batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection

from projections.context import Context
from sync_worker import scope_changes, scopes
from sync_worker.ledger.reader import Failure, Lookups
from sync_worker.manifests import Contents
from sync_worker.reading import Pace
from sync_worker.scope_changes import Pending
from sync_worker.scopes import Holder, Leaver

#: People in one pass over changes of scope: bounds how long a change that comes meanwhile must wait.
MOST_PEOPLE = 500


@dataclass
class Summary:
    """What a pass did."""

    persons: int = 0
    clients: int = 0
    documents_written: int = 0
    documents_deleted: int = 0
    documents_unchanged: int = 0
    failures: int = 0
    seconds: float = 0.0

    def add(self, other: Summary) -> None:
        """Count in the documents of a pass that was made in the midst of this one."""
        self.documents_written += other.documents_written
        self.documents_deleted += other.documents_deleted
        self.documents_unchanged += other.documents_unchanged

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class People:
    """Whom a pass is about: everybody, or (`all` is false) those whose scope changed."""

    all: bool
    holders: list[Holder]
    leavers: list[Leaver]
    #: Changes of scope that the scopes of the holders contain for certain.
    pending: Pending
    #: Whether others with changes of scope were left for the next pass.
    more: bool = False

    @classmethod
    def everybody(cls, connection: Connection, today: date) -> People:
        """Whom a full pass is about."""
        pending = scope_changes.pending(connection)
        return cls(True, *scopes.load(connection, today), pending)

    @classmethod
    def changed(cls, connection: Connection, today: date) -> People:
        """The first `MOST_PEOPLE` people with pending changes of scope, and all who are to be erased."""
        chosen = scope_changes.first(connection, MOST_PEOPLE + 1)
        pending = scope_changes.pending(connection)
        only = {*chosen[:MOST_PEOPLE], *scopes.leaving(connection)}
        return cls(False, *scopes.load(connection, today, only), pending, more=len(chosen) > MOST_PEOPLE)

    @property
    def ids(self) -> list[str]:
        """Everybody it is about, those on the way out included."""
        return [holder.id for holder in self.holders] + [leaver.id for leaver in self.leavers]


@dataclass
class Run:
    """One pass under way."""

    #: Whether it is about everybody.
    all: bool
    holders: dict[str, Holder]
    #: When it began, by the ledger's clock: the time of what no single batch can date.
    as_of: datetime
    context: Context
    pace: Pace
    summary: Summary
    contents: dict[str, Contents]
    #: Clients still to be read, per person; at zero the manifest is due.
    waiting: dict[str, int]
    holders_of: dict[int, list[Holder]]
    pending: Pending
    failures: dict[int, Failure] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    #: People whose database was rebuilt without a client that could not be read.
    lacking: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, people: People, lookups: Lookups, pace: Pace) -> Run:
        """The beginning of a pass over these people."""
        holders_of: dict[int, list[Holder]] = defaultdict(list)
        for holder in people.holders:
            for client_id in holder.scope.clients:
                holders_of[client_id].append(holder)
        holders = {holder.id: holder for holder in people.holders}
        return cls(
            all=people.all,
            holders=holders,
            as_of=lookups.as_of,
            context=Context(lookups.currencies, lookups.rounding, lookups.business_date),
            pace=pace,
            summary=Summary(persons=len(holders)),
            contents={person_id: Contents() for person_id in holders},
            waiting={holder.id: len(holder.scope.clients) for holder in people.holders},
            holders_of=dict(holders_of),
            pending={person_id: ids for person_id, ids in people.pending.items() if person_id in holders},
        )

    @property
    def counting(self) -> dict[str, int]:
        """By person, the pending change of scope that gets the counts: the last."""
        return {person_id: ids[-1] for person_id, ids in self.pending.items()}

    def troubled(self) -> set[str]:
        """People of whose clients some could not be read or projected."""
        return {
            holder.id
            for holder in self.holders.values()
            if not holder.scope.clients.isdisjoint(self.failures.keys())
        }

    def forget(self, people: Iterable[str]) -> None:
        """Leave these people alone from now on: somebody else keeps their copies, by a newer scope than ours."""
        for person_id in people:
            holder = self.holders.pop(person_id, None)
            if holder is not None:
                for client_id in holder.scope.clients:
                    self.holders_of[client_id].remove(holder)
            self.pending.pop(person_id, None)
            self.lost.discard(person_id)
            self.lacking.discard(person_id)
