"""Sessions: one sign-in and the family of refresh tokens that follows from it.

A refresh token is good once. The answer to a refresh may be lost on its way, so the same token gets a new answer
as long as nobody has used the one before: neither its refresh token nor, after a short while, its access token.
A spent token that comes later was stolen by somebody: the whole session ends. Only digests of tokens are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, FromClause, delete, exists, func, insert, select, update

from auth_service.causes import SessionCause, Told
from auth_service.marks import Marks
from passbook.audit.chain import Actor, record
from passbook.audit.events import RefreshTokenReused, SessionEnded, SessionRefreshed
from passbook.credentials import new_id, new_secret, secret_digest
from passbook.errors import NotAuthenticated
from passbook.servicedb.engine import ServiceDatabase
from passbook.servicedb.tables import administrator, device, person, refresh_token, session, tenant

#: Marks our refresh tokens, so that one that leaked into a text can be searched for.
_PREFIX = "pbr_"
#: Sessions that ended stay so long, so that a late reuse is still seen for what it is.
_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class Terms:
    """How long sessions last."""

    #: A session not refreshed for so long ends.
    idle: timedelta
    #: A session ends after so long whatever happens.
    longest: timedelta
    #: A spent token may come again for so long whatever the access token of its answer was used for …
    grace: timedelta
    #: … and for so long if nothing of its answer was used.
    lost: timedelta = timedelta(0)
    #: Marks the refresh tokens; None: they bear no mark.
    marks: Marks | None = None


@dataclass(frozen=True)
class Principal:
    """Whose session it is: exactly one of the two ids is set."""

    person: str | None = None
    administrator: str | None = None

    @property
    def id(self) -> str:
        return self.person or self.administrator or ""


@dataclass(frozen=True)
class Opened:
    """A session with the refresh token to go on with. `must_change_password`: it is good for that alone."""

    session: str
    principal: Principal
    refresh_token: str
    #: The `jti` that the access token given with it must have.
    access_id: str
    must_change_password: bool = False


#: Why somebody who is known is not let in now.
REFUSALS = {
    "suspended": "Your access is suspended: ask the institution.",
    "maintenance": "The institution has switched access off for now: try again later.",
}


class Ended(NotAuthenticated):
    """The session has ended: sign in again."""

    code = "session_ended"

    def __init__(self, message: str | None = None, *, code: str = "", because: Told | None = None) -> None:
        super().__init__(message, code=code)
        self.because = because


def start(
    connection: Connection, principal: Principal, terms: Terms, *, installation: bytes | None = None
) -> Opened:
    """A new session, on the phone of this installation."""
    session_id = new_id("session")
    values = {
        "person_id": principal.person,
        "administrator_id": principal.administrator,
        "installation": installation,
    }
    # What is null is not named: each side may write the sessions of its own people alone.
    named = {name: value for name, value in values.items() if value is not None}
    connection.execute(insert(session).values(id=session_id, expires_at=func.now() + terms.longest, **named))
    return Opened(session_id, principal, *_new_token(connection, terms, session_id, None))


def refresh(connection: Connection, by: Actor, token: str, terms: Terms, *, administrators: bool) -> Opened | Ended:
    """Exchange a refresh token. An `Ended` is returned, not raised, so that what it changed is committed.

    `administrators`: whether this is their door; a token of the other kind is no token here.
    """
    digest = secret_digest(token)
    found = connection.execute(
        select(session.c.id)
        .join(refresh_token, refresh_token.c.session_id == session.c.id)
        .where(refresh_token.c.digest == digest, session.c.administrator_id.is_not(None) == administrators)
    ).scalar()
    if found is None:
        return Ended()
    # One exchange of a session at a time, and the token is looked at only then.
    now = connection.execute(select(session).where(session.c.id == found).with_for_update()).one_or_none()
    if now is None:
        return Ended()
    principal = Principal(now.person_id, now.administrator_id)
    state = connection.execute(
        select(
            refresh_token,
            (refresh_token.c.spent_at > func.clock_timestamp() - terms.grace).label("fresh"),
            (refresh_token.c.spent_at > func.clock_timestamp() - terms.lost).label("recent"),
            (
                (session.c.expires_at <= func.clock_timestamp())
                | (session.c.last_used_at <= func.clock_timestamp() - terms.idle)
            ).label("expired"),
            _successor(digest, _spent).label("succeeded"),
            _successor(digest, _arrived).label("arrived"),
            _sibling_exchanged().label("replaced"),
        )
        .join(session, session.c.id == refresh_token.c.session_id)
        .where(refresh_token.c.digest == digest)
    ).one()
    if now.ended_at is not None:
        return Ended(because=now.ended_because)
    if state.expired:
        return Ended(because="expired")
    why, must_change_password = _standing(connection, principal)
    if why:
        return Ended(REFUSALS[why], code=why)
    lost = state.recent and not state.arrived
    if state.spent_at is not None and (state.succeeded or state.replaced or not (state.fresh or lost)):
        end(connection, found, "token_reused")
        record(
            connection,
            by,
            RefreshTokenReused(session=found, person=principal.person, administrator=principal.administrator),
        )
        return Ended(because="token_reused")
    if state.spent_at is None:
        # With it go the others that were given for the same token: only one answer was the one that arrived.
        spent = refresh_token.c.digest == digest
        if state.parent is not None:
            spent |= (refresh_token.c.parent == state.parent) & refresh_token.c.spent_at.is_(None)
        connection.execute(update(refresh_token).where(spent).values(spent_at=func.clock_timestamp()))
    connection.execute(update(session).where(session.c.id == found).values(last_used_at=func.now()))
    record(
        connection,
        by,
        SessionRefreshed(session=found, person=principal.person, administrator=principal.administrator),
    )
    return Opened(found, principal, *_new_token(connection, terms, found, digest), must_change_password)


def arrived(database: ServiceDatabase, access_id: str) -> None:
    """Note that an access token is used: the answer that it came with has arrived.

    In a transaction of its own, which locks nothing else: a refresh locks the session before its tokens.
    """
    with database.begin() as connection:
        connection.execute(
            update(refresh_token)
            .where(refresh_token.c.access_id == access_id, refresh_token.c.arrived_at.is_(None))
            .values(arrived_at=func.clock_timestamp())
        )


def of_token(connection: Connection, token: str, *, administrators: bool) -> str | None:
    """The session that a refresh token belongs to, whatever became of either; None for a token that is none."""
    return connection.execute(
        select(session.c.id)
        .join(refresh_token, refresh_token.c.session_id == session.c.id)
        .where(
            refresh_token.c.digest == secret_digest(token),
            session.c.administrator_id.is_not(None) == administrators,
        )
    ).scalar()


def sign_out(connection: Connection, by: Actor, token: str, *, administrators: bool) -> None:
    """End the session that a refresh token belongs to. For a token that is none, nothing (RFC 7009, 2.2)."""
    found = of_token(connection, token, administrators=administrators)
    if found is None:
        return
    row = connection.execute(select(session.c.person_id, session.c.administrator_id).where(session.c.id == found))
    whose = row.one_or_none()
    if whose is not None and end(connection, found, "signed_out"):
        record(
            connection,
            by,
            SessionEnded(session=found, person=whose.person_id, administrator=whose.administrator_id),
        )


def end(connection: Connection, session_id: str, because: SessionCause) -> bool:
    """End a session; whether it was still going."""
    ended = connection.execute(
        update(session)
        .where(session.c.id == session_id, session.c.ended_at.is_(None))
        .values(ended_at=func.now(), ended_because=because)
    )
    return ended.rowcount > 0


def hold(connection: Connection, person_id: str) -> None:
    """Lock the sessions of a person until the transaction ends: a refresh that comes now sees what it has done."""
    connection.execute(select(session.c.id).where(session.c.person_id == person_id).with_for_update())


def end_all(
    connection: Connection,
    because: SessionCause,
    *,
    person_id: str | None = None,
    administrator_id: str | None = None,
    but: Sequence[str] = (),
) -> int:
    """End every session of somebody, those in `but` aside; how many."""
    ended = connection.execute(
        update(session)
        .where(
            session.c.person_id == person_id if person_id else session.c.administrator_id == administrator_id,
            session.c.ended_at.is_(None),
            session.c.expires_at > func.now(),
            session.c.id.not_in(but),
        )
        .values(ended_at=func.now(), ended_because=because)
    )
    return ended.rowcount


def end_without_device(connection: Connection, person_id: str, because: SessionCause) -> int:
    """End every session of a person that is not on a phone with a device that is not revoked; how many.

    To be called when devices of theirs were revoked, with the person's row locked. Sessions that were begun on
    those phones end, and so do all of which nobody knows where they are.
    """
    elsewhere = exists(device.c.id).where(
        device.c.person_id == person_id,
        device.c.installation == session.c.installation,
        device.c.revoked_at.is_(None),
    )
    ended = connection.execute(
        update(session)
        .where(
            session.c.person_id == person_id,
            session.c.ended_at.is_(None),
            session.c.expires_at > func.now(),
            ~elsewhere,
        )
        .values(ended_at=func.now(), ended_because=because)
    )
    return ended.rowcount


def forget(connection: Connection, person_id: str) -> None:
    """Remove every trace of a person's sessions."""
    connection.execute(delete(session).where(session.c.person_id == person_id))


