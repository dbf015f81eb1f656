"""Bringing many people in: a hundred to a transaction, passwords hashed while the transactions before run.

Whoever is there already and is as the list says stays untouched. So the same list can be imported again after a
crash, and goes on where it ended.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import ARRAY, Connection, Text, cast, func, select
from sqlalchemy.exc import DBAPIError

from auth_service import people
from auth_service.importing.handout import Entry, Handout
from auth_service.importing.rows import Row, attempt, checked, judged
from auth_service.importing.wanted import Outcome, Report, Wanted
from auth_service.passwords import check_policy, hash_password, initial_password
from auth_service.people import Person
from passbook.audit.chain import Actor, record
from passbook.audit.events import PeopleImported
from passbook.errors import Refused, Unavailable
from passbook.progress import Reporter
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import person

#: Rows of one transaction.
BATCH = 100
#: Batches whose passwords are hashed while another is written.
_AHEAD = 2
#: Key of the advisory lock that a batch holds: two imports with the same people in another order would lock each
#: other out.
_IMPORT_LOCK = 0x70617369
#: What PostgreSQL says when it ended a transaction for the sake of another; the same again works.
_AGAIN = ("40P01", "40001")
_ATTEMPTS = 5

#: The hash of those who have no password: none matches it.
_NO_PASSWORD = "-"  # noqa: S105


@dataclass(frozen=True)
class Terms:
    """On whose behalf and how an import is made."""

    by: Actor
    #: `csv` or `fineract`.
    source: str
    #: What the entries' numbers are: `line`, `ledger user`.
    place: str
    #: People who are there become as the list says.
    update: bool = False
    #: Say what would happen, and change nothing.
    dry_run: bool = False
    #: Somebody new without a password in the list gets an initial one; else none at all.
    initial: bool = False
    reason: str = ""


@dataclass(frozen=True)
class _Secret:
    """The hash of somebody new's password, and the password if it was made here."""

    hashed: str
    initial: str = ""


_Batch = list[tuple[Row, Future[_Secret] | None]]


class _Again(Exception):
    """The database ended the transaction for the sake of another."""


def bring_in(
    database: ServiceDatabase,
    wanted: Iterable[Wanted],
    terms: Terms,
    *,
    passwords: Handout | None,
    reporter: Reporter,
    total: int,
) -> Report:
    """Create and change people as `wanted` says; refused entries do not stop the others.

    Initial passwords go into `passwords`, which must be there if there are to be any and it is no dry run. Who
    has no password at all cannot sign in until it is reset.
    """
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hashing") as threads:
        one = _Import(database, terms, passwords, threads)
        ahead: deque[_Batch] = deque()
        rows = checked(wanted, terms.place)
        try:
            while batch := list(islice(rows, BATCH)):
                ahead.append(one.begin(batch))
                if len(ahead) > _AHEAD:
                    outcomes += one.finish(ahead.popleft())
                    reporter.update(len(outcomes), total)
            while ahead:
                outcomes += one.finish(ahead.popleft())
                reporter.update(len(outcomes), total)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    report = Report(outcomes, terms.place, terms.dry_run)
    if not terms.dry_run:
        counts = report.counts
        event = PeopleImported(
            source=terms.source, created=counts["created"], changed=counts["changed"], refused=counts["refused"]
        )
        with database.begin() as connection:
            record(connection, terms.by, event, reason=terms.reason)
    return report


