"""Administration of people: who they are, what they may see, whether they may come in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime

from auth_service import directory, people, sensitivity
from auth_service.api import acts
from auth_service.api.access import handed_over, password_for
from auth_service.api.acts import Access
from auth_service.api.doors import AnAdministrator, SeenVersion
from auth_service.api.envelope import WAITS, documented
from auth_service.api.models import (
    ClientId,
    Cursor,
    Ended,
    Erasure,
    Limit,
    Links,
    NewPerson,
    PasswordReset,
    People,
    Permissions,
    PersonAnswer,
    PersonChange,
    PersonId,
    Reason,
    SignOut,
    Sought,
)
from auth_service.approvals import Approval
from auth_service.scopes import checked_permissions, checked_window
from passbook.audit.chain import record
from passbook.audit.events import PeopleListed, PersonRead
from passbook.couch import CouchClient
from passbook.erasure import erase
from passbook.errors import Refused, Unavailable
from passbook.scope import PERMISSIONS

log = structlog.get_logger()

routes = APIRouter(prefix="/admin/people", tags=["administration: people"])
_LOOK, _MANAGE = "support", "manager"


def _submitted(
    door: AnAdministrator,
    response: Response,
    action: str,
    arguments: dict[str, Any],
    reason: str,
    version: int | None = None,
) -> people.Person | Approval:
    """An act of which the person comes back, or that waits."""
    done: people.Person | Approval = acts.submit(door, action, arguments, reason, version=version)
    if isinstance(done, Approval):
        response.status_code = 202
        return done
    return _tagged(response, done)


def _answered(
    door: AnAdministrator, response: Response, done: Access[people.Person] | Approval, initial: str | None
) -> PersonAnswer | Approval:
    """A person with new access, or the act that waits."""
    if isinstance(done, Approval):
        response.status_code = 202
        return done
    handed = handed_over(door.service, door.by, done)
    return PersonAnswer(person=_tagged(response, done.whom), initial_password=initial, activation=handed)


def _tagged(response: Response, person: people.Person) -> people.Person:
    response.headers["ETag"] = f'"{person.version}"'
    return person


@routes.get("", responses=documented(401, 403))
def search(
    door: AnAdministrator,
    text: Annotated[str, Query(max_length=100, description="Part of the user name, or an id.")] = "",
    kind: Annotated[Literal["customer", "agent"] | None, Query()] = None,
    state: Annotated[Literal["active", "suspended"] | None, Query()] = None,
    client: Annotated[int | None, Query(gt=0, lt=2**63, description="Only who may see this client.")] = None,
    device: Annotated[str | None, Query(max_length=100, description="Only whose device this is.")] = None,
    not_synchronised_since: Annotated[
        AwareDatetime | None, Query(description="Only of whom no device has synchronised since then, or ever.")
    ] = None,
    after: Cursor = None,
    limit: Limit = 50,
) -> People:
    """People by user name, a page at a time; `sought` repeats what was searched for."""
    sought = directory.Sought(
        text=text or None,
        kind=kind,
        state=state,
        client=client,
        device=device,
        not_synchronised_since=not_synchronised_since,
    )
    with door.enter(_LOOK, "search people") as (connection, _):
        page = directory.search(connection, sought, after=after, limit=limit)
        record(connection, door.by, PeopleListed(what="people", shown=len(page.items)))
    return People(items=page.items, next=page.next, sought=Sought(**asdict(sought)))


@routes.post("", status_code=201, responses={**documented(401, 403, 409, 429), 202: WAITS})
async def create(body: NewPerson, door: AnAdministrator, response: Response) -> PersonAnswer | Approval:
    """Create a person. Nobody has access to anything before this.

    The answer has a code with which the person chooses a password, good once and for a short while. Where codes are
    delivered, it has none.
    """
    await run_in_threadpool(door.check, _MANAGE, "create a person")
    hashed, initial = await password_for(door.service, body.username, body.password, body.credential)
    checked_window(body.window())
    arguments = {
        "username": people.checked_username(body.username),
        "kind": body.kind,
        "clients": sorted(set(body.clients)),
        "permissions": list(PERMISSIONS) if body.permissions is None else checked_permissions(body.permissions),
        "history_from": body.history_from.isoformat() if body.history_from else None,
        "history_months": body.history_months,
    }

    def work() -> PersonAnswer | Approval:
        done = acts.submit(door, sensitivity.CREATE_PERSON, arguments, body.reason, password_hash=hashed)
        return _answered(door, response, done, initial)

    return await run_in_threadpool(work)


@routes.get("/{person}", responses=documented(401, 403, 404))
def show(person: PersonId, door: AnAdministrator, response: Response) -> people.Person:
    """One person. The ETag is what a change of them must send as If-Match."""
    with door.enter(_LOOK, "look at a person") as (connection, _):
        found = people.show(connection, person)
        record(connection, door.by, PersonRead(person=found.person, what="person"))
    return _tagged(response, found)


@routes.patch("/{person}", responses={**documented(401, 403, 404, 409, 412, 428, 429), 202: WAITS})
def change(
    person: PersonId, body: PersonChange, door: AnAdministrator, response: Response, version: SeenVersion
) -> people.Person | Approval:
    """Change user name or kind."""
    arguments = {"person": person, "username": body.username, "kind": body.kind}
    return _submitted(door, response, sensitivity.CHANGE_PERSON, arguments, body.reason, version)


@routes.post("/{person}/clients", responses={**documented(401, 403, 404, 409, 412, 428, 429), 202: WAITS})
def link(
    person: PersonId, body: Links, door: AnAdministrator, response: Response, version: SeenVersion
) -> people.Person | Approval:
    """Let a person see more clients."""
    arguments = {"person": person, "clients": sorted(set(body.clients))}
    return _submitted(door, response, sensitivity.LINK_CLIENTS, arguments, body.reason, version)


@routes.delete(
    "/{person}/clients/{client}", responses={**documented(401, 403, 404, 409, 412, 428, 429), 202: WAITS}
)
def unlink(
    person: PersonId, client: ClientId, door: AnAdministrator, response: Response, version: SeenVersion
) -> people.Person | Approval:
    """Take a client away; its documents leave the devices."""
    arguments = {"person": person, "clients": [client]}
    return _submitted(door, response, sensitivity.UNLINK_CLIENT, arguments, "", version)


@routes.put("/{person}/permissions", responses={**documented(401, 403, 404, 409, 412, 428, 429), 202: WAITS})
def permit(
    person: PersonId, body: Permissions, door: AnAdministrator, response: Response, version: SeenVersion
) -> people.Person | Approval:
    """Set permissions and history window. What is taken away leaves the devices."""
    checked_window(body.window())
    arguments = {
        "person": person,
        "permissions": checked_permissions(body.permissions),
        "history_from": body.history_from.isoformat() if body.history_from else None,
        "history_months": body.history_months,
    }
    return _submitted(door, response, sensitivity.PERMIT, arguments, body.reason, version)


@routes.post("/{person}/suspend", responses={**documented(401, 403, 404, 409, 429), 202: WAITS})
def suspend(person: PersonId, body: Reason, door: AnAdministrator, response: Response) -> people.Person | Approval:
    """Keep a person out, with every device, until restored. It holds when this answers."""
    return _submitted(door, response, sensitivity.SUSPEND_PERSON, {"person": person}, body.reason)


@routes.post("/{person}/restore", responses={**documented(401, 403, 404, 409, 429), 202: WAITS})
def restore(person: PersonId, body: Reason, door: AnAdministrator, response: Response) -> people.Person | Approval:
    """Let a suspended person in again."""
    return _submitted(door, response, sensitivity.RESTORE_PERSON, {"person": person}, body.reason)


@routes.post("/{person}/sign-out", responses={**documented(401, 403, 404, 409, 429), 202: WAITS})
def sign_out(person: PersonId, body: SignOut, door: AnAdministrator, response: Response) -> Ended | Approval:
    """End every session of a person, and if wished every device."""
    arguments = {"person": person, "revoke_devices": body.revoke_devices}
    done = acts.submit(door, sensitivity.SIGN_OUT_PERSON, arguments, body.reason)
    if isinstance(done, Approval):
        response.status_code = 202
        return done
    ended, revoked = done
    return Ended(sessions_ended=ended, devices_revoked=revoked)


@routes.post("/{person}/reset-password", responses={**documented(401, 403, 404, 409, 429), 202: WAITS})
async def reset_password(
    person: PersonId, body: PasswordReset, door: AnAdministrator, response: Response
) -> PersonAnswer | Approval:
    """Take a person's password away; whoever is signed in with it is out.

    The answer has a code with which the person chooses another, good once and for a short while. Where codes are
    delivered, it has none.

    Devices go on synchronising unless `revoke_devices`: a password is not what they use. Ask for it where a phone
    is lost, or where somebody else may have known the password; `devices` says how many go on.
    """

    def name() -> str:
        with door.enter(_MANAGE, "reset a password") as (connection, _):
            return people.show(connection, person).username

    username = await run_in_threadpool(name)
    hashed, initial = await password_for(door.service, username, body.password, body.credential)
    arguments = {"person": person, "revoke_devices": body.revoke_devices}

    def work() -> PersonAnswer | Approval:
        done = acts.submit(door, sensitivity.RESET_PASSWORD, arguments, body.reason, password_hash=hashed)
        return _answered(door, response, done, initial)

    return await run_in_threadpool(work)


@routes.post(
    "/{person}/erase",
    responses={**documented(401, 403, 404, 409, 429), 202: WAITS},
)
async def erase_person(
    person: PersonId, body: Reason, door: AnAdministrator, response: Response
) -> Erasure | Approval:
    """Erase a person for good: access at once, then their database and everything kept here.

    `pending` means that CouchDB cannot be reached from here just now: the worker deletes the database. Where a
    second approver is wanted, the answer is 202 with the approval that waits.
    """

    begun = await run_in_threadpool(acts.submit, door, sensitivity.ERASE_PERSON, {"person": person}, body.reason)
    if isinstance(begun, Approval):
        response.status_code = 202
        return begun
    return await finish(door, *begun)


async def finish(door: AnAdministrator, person_id: str, database_name: str) -> Erasure:
    """Delete the database of somebody who has been deleted, if it can be done here and now."""
    service = door.service
    if service.couchdb_url:
        try:
            async with CouchClient(
                service.couchdb_url, connections=1, connect_seconds=service.settings.connect_seconds
            ) as couch:
                erased = await erase(couch, service.database, person_id, database_name, by=door.by)
        except (Unavailable, Refused) as error:
            # Access is gone in any case. It is the operator who must mend CouchDB, not whoever asked.
            log.warning("erasure is left to the worker", person=person_id, problem=error.message)
        else:
            return Erasure(person=person_id, state="done" if erased else "pending")
    return Erasure(person=person_id, state="pending")
