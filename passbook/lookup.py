"""Finding a person by what an administrator types."""

from __future__ import annotations

from sqlalchemy import Connection, func, or_, select

from passbook.errors import NotFound
from passbook.servicedb.tables import person


def person_id_of(connection: Connection, name: str, *, lock: bool = False) -> str:
    """The id of the person with this user name (in any case) or id; with `lock`, their row stays locked.

    Raises `NotFound` when there is nobody, or nobody any more.
    """
    query = select(person.c.id).where(
        or_(person.c.id == name, func.lower(person.c.username) == func.lower(name)), person.c.state != "deleting"
    )
    found: str | None = connection.execute(query.with_for_update() if lock else query).scalar()
    if found is None:
        raise NotFound(f"There is no person {name!r}.", remedy="`passbook person list` shows everybody.")
    return found
