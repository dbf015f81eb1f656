"""Every act of an administrator, on its way: done at once, or kept until a second administrator agrees.

`sensitivity` has the table. Here is what each act does, and how much it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from auth_service import (
    activation,
    administrators,
    approvals,
    bounds,
    devices,
    granting,
    people,
    sensitivity,
    tenant,
    wiping,
)
from auth_service.activation import NO_PASSWORD, Code
from auth_service.administrators import Administrator
from auth_service.api.doors import AdministratorDoor
from auth_service.approvals import Approval
from auth_service.bounds import Measure
from auth_service.people import Person
from auth_service.scopes import Window
from auth_service.sensitivity import TABLE
from auth_service.service import Service
from passbook.audit import chain
from passbook.audit.chain import Actor, record
from passbook.audit.events import ApprovalDenied, Event, HourlyBoundReached
from passbook.errors import Refused
from passbook.lookup import person_id_of

T = TypeVar("T", Person, Administrator)

REVOKE_MANY = sensitivity.REVOKE_DEVICES


@dataclass(frozen=True)
class Order:
    """An act that is to be done now."""

    service: Service
    by: Actor
    arguments: Mapping[str, Any]
    reason: str
    version: int | None = None
    #: Of a password that was given or made; it is not kept with an act that waits.
    password_hash: str = field(default=NO_PASSWORD, repr=False)
    #: Who asked, where `by` approved.
    asked_by: str | None = None


@dataclass(frozen=True)
class Access(Generic[T]):
    """Somebody who is new or was reset, with the code to choose a password; None where there is a password."""

    whom: T
    code: Code | None


@dataclass(frozen=True)
class _Handler:
    do: Callable[[Connection, Order], Any]
    #: Raises what doing it would for somebody who is not there, or was changed meanwhile.
    measure: Callable[[Connection, Order], Measure] = lambda _, __: Measure()


def submit(
    door: AdministratorDoor,
    action: str,
    arguments: Mapping[str, Any],
    reason: str,
    *,
    version: int | None = None,
    password_hash: str = NO_PASSWORD,
) -> Any:
    """Do an act, and give what it gives; or an `Approval` that waits, where a second administrator must agree.

    `arguments` are kept with what waits, so they are JSON and have no secret.
    """
    act, handler = TABLE[action], _HANDLERS[action]
    try:
        with door.enter(act.role, act.does) as (connection, me):
            bounds.lock(connection)
            arguments = _by_id(connection, arguments)
            order = Order(door.service, door.by, arguments, reason, version, password_hash)
            measure = handler.measure(connection, order)
            rules = door.service.bounds
            if rules.alone(connection, me.id, act, measure):
                return handler.do(connection, order)
            if password_hash != NO_PASSWORD:
                raise Refused(
                    "A second administrator must agree to this, and no password is kept until then: leave it out.",
                    code="password_not_kept",
                )
            if not approvals.who_may_approve(connection, me.id, act.role, arguments, rules.dependent):
                raise approvals.nobody_may(connection, me.id, rules.dependent)
            return approvals.request(connection, door.by, action, arguments, reason)
    except (bounds.OverBound, bounds.TooMuch):
        _record_once(door, HourlyBoundReached(action=action), bounds.HOUR)
        raise


def decide(door: AdministratorDoor, approval_id: str, *, approve: bool) -> tuple[Approval, Any]:
    """Approve what another administrator asked for, and do it; or refuse it. What it gave comes second."""
    with door.enter("support", "look at an approval") as (connection, _):
        act = TABLE[approvals.show(connection, approval_id).action]
    rules = door.service.bounds
    try:
        # Refusing takes the act's own role as well, or one support account could hold everything up; whoever asked
        # may take it back, and had that role.
        with door.enter(act.role, "approve" if approve else "refuse") as (connection, _):
            # First, as in `submit`: before any row is locked.
            bounds.lock(connection)

            def carry_out(asked: Approval) -> Any:
                order = Order(door.service, door.by, asked.arguments, asked.reason, asked_by=asked.requested_by)
                return _HANDLERS[asked.action].do(connection, order)

            return approvals.decide(
                connection,
                door.by,
                approval_id,
                approve=approve,
                role=act.role,
                lasts=rules.dependent,
                carry_out=carry_out,
            )
    except approvals.Denied as denied:
        event = ApprovalDenied(approval=approval_id, action=act.name, why=denied.why)
        _record_once(door, event, bounds.HOUR)
        raise


def _by_id(connection: Connection, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments with ids where names may stand: what is kept names nobody. Raises `NotFound`."""
    known = dict(arguments)
    if "person" in known:
        known["person"] = person_id_of(connection, known["person"])
    if "administrator" in known:
        known["administrator"] = administrators.show(connection, known["administrator"]).administrator
    return known


