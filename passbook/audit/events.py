"""What is recorded, one class per event. The class's name is the event's name, its docstring the meaning.

No event has a secret, a name of a person, or anything from a document among its fields: ids and facts alone.
`person` and `device` become columns of their own; the other fields are the event's detail.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened."""

    #: How many of it, alike, have rows of their own within ten minutes (`repeats`); None: all.
    in_full: ClassVar[int | None] = None
    #: Whether they are alike whomever they concern.
    by_place: ClassVar[bool] = False

    @classmethod
    def name(cls) -> str:
        """The event's name in the log."""
        return cls.__name__

    def fields(self) -> dict[str, Any]:
        """The facts, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, kw_only=True)
class OfPerson(Event):
    """Something that concerns one person."""

    person: str


@dataclass(frozen=True, kw_only=True)
class OfDevice(OfPerson):
    """Something that concerns one device of a person."""

    device: str


@dataclass(frozen=True, kw_only=True)
class OfAdministrator(Event):
    """Something that concerns one administrator."""

    administrator: str


# Signing in and out


@dataclass(frozen=True, kw_only=True)
class PersonSignedIn(OfPerson):
    """A person proved who they are, and has a session."""

    in_full = 60

    session: str


@dataclass(frozen=True, kw_only=True)
class AdministratorSignedIn(OfAdministrator):
    """An administrator proved who they are, and has a session."""

    session: str


@dataclass(frozen=True, kw_only=True)
class SignInFailed(Event):
    """A name and a password that do not go together. A name that nobody has is not kept."""

    in_full = 20
    # Writing a row takes longer than counting: were failures counted by person, the time would tell whether there
    # is one of that name.
    by_place = True

    audience: str
    #: `unknown_name`, `wrong_password`, `suspended`, `tenant_closed`
    why: str
    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class SignInSlowed(Event):
    """Sign-ins from here, or of this account, must wait. Recorded when the wait begins, not at every try."""

    in_full = 5

    audience: str
    #: `account`, `address` or `everybody`
    limit: str
    seconds: int
    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionRefreshed(Event):
    """A refresh token was exchanged for new tokens."""

    in_full = 5

    session: str
    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class RefreshTokenReused(Event):
    """A refresh token that had been exchanged came again, too late to be a repeated request: the session ended."""

    session: str
    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionEnded(Event):
    """A session was ended: signed out, or ended by a new password."""

    session: str
    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class WrongDoor(Event):
    """A person's token on an administrator's route, or the reverse; refused."""

    in_full = 5

    #: What the route wanted: `passbook` (people) or `passbook-admin`.
    wanted: str


@dataclass(frozen=True, kw_only=True)
class NotAllowed(OfAdministrator):
    """An administrator asked for what their role does not allow; refused."""

    in_full = 100

    role: str
    needed: str
    act: str


@dataclass(frozen=True, kw_only=True)
class ActivationCodeMade(Event):
    """A code was made with which a person or an administrator chooses a password, once."""

    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class ActivationCodeDelivered(Event):
    """A code was handed to the institution's own program, which takes it to its owner; or that failed."""

    delivered: bool
    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class ActivationRefused(Event):
    """A code was not taken. A name that nobody has is not kept."""

    in_full = 5

    audience: str
    #: `wrong_code`, `code_used`, `code_expired`, `suspended`, `maintenance`
    why: str
    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class PersonActivated(OfPerson):
    """Somebody with the activation code of a person chose the person's password."""


@dataclass(frozen=True, kw_only=True)
class AdministratorActivated(OfAdministrator):
    """Somebody with the activation code of an administrator chose the administrator's password."""


@dataclass(frozen=True, kw_only=True)
class PasswordChanged(OfPerson):
    """A person chose a new password."""

    in_full = 20

    sessions_ended: int
    devices_revoked: int


@dataclass(frozen=True, kw_only=True)
class PasswordChangeRefused(Event):
    """A new password was asked for with a wrong present one."""

    in_full = 5

    person: str | None = None
    administrator: str | None = None


@dataclass(frozen=True, kw_only=True)
class Repeated(Event):
    """An event came more often than it is told one by one: `times` more, by the same and from the same place."""

    of: str
    times: int
    since: str
    until: str
    person: str | None = None
    administrator: str | None = None


# People


@dataclass(frozen=True, kw_only=True)
class PersonCreated(OfPerson):
    """A person may log in."""

    kind: str
    clients: list[int]
    permissions: list[str]


@dataclass(frozen=True, kw_only=True)
class PersonChanged(OfPerson):
    """Who a person is was changed; the names of the fields, not their values."""

    changed: list[str]


@dataclass(frozen=True, kw_only=True)
class PasswordReset(OfPerson):
    """A person got a new password, which they must change."""

    sessions_ended: int
    devices_revoked: int


