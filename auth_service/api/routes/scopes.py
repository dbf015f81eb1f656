"""What a person may see: changes under way, and a look ahead."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from auth_service import devices, scopes
from auth_service.api.doors import AnAdministrator
from auth_service.api.envelope import documented
from auth_service.api.models import Devices, PersonId, PreviewRequest
from auth_service.preview import Preview, preview
from passbook.audit.chain import record
from passbook.audit.events import PersonRead
from passbook.lookup import person_id_of

routes = APIRouter(prefix="/admin/people", tags=["administration: what people may see"])


class Changes(BaseModel):
    """Changes of a person's scope, newest first."""

    items: list[scopes.Change]


@routes.get("/{person}/changes", responses=documented(401, 403, 404))
def changes(
    person: PersonId,
    door: AnAdministrator,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Changes:
    """What was changed of what a person may see, how far it is, and how many documents came and went."""
    with door.enter("support", "look at changes") as (connection, _):
        found = scopes.changes(connection, person, limit=limit)
        record(connection, door.by, PersonRead(person=person_id_of(connection, person), what="changes"))
    return Changes(items=found)


@routes.get("/{person}/devices", responses=documented(401, 403, 404))
def of_person(person: PersonId, door: AnAdministrator) -> Devices:
    """The devices of a person, newest first."""
    with door.enter("support", "look at devices") as (connection, _):
        found = devices.of_person(connection, person)
        record(connection, door.by, PersonRead(person=person_id_of(connection, person), what="devices"))
    return Devices(items=found, next=None)


@routes.get("/{person}/preview", responses=documented(401, 403, 404))
def look(person: PersonId, door: AnAdministrator) -> Preview:
    """What the person's devices hold: which documents, no content. The same function decides as in the worker."""
    return _preview(person, door, PreviewRequest.model_validate({}))


@routes.post("/{person}/preview", responses=documented(401, 403, 404))
def try_out(person: PersonId, body: PreviewRequest, door: AnAdministrator) -> Preview:
    """What the person's devices would hold with other clients, permissions or history; nothing is changed."""
    return _preview(person, door, body)


def _preview(person: str, door: AnAdministrator, wanted: PreviewRequest) -> Preview:
    window = wanted.window() if wanted.model_fields_set & {"history_from", "history_months"} else None
    with door.enter("support", "preview") as (connection, _):
        seen = preview(
            connection,
            person,
            today=door.service.today(),
            clients=wanted.clients,
            permissions=wanted.permissions,
            window=window,
        )
        record(connection, door.by, PersonRead(person=seen.person, what="preview"))
    return seen