def _record_once(door: AdministratorDoor, event: Event, within: timedelta) -> None:
    """Record an event unless the same is in the log already: whoever repeats it does not fill the log."""
    with door.service.database.begin() as connection:
        bounds.lock(connection)
        since = chain.now(connection) - within
        told = chain.entries(connection, event=event.name(), actor=door.by.id, since=since, limit=1000)
        if not any(entry.detail == event.fields() for entry in told):
            record(connection, door.by, event)


# What each act is, and does. Arguments are as they were kept, so they are JSON.


def _clients_opened(connection: Connection, order: Order) -> Measure:
    now = people.locked(connection, order.arguments["person"], order.version)
    together = set(now.clients) | set(order.arguments["clients"])
    granting.check_number(together)
    new = len(together) - len(now.clients)
    return Measure(opens=new, clients=len(together) if new else 0)


def _link(connection: Connection, order: Order) -> Person:
    name, clients = order.arguments["person"], order.arguments["clients"]
    return granting.link(connection, order.by, name, clients, version=order.version, reason=order.reason)


def _clients_of_new(_: Connection, order: Order) -> Measure:
    clients = set(order.arguments["clients"])
    return Measure(opens=len(clients), clients=len(clients))


def _create(connection: Connection, order: Order) -> Access[Person]:
    wanted = order.arguments
    since = wanted["history_from"]
    made = people.add(
        connection,
        order.by,
        username=wanted["username"],
        kind=wanted["kind"],
        clients=wanted["clients"],
        permissions=wanted["permissions"],
        window=Window(date.fromisoformat(since) if since else None, wanted["history_months"]),
        password_hash=order.password_hash,
        reason=order.reason,
    )
    return Access(made, _code(connection, order, person_id=made.person))


def _clients_of(connection: Connection, order: Order) -> Measure:
    """A reset opens what the person sees to whoever is shown the code or the password."""
    now = people.show(connection, order.arguments["person"])
    if order.service.settings.activation_command:
        return Measure()
    # Never more than may be opened in an hour: an agent's reset takes it all, and is still possible.
    most = order.service.settings.clients_alone
    return Measure(opens=min(len(now.clients), most), clients=len(now.clients))


def _reset(connection: Connection, order: Order) -> Access[Person]:
    changed = people.reset_password(
        connection,
        order.by,
        order.arguments["person"],
        order.password_hash,
        revoke_devices=order.arguments["revoke_devices"],
        reason=order.reason,
    )
    return Access(changed, _code(connection, order, person_id=changed.person))


def _change(connection: Connection, order: Order) -> Person:
    wanted = order.arguments
    return people.change(
        connection,
        order.by,
        wanted["person"],
        username=wanted["username"],
        kind=wanted["kind"],
        version=order.version,
        reason=order.reason,
    )


def _unlink(connection: Connection, order: Order) -> Person:
    name, clients = order.arguments["person"], order.arguments["clients"]
    return granting.unlink(connection, order.by, name, clients, version=order.version, reason=order.reason)


def _permit(connection: Connection, order: Order) -> Person:
    wanted = order.arguments
    since = wanted["history_from"]
    return granting.permit(
        connection,
        order.by,
        wanted["person"],
        only=wanted["permissions"],
        window=Window(date.fromisoformat(since) if since else None, wanted["history_months"]),
        version=order.version,
        reason=order.reason,
    )


def _suspend(connection: Connection, order: Order) -> Person:
    return people.suspend(connection, order.by, order.arguments["person"], reason=order.reason)


def _restore(connection: Connection, order: Order) -> Person:
    return people.restore(connection, order.by, order.arguments["person"], reason=order.reason)


def _sign_out(connection: Connection, order: Order) -> tuple[int, int]:
    wanted = order.arguments
    return people.sign_out(
        connection, order.by, wanted["person"], revoke_devices=wanted["revoke_devices"], reason=order.reason
    )


def _person_there(connection: Connection, order: Order) -> Measure:
    people.locked(connection, order.arguments["person"], order.version)
    return Measure()


def _erase(connection: Connection, order: Order) -> tuple[str, str]:
    return people.begin_deletion(connection, order.by, order.arguments["person"], reason=order.reason)


def _revoke(connection: Connection, order: Order) -> devices.Device:
    return devices.revoke(connection, order.by, order.arguments["device"], reason=order.reason)


def _devices(connection: Connection, order: Order) -> Measure:
    return Measure(things=devices.number_active(connection, order.arguments["devices"]))


