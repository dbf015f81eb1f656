"""Administration of people: who they are, what they may see, whether they may come in."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from auth_service import directory, granting, people
from auth_service.api import acts
from auth_service.api.doors import AnAdministrator, SeenVersion
from auth_service.api.envelope import documented
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
)
from auth_service.approvals import Approval
from auth_service.scopes import checked_permissions
from passbook.audit.chain import record
from passbook.audit.events import PeopleListed, PersonRead
from passbook.couch import CouchClient
from passbook.erasure import erase
from passbook.errors import Refused, Unavailable
from passbook.lookup import person_id_of
from passbook.scope import PERMISSIONS

log = structlog.get_logger()

routes = APIRouter(prefix="/admin/people", tags=["administration: people"])
_LOOK, _CREATE, _ALL = "support", "manager", "owner"


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
    after: Cursor = None,
    limit: Limit = 50,
) -> People:
    """People by user name, a page at a time."""
    with door.enter(_LOOK, "search people") as (connection, _):
        page = directory.search(
            connection, text=text, kind=kind, state=state, client=client, after=after, limit=limit
        )
        record(connection, door.by, PeopleListed(what="people", shown=len(page.items)))
    return People(items=page.items, next=page.next)


@routes.post("", status_code=201, responses=documented(401, 403, 409, 429))
async def create(body: NewPerson, door: AnAdministrator, response: Response) -> PersonAnswer:
    """Create a person. Nobody has access to anything before this."""
    await run_in_threadpool(door.check, _CREATE, "create a person")
    hashed, initial = await door.service.hashing.given_or_new(body.password, username=body.username)

    def work() -> people.Person:
        with door.enter(_CREATE, "create a person") as (connection, _):
            return people.add(
                connection,
                door.by,
                username=body.username,
                kind=body.kind,
                clients=body.clients,
                permissions=PERMISSIONS if body.permissions is None else body.permissions,
                window=body.window(),
                password_hash=hashed,
                reason=body.reason,
            )

    return PersonAnswer(person=_tagged(response, await run_in_threadpool(work)), initial_password=initial)


@routes.get("/{person}", responses=documented(401, 403, 404))
def show(person: PersonId, door: AnAdministrator, response: Response) -> people.Person:
    """One person. The ETag is what a change of them must send as If-Match."""
    with door.enter(_LOOK, "look at a person") as (connection, _):
        found = people.show(connection, person)
        record(connection, door.by, PersonRead(person=found.person, what="person"))
    return _tagged(response, found)


@routes.patch("/{person}", responses=documented(401, 403, 404, 409, 412, 428))
def change(
    person: PersonId, body: PersonChange, door: AnAdministrator, response: Response, version: SeenVersion
) -> people.Person:
    """Change user name or kind."""
    with door.enter(_CREATE, "change a person") as (connection, _):
        changed = people.change(
            connection,
            door.by,
            person,
            username=body.username,
            kind=body.kind,
            version=version,
            reason=body.reason,
        )
    return _tagged(response, changed)


@routes.post("/{person}/clients", responses=documented(401, 403, 404, 412, 428))
def link(
    person: PersonId, body: Links, door: AnAdministrator, response: Response, version: SeenVersion
) -> people.Person:
    """Let a person see more clients."""
    with door.enter(_CREATE, "link clients") as (connection, _):
        changed = granting.link(connection, door.by, person, body.clients, version=version, reason=body.reason)
    return _tagged(response, changed)


@routes.delete("/{person}/clients/{client}", responses=documented(401, 403, 404, 412, 428))
def unlink(
    person: PersonId, client: ClientId, door: AnAdministrator, response: Response, version: SeenVersion
) -> people.Person:
    """Take a client away; its documents leave the devices."""
    with door.enter(_CREATE, "unlink a client") as (connection, _):
        changed = granting.unlink(connection, door.by, person, [client], version=version)
    return _tagged(response, changed)


@routes.put("/{person}/permissions", responses=documented(401, 403, 404, 412, 428))
def permit(
    person: PersonId, body: Permissions, door: AnAdministrator, response: Response, version: SeenVersion
) -> people.Person:
    """Set permissions and history window. What is taken away leaves the devices."""
    with door.enter(_CREATE, "permit") as (connection, _):
        changed = granting.permit(
            connection,
            door.by,
            person,
            only=checked_permissions(body.permissions),
            window=body.window(),
            version=version,
            reason=body.reason,
        )
    return _tagged(response, changed)


@routes.post("/{person}/suspend", responses=documented(401, 403, 404))
def suspend(person: PersonId, body: Reason, door: AnAdministrator, response: Response) -> people.Person:
    """Keep a person out, with every device, until restored. It holds when this answers."""
    with door.enter(_LOOK, "suspend") as (connection, _):
        return _tagged(response, people.suspend(connection, door.by, person, reason=body.reason))


@routes.post("/{person}/restore", responses=documented(401, 403, 404))
def restore(person: PersonId, body: Reason, door: AnAdministrator, response: Response) -> people.Person:
    """Let a suspended person in again."""
    with door.enter(_CREATE, "restore") as (connection, _):
        return _tagged(response, people.restore(connection, door.by, person, reason=body.reason))


@routes.post("/{person}/sign-out", responses=documented(401, 403, 404))
def sign_out(person: PersonId, body: SignOut, door: AnAdministrator) -> Ended:
    """End every session of a person, and if wished every device."""
    with door.enter(_LOOK, "sign a person out") as (connection, _):
        ended, revoked = people.sign_out(
            connection, door.by, person, revoke_devices=body.revoke_devices, reason=body.reason
        )
    return Ended(sessions_ended=ended, devices_revoked=revoked)


@routes.post("/{person}/reset-password", responses=documented(401, 403, 404, 429))
async def reset_password(
    person: PersonId, body: PasswordReset, door: AnAdministrator, response: Response
) -> PersonAnswer:
    """Give a person a new password, which they must change; whoever is signed in with the old one is out.

    Devices go on synchronising unless `revoke_devices`: a password is not what they use. Ask for it where a phone
    is lost, or where somebody else may have known the password; `devices` says how many go on.
    """

    def name() -> str:
        with door.enter(_CREATE, "reset a password") as (connection, _):
            return people.show(connection, person).username

    hashed, initial = await door.service.hashing.given_or_new(body.password, username=await run_in_threadpool(name))

    def work() -> people.Person:
        with door.enter(_CREATE, "reset a password") as (connection, _):
            return people.reset_password(
                connection,
                door.by,
                person,
                hashed,
                revoke_devices=body.revoke_devices,
                reason=body.reason,
            )

    return PersonAnswer(person=_tagged(response, await run_in_threadpool(work)), initial_password=initial)


@routes.post(
    "/{person}/erase",
    responses={
        **documented(401, 403, 404),
        202: {"model": Approval, "description": "A second administrator must approve."},
    },
)
async def erase_person(
    person: PersonId, body: Reason, door: AnAdministrator, response: Response
) -> Erasure | Approval:
    """Erase a person for good: access at once, then their database and everything kept here.

    `pending` means that CouchDB cannot be reached from here just now: the worker deletes the database. Where a
    second approver is wanted, the answer is 202 with the approval that waits.
    """

    def begin() -> tuple[str, str] | Approval:
        with door.enter(_ALL, "erase a person") as (connection, _):
            arguments = {"person": person_id_of(connection, person)}
            begun: tuple[str, str] | Approval = acts.ask_or_do(connection, door, acts.ERASE, arguments, body.reason)
            return begun

    begun = await run_in_threadpool(begin)
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
