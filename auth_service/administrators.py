"""Administrators: who may administer, in which role, and the first of them.

Support looks, suspends and revokes. A manager also creates, links and permits. An owner also makes administrators,
switches everybody off and erases people.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError

from auth_service import activation, sessions
from auth_service.limits import Limits
from auth_service.people import checked_username
from passbook.audit.chain import Actor, record
from passbook.audit.events import (
    AdministratorChanged,
    AdministratorCreated,
    AdministratorPasswordReset,
)
from passbook.credentials import new_id
from passbook.errors import Conflict, NotFound, Refused, Stale
from passbook.servicedb.tables import administrator

#: From the least to the most.
ROLES = ("support", "manager", "owner")
STATES = ("active", "suspended")
#: The last owner must not go, whoever asks at the same time.
_OWNERS_LOCK = 0x7061736F


@dataclass(frozen=True)
class Administrator:
    """An administrator as owners see them."""

    administrator: str
    username: str
    role: str
    state: str
    must_change_password: bool
    version: int
    created_at: datetime
    changed_at: datetime

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def may(role: str, needed: str) -> bool:
    """Whether `role` includes what `needed` may do; False for a role that does not exist."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def add(
    connection: Connection,
    by: Actor,
    *,
    username: str,
    role: str,
    password_hash: str,
    reason: str = "",
    asked_by: str | None = None,
) -> Administrator:
    """Create an administrator, who must change the password at first sign-in. `Conflict` for a taken name.

    `asked_by`: the administrator who asked for it, where `by` approved.
    """
    username = checked_username(username)
    _check(role, ROLES, "role")
    administrator_id = new_id("administrator")
    try:
        with connection.begin_nested():
            connection.execute(
                insert(administrator).values(
                    id=administrator_id, username=username, role=role, password_hash=password_hash
                )
            )
    except IntegrityError:
        raise Conflict(
            f"There is already an administrator with the user name {username!r}.", code="username_taken"
        ) from None
    made = AdministratorCreated(administrator=administrator_id, role=role, asked_by=asked_by)
    record(connection, by, made, reason=reason)
    return show(connection, administrator_id)


def none_yet(connection: Connection) -> bool:
    """Whether there is no administrator at all; until the transaction ends nobody else makes the first."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _OWNERS_LOCK})
    return connection.execute(select(administrator.c.id).limit(1)).scalar() is None


def everybody(connection: Connection) -> list[Administrator]:
    """All administrators, by user name."""
    query = select(administrator).order_by(func.lower(administrator.c.username))
    return [_administrator(row) for row in connection.execute(query)]


def show(connection: Connection, name: str) -> Administrator:
    """One administrator, by user name or id. Raises `NotFound`."""
    return _find(connection, name, lock=False)


def change(
    connection: Connection,
    by: Actor,
    name: str,
    *,
    role: str | None = None,
    state: str | None = None,
    version: int | None = None,
    reason: str = "",
    asked_by: str | None = None,
) -> Administrator:
    """Change role or state; one suspended is out at once. The last active owner stays one (`Conflict`)."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _OWNERS_LOCK})
    now = _find(connection, name, lock=True)
    check_version(now, version)
    values: dict[str, Any] = {}
    if role is not None and role != now.role:
        values["role"] = _check(role, ROLES, "role")
    if state is not None and state != now.state:
        values["state"] = _check(state, STATES, "state")
    if not values:
        return now
    loses = now.role == "owner" and now.state == "active"
    if loses and not _other_owners(connection, now.administrator):
        raise Conflict("This is the last owner: make another one first.", code="last_owner")
    _touch(connection, now.administrator, **values)
    if values.get("state") == "suspended":
        sessions.end_all(connection, "institution", administrator_id=now.administrator)
    changed = AdministratorChanged(administrator=now.administrator, changed=values, asked_by=asked_by)
    record(connection, by, changed, reason=reason)
    return show(connection, now.administrator)


def check_version(now: Administrator, version: int | None) -> None:
    """Raise `Stale` unless an administrator is at the version that the caller saw; None for any."""
    if version is not None and version != now.version:
        raise Stale(f"This administrator is at version {now.version}, not {version}: look again, then change.")


def reset_password(
    connection: Connection,
    by: Actor,
    name: str,
    password_hash: str,
    *,
    reason: str = "",
    asked_by: str | None = None,
) -> Administrator:
    """Set a password that must be changed at the next sign-in; sessions end, and no place is a familiar one."""
    now = _find(connection, name, lock=True)
    _touch(
        connection,
        now.administrator,
        password_hash=password_hash,
        must_change_password=True,
        password_changed_at=func.now(),
    )
    activation.withdraw(connection, now.administrator)
    sessions.end_all(connection, "password_changed", administrator_id=now.administrator)
    Limits().forget_places(connection, now.administrator)
    reset = AdministratorPasswordReset(administrator=now.administrator, asked_by=asked_by)
    record(connection, by, reset, reason=reason)
    return show(connection, now.administrator)


def _find(connection: Connection, name: str, *, lock: bool) -> Administrator:
    query = select(administrator).where(
        or_(administrator.c.id == name, func.lower(administrator.c.username) == func.lower(name))
    )
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"There is no administrator {name!r}.")
    return _administrator(row)


def _touch(connection: Connection, administrator_id: str, **values: Any) -> None:
    connection.execute(
        update(administrator)
        .where(administrator.c.id == administrator_id)
        .values(changed_at=func.now(), version=administrator.c.version + 1, **values)
    )


def _other_owners(connection: Connection, administrator_id: str) -> int:
    return connection.execute(
        select(func.count())
        .select_from(administrator)
        .where(
            administrator.c.role == "owner",
            administrator.c.state == "active",
            administrator.c.id != administrator_id,
        )
    ).scalar_one()


def _administrator(row: Any) -> Administrator:
    return Administrator(
        row.id,
        row.username,
        row.role,
        row.state,
        row.must_change_password,
        row.version,
        row.created_at,
        row.changed_at,
    )


def _check(value: str, known: tuple[str, ...], what: str) -> str:
    if value not in known:
        raise Refused(f"{value!r} is no {what} of an administrator.", remedy=f"It is one of: {', '.join(known)}.")
    return value
