"""Who is calling: the principal of an access token, as the service database has them at this moment."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from auth_service.sessions import REFUSALS, Ended
from auth_service.tokens import ADMINISTRATORS, PEOPLE, Claims
from passbook.errors import NotPermitted
from passbook.servicedb.tables import administrator, person, refresh_token, session, tenant


@dataclass(frozen=True)
class PersonCaller:
    """A person with a session that goes on."""

    id: str
    username: str
    session: str
    must_change_password: bool
    #: Whether the token is the first thing used of the answer to a refresh.
    first_use: bool = False


@dataclass(frozen=True)
class AdministratorCaller:
    """An administrator with a session that goes on."""

    id: str
    username: str
    role: str
    session: str
    must_change_password: bool


_GOES_ON = (session.c.ended_at.is_(None)) & (session.c.expires_at > func.now())


def person_of(connection: Connection, claims: Claims, *, lock: bool = False) -> PersonCaller:
    """The person of a token. Raises `Ended` when the session is over, `NotPermitted` when they are kept out.

    With `lock` it stays so until the transaction ends: whoever would end the session waits.
    """
    if lock:
        # A statement of its own: the next one sees what the last holder of the lock did to the sessions.
        connection.execute(select(person.c.id).where(person.c.id == claims.subject).with_for_update())
    row = connection.execute(
        select(
            person.c.id,
            person.c.username,
            person.c.state,
            person.c.must_change_password,
            tenant.c.open,
            session.c.ended_because,
            session.c.ended_at,
            _GOES_ON.label("goes_on"),
            refresh_token.c.digest.is_not(None).label("first_use"),
        )
        .join(session, session.c.person_id == person.c.id)
        .join(tenant, tenant.c.singleton)
        .outerjoin(
            refresh_token,
            (refresh_token.c.access_id == claims.id)
            & refresh_token.c.parent.is_not(None)
            & refresh_token.c.arrived_at.is_(None),
        )
        .where(session.c.id == claims.session, person.c.id == claims.subject)
    ).one_or_none()
    if claims.audience != PEOPLE or row is None or row.state == "deleting":
        raise Ended
    if row.state != "active":
        raise NotPermitted(REFUSALS["suspended"], code="suspended")
    if not row.open:
        raise NotPermitted(REFUSALS["maintenance"], code="maintenance")
    if not row.goes_on:
        raise Ended(because=row.ended_because if row.ended_at else "expired")
    return PersonCaller(row.id, row.username, claims.session, row.must_change_password, row.first_use)


def administrator_of(connection: Connection, claims: Claims) -> AdministratorCaller:
    """The administrator of a token. Raises `Ended` when the session is over or they were suspended."""
    row = connection.execute(
        select(administrator)
        .join(session, session.c.administrator_id == administrator.c.id)
        .where(session.c.id == claims.session, administrator.c.id == claims.subject, _GOES_ON)
    ).one_or_none()
    if claims.audience != ADMINISTRATORS or row is None or row.state != "active":
        raise Ended
    return AdministratorCaller(row.id, row.username, row.role, claims.session, row.must_change_password)
