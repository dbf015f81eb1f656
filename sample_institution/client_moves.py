"""Moves on clients: closing, reactivation, unmapping."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Engine, delete, select, update

from passbook.errors import Refused
from sample_institution.session import session
from sample_institution.store import Store
from sample_institution.tables import table

CLIENT_ACTIVE, CLIENT_CLOSED = 300, 600


@dataclass(frozen=True, slots=True)
class ClientMove:
    """A client closed or active again; `status` is m_client.status_enum afterwards."""

    kind: str
    client_id: int
    status: int
    on: date


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A client taken from the self-service login it was mapped to; `login_id` is None if there was none."""

    client_id: int
    login_id: int | None


def close(engine: Engine, client_id: int) -> ClientMove:
    """Close an active client (status 600).

    Fineract asks that the accounts be closed first; this move does not, so that one call takes a client away.
    """
    with session(engine) as store:
        day = store.desk.today
        _set_client(
            store,
            client_id,
            CLIENT_ACTIVE,
            status_enum=CLIENT_CLOSED,
            closedon_date=day,
            closedon_userid=store.desk.user,
        )
        return ClientMove("close", client_id, CLIENT_CLOSED, day)


def reactivate(engine: Engine, client_id: int) -> ClientMove:
    """Make a closed client active again."""
    with session(engine) as store:
        day = store.desk.today
        _set_client(
            store,
            client_id,
            CLIENT_CLOSED,
            status_enum=CLIENT_ACTIVE,
            closedon_date=None,
            closedon_userid=None,
            closure_reason_cv_id=None,
            activation_date=day,
            activatedon_userid=store.desk.user,
            reactivated_on_date=day,
            reactivated_on_userid=store.desk.user,
        )
        return ClientMove("reactivate", client_id, CLIENT_ACTIVE, day)


def _set_client(store: Store, client_id: int, expected: int, **columns: object) -> None:
    clients = table("m_client")
    result = store.connection.execute(
        update(clients)
        .where(clients.c.id == client_id, clients.c.status_enum == expected)
        .values(
            last_modified_by=store.desk.user,
            last_modified_on_utc=store.desk.instant(store.desk.today),
            **columns,
        )
    )
    if not result.rowcount:
        raise Refused(f"Client {client_id} does not exist or has another status than {expected}.")


def unmap(engine: Engine, client_id: int) -> Unmapped:
    """Take a client from its self-service login; Fineract deletes the mapping row and stamps nothing."""
    with session(engine) as store:
        mapping = table("m_selfservice_user_client_mapping")
        login = store.connection.execute(
            select(mapping.c.appuser_id).where(mapping.c.client_id == client_id)
        ).scalar()
        store.connection.execute(delete(mapping).where(mapping.c.client_id == client_id))
        return Unmapped(client_id, login)
