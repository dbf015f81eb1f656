"""One entry of an import: whether it can be, what it would change, and doing so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from auth_service import granting, people
from auth_service.importing.wanted import Outcome, Wanted, shown
from auth_service.people import KINDS, Person
from auth_service.scopes import Window, checked_clients, checked_permissions, checked_window
from passbook.audit.chain import PENDING, Actor
from passbook.audit.events import Event
from passbook.errors import Refused
from passbook.scope import PERMISSIONS


@dataclass(frozen=True)
class Row:
    """An entry, with its outcome if that is known before looking at who is there."""

    wanted: Wanted
    outcome: Outcome | None = None

    def refusal(self, error: Refused) -> Outcome:
        """The outcome of an entry that cannot be."""
        return _refused(self.wanted, f"{error.message} {error.remedy}".strip())


def checked(wanted: Iterable[Wanted], place: str) -> Iterator[Row]:
    """The entries, those refused that nobody can be, or whose user name stood further up already."""
    seen: dict[str, int] = {}
    for one in wanted:
        if one.refused:
            yield Row(one, _refused(one, one.refused))
            continue
        if one.skipped:
            yield Row(one, Outcome(one.number, shown(one.username), "skipped", one.skipped))
            continue
        try:
            plain = _plain(one)
        except Refused as error:
            yield Row(one, Row(one).refusal(error))
            continue
        first = seen.setdefault(plain.username.lower(), one.number)
        if first != one.number:
            yield Row(one, _refused(one, f"The user name is that of {place} {first}."))
            continue
        yield Row(plain)


def judged(wanted: Wanted, found: Person | None, *, update: bool) -> Outcome | None:
    """The outcome if there is nothing to do; None for an entry that creates or changes a person."""
    if found is None:
        return None
    other = _differences(wanted, found)
    if not other:
        return Outcome(wanted.number, wanted.username, "unchanged", person=found.person)
    if update:
        return None
    reason = f"There is a person of this name with other {' and other '.join(other)}; --update changes that."
    return _refused(wanted, reason)


def attempt(
    connection: Connection, wanted: Wanted, found: Person | None, *, hashed: str, by: Actor, reason: str
) -> Outcome:
    """Create the person, or make the one found as wanted. If that is refused, nothing of it stays."""
    try:
        with _part(connection):
            if found is None:
                made = people.add(
                    connection,
                    by,
                    username=wanted.username,
                    kind=wanted.kind or wanted.new_kind,
                    clients=wanted.clients or (),
                    permissions=PERMISSIONS if wanted.permissions is None else wanted.permissions,
                    window=wanted.window,
                    password_hash=hashed,
                    reason=reason,
                )
                return _done(wanted, "created", made, can_sign_in=hashed != "-")
            _change(connection, wanted, found, by, reason)
            return _done(wanted, "changed", found)
    except Refused as error:
        return Row(wanted).refusal(error)


@contextmanager
def _part(connection: Connection) -> Iterator[None]:
    """A savepoint: what fails in it leaves nothing in the database, and nothing in the audit log either."""
    outer = connection.info[PENDING]
    noted = connection.info[PENDING] = _Noted()
    try:
        with connection.begin_nested():
            yield
    finally:
        connection.info[PENDING] = outer
    for by, event, reason in noted.events:
        outer.add(by, event, reason)


class _Noted:
    """Keeps what is recorded until its savepoint is past."""

    def __init__(self) -> None:
        self.events: list[tuple[Actor, Event, str]] = []

    def add(self, by: Actor, event: Event, reason: str) -> None:
        self.events.append((by, event, reason))


def _plain(wanted: Wanted) -> Wanted:
    """The entry with its values as they are kept. Raises `Refused` for one that cannot be."""
    if (wanted.kind or wanted.new_kind) not in KINDS:
        raise Refused(f"{shown(wanted.kind or '')!r} is no kind of person: {', '.join(KINDS)}.")
    return replace(
        wanted,
        username=people.checked_username(wanted.username),
        clients=None if wanted.clients is None else checked_clients(wanted.clients),
        permissions=None if wanted.permissions is None else checked_permissions(wanted.permissions),
        window=None if wanted.window is None else checked_window(wanted.window),
    )


def _differences(wanted: Wanted, found: Person) -> list[str]:
    different = {
        "kind": wanted.kind not in (None, found.kind),
        "clients": wanted.clients is not None and list(wanted.clients) != found.clients,
        "permissions": wanted.permissions is not None and list(wanted.permissions) != found.permissions,
        "history": wanted.window not in (None, Window(found.history_from, found.history_months)),
    }
    return [what for what, is_so in different.items() if is_so]


def _change(connection: Connection, wanted: Wanted, found: Person, by: Actor, reason: str) -> None:
    if wanted.kind is not None:
        people.change(connection, by, found.person, kind=wanted.kind, reason=reason)
    if wanted.clients is not None:
        # Taking away first: in between nobody has more than the limit.
        gone = set(found.clients) - set(wanted.clients)
        granting.unlink(connection, by, found.person, gone, reason=reason)
        granting.link(connection, by, found.person, wanted.clients, reason=reason)
    granting.permit(connection, by, found.person, only=wanted.permissions, window=wanted.window, reason=reason)


def _done(wanted: Wanted, outcome: str, person: Person, *, can_sign_in: bool = False) -> Outcome:
    return Outcome(wanted.number, wanted.username, outcome, person=person.person, can_sign_in=can_sign_in)


def _refused(wanted: Wanted, reason: str) -> Outcome:
    return Outcome(wanted.number, shown(wanted.username), "refused", reason)