@dataclass(frozen=True, kw_only=True)
class ClientsLinked(OfPerson):
    """A person may see these clients too."""

    clients: list[int]


@dataclass(frozen=True, kw_only=True)
class ClientsUnlinked(OfPerson):
    """A person may no longer see these clients."""

    clients: list[int]


@dataclass(frozen=True, kw_only=True)
class PermissionsChanged(OfPerson):
    """What a person may see was changed."""

    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PersonSuspended(OfPerson):
    """A person is kept out until restored."""


@dataclass(frozen=True, kw_only=True)
class PersonRestored(OfPerson):
    """A suspended person may come in again."""


@dataclass(frozen=True, kw_only=True)
class PersonSignedOut(OfPerson):
    """Every session, and if wished every device, of a person was ended by an administrator."""

    sessions_ended: int
    devices_revoked: int


@dataclass(frozen=True, kw_only=True)
class PersonDeleted(OfPerson):
    """A person's access and personal data are gone; their copies follow."""


@dataclass(frozen=True, kw_only=True)
class PersonErased(OfPerson):
    """The database of a person who was deleted is gone too."""


@dataclass(frozen=True, kw_only=True)
class DatabaseClosed(OfPerson):
    """CouchDB let others than the person into their database; the worker found it and closed it again."""


@dataclass(frozen=True, kw_only=True)
class PeopleImported(Event):
    """A list of people was imported."""

    #: `csv` or `fineract`
    source: str
    created: int
    changed: int
    refused: int


# Devices


@dataclass(frozen=True, kw_only=True)
class DeviceRegistered(OfDevice):
    """A device got a replication credential."""


@dataclass(frozen=True, kw_only=True)
class DeviceRevoked(OfDevice):
    """A device was refused for good. Of several of one person that went together the first tells the sessions."""

    sessions_ended: int = 0


@dataclass(frozen=True, kw_only=True)
class WipeOrdered(OfDevice):
    """A device was revoked and is to throw its copy away."""


@dataclass(frozen=True, kw_only=True)
class WipeConfirmed(OfDevice):
    """A device says that it has thrown its copy away."""


# Administrators' reading of people's data


@dataclass(frozen=True, kw_only=True)
class PersonRead(OfPerson):
    """An administrator looked at a person: `what` is the view."""

    what: str


@dataclass(frozen=True, kw_only=True)
class PeopleListed(Event):
    """An administrator listed or searched people or devices: how many were shown, not what was sought."""

    what: str
    shown: int


@dataclass(frozen=True, kw_only=True)
class AuditRead(Event):
    """Somebody read the audit log."""

    shown: int


# The institution


@dataclass(frozen=True, kw_only=True)
class TenantClosed(Event):
    """Everybody's access was switched off."""


@dataclass(frozen=True, kw_only=True)
class TenantOpened(Event):
    """Access was switched on again."""


@dataclass(frozen=True, kw_only=True)
class AdministratorCreated(OfAdministrator):
    """There is a new administrator. `asked_by`: who asked, where another approved."""

    role: str
    asked_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class AdministratorChanged(OfAdministrator):
    """An administrator's role or state was changed."""

    changed: dict[str, Any]
    asked_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class AdministratorPasswordReset(OfAdministrator):
    """An administrator got a new password, which they must change, or a code to choose one."""

    asked_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class AdministratorPasswordChanged(OfAdministrator):
    """An administrator chose a new password."""


@dataclass(frozen=True, kw_only=True)
class SigningKeyRotated(Event):
    """A new key signs access tokens, or wipe orders."""

    kid: str
    purpose: str


@dataclass(frozen=True, kw_only=True)
class ApprovalRequested(Event):
    """An act waits for a second administrator."""

    approval: str
    action: str


@dataclass(frozen=True, kw_only=True)
class ApprovalDenied(Event):
    """Somebody wanted to approve who may not: who asked, whom it concerns, or who may be the same person."""

    approval: str
    action: str
    #: `asked`, `concerned` or `dependent`
    why: str


@dataclass(frozen=True, kw_only=True)
class HourlyBoundReached(Event):
    """An administrator wanted to do more in an hour than one does alone; recorded once in an hour for each act."""

    action: str


@dataclass(frozen=True, kw_only=True)
class ApprovalDecided(Event):
    """A second administrator approved or refused an act."""

    approval: str
    action: str
    decision: str


@dataclass(frozen=True, kw_only=True)
class AuditVerified(Event):
    """Somebody had the chain verified."""

    rows: int
    ok: bool


def kinds() -> dict[str, type[Event]]:
    """Every event that can be recorded, by name."""
    found: dict[str, type[Event]] = {}
    waiting = [Event]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if not kind.__name__.startswith("Of"):
                found[kind.__name__] = kind
    return found