class _Import:
    def __init__(
        self, database: ServiceDatabase, terms: Terms, passwords: Handout | None, threads: ThreadPoolExecutor
    ) -> None:
        self._database = database
        self._terms = terms
        self._passwords = passwords
        self._threads = threads

    def begin(self, rows: Sequence[Row]) -> _Batch:
        """Have the passwords made and hashed that the rows will need: not those of people who are there."""
        needy = [row for row in rows if row.outcome is None and self._needs_hash(row.wanted)]
        there = self._database.run(_find, [row.wanted.username for row in needy]) if needy else {}
        needing = {id(row) for row in needy if row.wanted.username not in there}
        return [
            (row, self._threads.submit(self._secret, row.wanted) if id(row) in needing else None) for row in rows
        ]

    def finish(self, batch: _Batch) -> list[Outcome]:
        """Write the rows, all that can be, in one transaction."""
        ready = [_with_secret(row, secret) for row, secret in batch]
        if self._terms.dry_run:
            with self._database.begin() as connection:
                return self._look(connection, [row for row, _ in ready])
        for _ in range(_ATTEMPTS):
            try:
                with self._database.begin() as connection:
                    return self._write(connection, ready)
            except _Again:
                continue
        raise Unavailable("The service database is too busy: others keep changing the same people.")

    def _needs_hash(self, wanted: Wanted) -> bool:
        return wanted.password is not None or (self._terms.initial and not self._terms.dry_run)

    def _secret(self, wanted: Wanted) -> _Secret:
        if wanted.password is None:
            initial = initial_password(wanted.username)
            return _Secret(hash_password(initial, username=wanted.username), initial)
        if self._terms.dry_run:
            check_policy(wanted.password, username=wanted.username)
            return _Secret(_NO_PASSWORD)
        return _Secret(hash_password(wanted.password, username=wanted.username))

    def _look(self, connection: Connection, rows: Sequence[Row]) -> list[Outcome]:
        there = _find(connection, [row.wanted.username for row in rows if row.outcome is None])
        outcomes = []
        for row in rows:
            found = there.get(row.wanted.username)
            outcome = row.outcome or judged(row.wanted, found, update=self._terms.update)
            if outcome is None:
                done = "changed" if found else "created"
                signs_in = row.wanted.password is not None
                outcome = Outcome(row.wanted.number, row.wanted.username, done, can_sign_in=signs_in)
            outcomes.append(outcome)
        return outcomes

    def _write(self, connection: Connection, batch: Sequence[tuple[Row, _Secret | None]]) -> list[Outcome]:
        try:
            connection.execute(select(func.pg_advisory_xact_lock(_IMPORT_LOCK)))
            names = [row.wanted.username for row, _ in batch if row.outcome is None]
            there = _find(connection, names, lock=self._terms.update)
            outcomes = []
            initials: list[Entry] = []
            for row, secret in batch:
                outcome = row.outcome or self._write_one(
                    connection, row.wanted, there.get(row.wanted.username), secret
                )
                outcomes.append(outcome)
                if secret and secret.initial and outcome.outcome == "created":
                    initials.append(Entry(outcome.username, secret.initial, outcome.person))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") in _AGAIN:
                raise _Again from None
            raise
        if self._passwords is not None and initials:
            # The last thing before the commit: what is on disk is what is committed, or of one batch that is not.
            self._passwords.add(initials)
        return outcomes

    def _write_one(
        self, connection: Connection, wanted: Wanted, found: Person | None, secret: _Secret | None
    ) -> Outcome:
        outcome = judged(wanted, found, update=self._terms.update)
        if outcome is not None:
            return outcome
        if found is None and secret is None and self._needs_hash(wanted):
            reason = "Somebody of this name was deleted during the import; import again."
            return Outcome(wanted.number, wanted.username, "refused", reason)
        hashed = secret.hashed if secret else _NO_PASSWORD
        return attempt(connection, wanted, found, hashed=hashed, by=self._terms.by, reason=self._terms.reason)


def _with_secret(row: Row, secret: Future[_Secret] | None) -> tuple[Row, _Secret | None]:
    """The row with its finished secret; refused if its password will not do."""
    if secret is None:
        return row, None
    try:
        return row, secret.result()
    except Refused as error:
        return Row(row.wanted, row.refusal(error)), None


def _find(connection: Connection, usernames: Sequence[str], *, lock: bool = False) -> dict[str, Person]:
    """The people of these user names, by the name as it was given. With `lock` their rows stay locked."""
    if not usernames:
        return {}
    given = select(func.unnest(cast(list(usernames), ARRAY(Text))).label("name")).subquery()
    query = (
        select(given.c.name, person.c.id)
        .join(person, func.lower(person.c.username) == func.lower(given.c.name))
        .where(person.c.state != "deleting")
        .order_by(person.c.id)
    )
    found = connection.execute(query.with_for_update(of=person) if lock else query).all()
    loaded = {one.person: one for one in people.load(connection, [row.id for row in found])}
    return {row.name: loaded[row.id] for row in found if row.id in loaded}
