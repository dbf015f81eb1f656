"""The two doors: a person's token opens the one, an administrator's the other, and neither both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection

from auth_service import administrators, sessions
from auth_service.api.envelope import VersionRequired, request_id_of
from auth_service.callers import AdministratorCaller, PersonCaller, administrator_of, person_of
from auth_service.limits import prefix_of
from auth_service.service import Service
from auth_service.tokens import ADMINISTRATORS, PEOPLE, Claims
from passbook.audit.chain import Actor, record
from passbook.audit.events import NotAllowed, WrongDoor
from passbook.errors import NotAuthenticated, NotPermitted, Refused, Unavailable

_person_scheme = HTTPBearer(
    scheme_name="person", auto_error=False, description="A person's access token, from POST /oauth/token."
)
_administrator_scheme = HTTPBearer(
    scheme_name="administrator",
    auto_error=False,
    description="An administrator's access token, from POST /admin/oauth/token.",
)


def service_of(request: Request) -> Service:
    """The service behind the application."""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(service_of)]


def stranger(request: Request) -> Actor:
    """Whoever sends the request, before it is known who."""
    return Actor("anonymous", "", request_id_of(request), prefix_of(request.client.host if request.client else ""))


Stranger = Annotated[Actor, Depends(stranger)]


#: Of an attempt that asks the database: its signature alone has been looked at.
_BAD_TOKEN_COSTS = 0.1


class _BadToken(NotAuthenticated):
    """This access token does not hold: refresh it, or sign in again."""

    code = "token_invalid"


async def _claims(
    service: Service, by: Actor, credentials: HTTPAuthorizationCredentials | None, audience: str
) -> Claims:
    try:
        return await run_in_threadpool(_checked, service, by, credentials, audience)
    except _BadToken:
        await service.strangers.admit(by.address, _BAD_TOKEN_COSTS)
        raise


def _checked(
    service: Service, by: Actor, credentials: HTTPAuthorizationCredentials | None, audience: str
) -> Claims:
    if credentials is None:
        raise NotAuthenticated("Send an access token: Authorization: Bearer …", code="token_missing")
    claims = service.tokens.check(credentials.credentials)
    if claims is None:
        service.metrics.outcome("access", "token_invalid", audience)
        raise _BadToken
    if claims.audience != audience:
        service.metrics.outcome("access", "wrong_door", audience)
        kind = "person" if claims.audience == PEOPLE else "administrator"
        with service.database.begin() as connection:
            record(
                connection,
                Actor(kind, claims.subject, by.request_id, by.address),  # type: ignore[arg-type]
                WrongDoor(wanted=audience),
            )
        raise NotAuthenticated("This access token is for another door.", code="wrong_audience")
    return claims


PersonToken = Annotated[HTTPAuthorizationCredentials | None, Depends(_person_scheme)]


async def person_claims(service: TheService, by: Stranger, credentials: PersonToken) -> Claims:
    """What a person's access token says. Raises `NotAuthenticated` for one that does not hold, or none."""
    return await _claims(service, by, credentials, PEOPLE)


async def _administrator_claims(
    service: TheService,
    by: Stranger,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_administrator_scheme)],
) -> Claims:
    return await _claims(service, by, credentials, ADMINISTRATORS)


class PersonDoor:
    """A request of a person."""

    def __init__(
        self, service: TheService, by: Stranger, claims: Annotated[Claims, Depends(person_claims)]
    ) -> None:
        self.service = service
        self._claims = claims
        self.by = Actor("person", self._claims.subject, by.request_id, by.address)

    @contextmanager
    def enter(
        self, *, with_old_password: bool = False, lock: bool = False
    ) -> Iterator[tuple[Connection, PersonCaller]]:
        """A transaction in which the person's session goes on; with `lock` until its end.

        Raises `NotAuthenticated` or `NotPermitted`; the latter also while the password must be changed, unless
        `with_old_password`.
        """
        me = None
        try:
            with self.service.database.begin() as connection:
                me = person_of(connection, self._claims, lock=lock)
                if me.must_change_password and not with_old_password:
                    raise _change_first("/password")
                yield connection, me
        finally:
            if me is not None and me.first_use:
                # What was asked for is done: that this could not be noted is no reason to say otherwise.
                with suppress(Unavailable):
                    sessions.arrived(self.service.database, self._claims.id)


class AdministratorDoor:
    """A request of an administrator."""

    def __init__(
        self, service: TheService, by: Stranger, claims: Annotated[Claims, Depends(_administrator_claims)]
    ) -> None:
        self.service = service
        self._claims = claims
        self.by = Actor("administrator", self._claims.subject, by.request_id, by.address)

    @contextmanager
    def enter(
        self, needed: str, act: str, *, with_old_password: bool = False
    ) -> Iterator[tuple[Connection, AdministratorCaller]]:
        """A transaction for an administrator whose role includes `needed`; `act` names what is done."""
        with self.service.database.begin() as connection:
            me = administrator_of(connection, self._claims)
            if me.must_change_password and not with_old_password:
                raise _change_first("/admin/password")
            if administrators.may(me.role, needed):
                yield connection, me
                return
            record(connection, self.by, NotAllowed(administrator=me.id, role=me.role, needed=needed, act=act))
        self.service.metrics.outcome("access", "not_permitted", ADMINISTRATORS)
        raise NotPermitted(f"This takes the role {needed}; yours is {me.role}.", code="role")

    def check(self, needed: str, act: str, *, with_old_password: bool = False) -> AdministratorCaller:
        """As `enter`, for a request that works outside a transaction first."""
        with self.enter(needed, act, with_old_password=with_old_password) as (_, me):
            return me


APerson = Annotated[PersonDoor, Depends()]
AnAdministrator = Annotated[AdministratorDoor, Depends()]


def seen_version(
    if_match: Annotated[
        str | None,
        Header(description="The ETag of what you saw; `*` to change it whatever it is now.", max_length=40),
    ] = None,
) -> int | None:
    """The version that the caller has seen; None for any. Raises `VersionRequired` without the header."""
    if if_match is None:
        raise VersionRequired
    text = if_match.strip().removeprefix("W/").strip('"')
    if text == "*":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused("If-Match is not an ETag that Passbook gave.", code="bad_version")
    return int(text)


SeenVersion = Annotated[int | None, Depends(seen_version)]


def _change_first(where: str) -> NotPermitted:
    return NotPermitted(f"Choose a new password first: POST {where}.", code="password_change_required")