def sweep(connection: Connection) -> None:
    """Remove sessions that ended long ago, with their tokens."""
    over = func.now() - _KEPT
    connection.execute(delete(session).where((session.c.expires_at < over) | (session.c.ended_at < over)))


def _new_token(connection: Connection, terms: Terms, session_id: str, parent: bytes | None) -> tuple[str, str]:
    """A refresh token, and the id that the access token given with it must have."""
    token, access_id = _PREFIX + new_secret(), new_id("token")
    if terms.marks is not None:
        token = terms.marks.marked(token, session_id)
    connection.execute(
        insert(refresh_token).values(
            digest=secret_digest(token), session_id=session_id, parent=parent, access_id=access_id
        )
    )
    return token, access_id


def _spent(token: FromClause) -> ColumnElement[bool]:
    return token.c.spent_at.is_not(None)


def _arrived(token: FromClause) -> ColumnElement[bool]:
    # Of a token from before this was kept nobody knows.
    return token.c.arrived_at.is_not(None) | token.c.access_id.is_(None)


def _successor(digest: bytes, is_so: Callable[[FromClause], ColumnElement[bool]]) -> ColumnElement[bool]:
    """Whether one of the tokens given for this one is so: whoever has used that one has received the answer."""
    successor = refresh_token.alias()
    return select(successor.c.digest).where(successor.c.parent == digest, is_so(successor)).exists()


def _sibling_exchanged() -> ColumnElement[bool]:
    """Whether another token that was given for the same one was exchanged: there are tokens that came of it."""
    sibling, child = refresh_token.alias(), refresh_token.alias()
    return (
        select(child.c.digest)
        .join(sibling, sibling.c.digest == child.c.parent)
        .where(sibling.c.parent == refresh_token.c.parent, sibling.c.digest != refresh_token.c.digest)
        .exists()
    )


def _standing(connection: Connection, principal: Principal) -> tuple[str, bool]:
    """Why the principal is not let in (empty: they are), and whether the password must be changed."""
    if principal.person is not None:
        one = connection.execute(
            select(person.c.state, person.c.must_change_password, tenant.c.open)
            .join(tenant, tenant.c.singleton)
            .where(person.c.id == principal.person)
        ).one()
        why = "maintenance" if not one.open else "" if one.state == "active" else "suspended"
        return why, one.must_change_password
    other = connection.execute(
        select(administrator.c.state, administrator.c.must_change_password).where(
            administrator.c.id == principal.administrator
        )
    ).one()
    return "" if other.state == "active" else "suspended", other.must_change_password