def _revoke_many(connection: Connection, order: Order) -> int:
    return devices.revoke_many(connection, order.by, order.arguments["devices"], reason=order.reason)


def _revoked_before(connection: Connection, order: Order) -> Measure:
    now = devices.show(connection, order.arguments["device"])
    return Measure(things=int(now.state != "revoked"))


def _wiped_before(connection: Connection, order: Order) -> Measure:
    now = devices.show(connection, order.arguments["device"])
    return Measure(things=int(now.wipe is None))


def _wipe(connection: Connection, order: Order) -> devices.Device:
    service = order.service
    return wiping.order(
        connection,
        order.by,
        order.arguments["device"],
        secret=service.secret,
        issuer=service.settings.auth_url,
        reason=order.reason,
    )


def _add_administrator(connection: Connection, order: Order) -> Access[Administrator]:
    made = administrators.add(
        connection,
        order.by,
        username=order.arguments["username"],
        role=order.arguments["role"],
        password_hash=order.password_hash,
        reason=order.reason,
        asked_by=order.asked_by,
    )
    return Access(made, _code(connection, order, administrator_id=made.administrator))


def _reset_administrator(connection: Connection, order: Order) -> Access[Administrator]:
    changed = administrators.reset_password(
        connection,
        order.by,
        order.arguments["administrator"],
        order.password_hash,
        reason=order.reason,
        asked_by=order.asked_by,
    )
    return Access(changed, _code(connection, order, administrator_id=changed.administrator))


def _change_administrator(connection: Connection, order: Order) -> Administrator:
    return administrators.change(
        connection,
        order.by,
        order.arguments["administrator"],
        role=order.arguments["role"],
        state=order.arguments["state"],
        version=order.version,
        reason=order.reason,
        asked_by=order.asked_by,
    )


def _administrator_there(connection: Connection, order: Order) -> Measure:
    administrators.check_version(administrators.show(connection, order.arguments["administrator"]), order.version)
    return Measure()


def _changed_before(connection: Connection, order: Order) -> Measure:
    now = administrators.show(connection, order.arguments["administrator"])
    administrators.check_version(now, order.version)
    wanted = (order.arguments["role"] or now.role, order.arguments["state"] or now.state)
    return Measure(things=int(wanted != (now.role, now.state)))


def _switch(connection: Connection, order: Order) -> tenant.Tenant:
    return tenant.switch(connection, order.by, to_open=order.arguments["open"], reason=order.reason)


def _code(connection: Connection, order: Order, *, person_id: str = "", administrator_id: str = "") -> Code | None:
    if order.password_hash != NO_PASSWORD:
        return None
    lives = timedelta(minutes=order.service.settings.activation_minutes)
    return activation.issue(
        connection, order.by, lives=lives, person_id=person_id, administrator_id=administrator_id
    )


_HANDLERS: Mapping[str, _Handler] = {
    sensitivity.CREATE_PERSON: _Handler(_create, _clients_of_new),
    sensitivity.LINK_CLIENTS: _Handler(_link, _clients_opened),
    sensitivity.RESET_PASSWORD: _Handler(_reset, _clients_of),
    sensitivity.CHANGE_PERSON: _Handler(_change, _person_there),
    sensitivity.UNLINK_CLIENT: _Handler(_unlink, _person_there),
    sensitivity.PERMIT: _Handler(_permit, _person_there),
    sensitivity.SUSPEND_PERSON: _Handler(_suspend, _person_there),
    sensitivity.RESTORE_PERSON: _Handler(_restore, _person_there),
    sensitivity.SIGN_OUT_PERSON: _Handler(_sign_out, _person_there),
    sensitivity.ERASE_PERSON: _Handler(_erase, _person_there),
    sensitivity.REVOKE_DEVICE: _Handler(_revoke, _revoked_before),
    sensitivity.REVOKE_DEVICES: _Handler(_revoke_many, _devices),
    sensitivity.WIPE_DEVICE: _Handler(_wipe, _wiped_before),
    sensitivity.ADD_ADMINISTRATOR: _Handler(_add_administrator),
    sensitivity.RESET_ADMINISTRATOR: _Handler(_reset_administrator, _administrator_there),
    sensitivity.CHANGE_ROLE: _Handler(_change_administrator, _changed_before),
    sensitivity.RESTORE_ADMINISTRATOR: _Handler(_change_administrator, _changed_before),
    sensitivity.SUSPEND_ADMINISTRATOR: _Handler(_change_administrator, _changed_before),
    sensitivity.SWITCH_ACCESS: _Handler(_switch),
}
