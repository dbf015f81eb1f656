"""What requests carry and answers hold, where it is not a domain object itself. Unknown members are refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from auth_service import approvals, directory, people
from auth_service.api.envelope import BECAUSE
from auth_service.causes import Told
from auth_service.delivery import Activation
from auth_service.devices import Device
from auth_service.scopes import MOST_CLIENTS, Window
from passbook.audit.chain import Entry

#: Opaque ids are small letters, digits and hyphens.
ID = r"^[a-z0-9-]+$"
PersonId = Annotated[str, Path(pattern=ID, max_length=100, examples=["person-7a3f"])]
DeviceId = Annotated[str, Path(pattern=ID, max_length=100, examples=["device-9c41"])]
AdministratorId = Annotated[str, Path(pattern=ID, max_length=100, examples=["administrator-02bd"])]
ApprovalId = Annotated[str, Path(pattern=ID, max_length=100, examples=["approval-ee10"])]
ClientId = Annotated[int, Path(gt=0, lt=2**63, examples=[17])]
Limit = Annotated[int, Query(ge=1, le=directory.LONGEST_PAGE, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]

NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
Line = Annotated[str, Field(max_length=200, pattern=NO_CONTROL)]
Password = Annotated[str, Field(max_length=1000)]
ReasonText = Annotated[
    str,
    Field(
        min_length=3,
        max_length=500,
        pattern=NO_CONTROL,
        description="Why; kept in the audit log for ever, so no names of people.",
        examples=["phone reported stolen, ticket 4711"],
    ),
]
_Permission = Literal["profile", "image", "loans", "schedules", "savings", "charges", "transactions"]
_Kind = Literal["customer", "agent"]
CredentialKind = Annotated[
    Literal["activation", "initial_password"],
    Field(
        description="How they come in: with a code to choose a password, good once and for a short while; or with "
        "an initial password, which who orders it can read."
    ),
]
BY_CODE: CredentialKind = "activation"
GIVEN = (
    "Instead of an activation code: a password, which must be changed at first sign-in. Refused where codes are "
    "delivered."
)
_Clients = Annotated[
    list[Annotated[int, Field(gt=0, lt=2**63)]], Field(max_length=MOST_CLIENTS, examples=[[17, 18]])
]


def example(**members: Any) -> ConfigDict:
    """The configuration of a request's body, with an example of it."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [members]})


class Request(BaseModel):
    """The body of a request: members that are not named here are refused."""

    model_config = ConfigDict(extra="forbid")


class Reason(Request):
    """Why something is done."""

    model_config = example(reason="phone reported stolen, ticket 4711")

    reason: ReasonText


class OptionalReason(Request):
    """Why something is done, if it is worth saying."""

    reason: Annotated[str, Field(max_length=500, pattern=NO_CONTROL)] = ""


class HistoryWindow(Request):
    """How much history: from a day, or the last so many months; neither for all of it."""

    history_from: date | None = None
    history_months: Annotated[int, Field(ge=1, le=1200)] | None = None

    def window(self) -> Window:
        return Window(self.history_from, self.history_months)


class NewPerson(HistoryWindow, OptionalReason):
    """A person to be."""

    model_config = example(username="amina", kind="customer", clients=[17])

    username: Line
    kind: _Kind = "customer"
    clients: _Clients = []
    permissions: list[_Permission] | None = Field(None, description="All if not given.", max_length=20)
    password: Password | None = Field(None, description=GIVEN)
    credential: CredentialKind = BY_CODE


class PersonChange(OptionalReason):
    """Who a person is, changed."""

    model_config = example(username="amina.k", reason="misspelt, ticket 4711")

    username: Line | None = None
    kind: _Kind | None = None


class Links(OptionalReason):
    """Clients to link."""

    model_config = example(clients=[17, 18], reason="took over a portfolio, ticket 4711")

    clients: Annotated[_Clients, Field(min_length=1)]


class Permissions(HistoryWindow, OptionalReason):
    """What a person may see: these permissions and this window, instead of what was there."""

    model_config = example(permissions=["profile", "loans"], history_months=24)

    permissions: list[_Permission] = Field(max_length=20, examples=[["profile", "loans"]])


class PreviewRequest(HistoryWindow):
    """A scope to try: what is not given is as it is."""

    model_config = example(clients=[17, 18], permissions=["profile", "loans", "transactions"])

    clients: _Clients | None = None
    permissions: list[_Permission] | None = Field(None, max_length=20)


class PasswordReset(OptionalReason):
    """A new password for somebody else."""

    model_config = example(revoke_devices=True, reason="phone and password lost, ticket 4711")

    password: Password | None = Field(None, description=GIVEN)
    credential: CredentialKind = BY_CODE
    revoke_devices: bool = Field(False, description="Refuse their devices too.")


class SignOut(Reason):
    """Ending somebody's sessions."""

    model_config = example(revoke_devices=False, reason="left a shared computer, ticket 4711")

    revoke_devices: bool = False


class PasswordChange(Request):
    """One's own new password."""

    model_config = example(current="the present one", new="three words and a tree", sign_out_others=True)

    current: Password
    new: Password
    sign_out_others: bool = Field(
        False,
        description="End every other session and revoke every other device. Without it all of them go on; an app "
        "asks whether somebody else may have known the password.",
    )
    keep_device: str | None = Field(
        None, pattern=ID, max_length=100, description="The device that goes on: the one this is sent from."
    )


class AdministratorPasswordChange(Request):
    """One's own new password; every other session ends."""

    model_config = example(current="the present one", new="three words and a tree")

    current: Password
    new: Password


class ManyDevices(Reason):
    """Devices to revoke at once."""

    model_config = example(devices=["device-9c41", "device-02bd"], reason="stolen from the office, ticket 4711")

    devices: Annotated[
        list[Annotated[str, Field(pattern=ID, max_length=100)]], Field(min_length=1, max_length=1000)
    ]


class Switch(Reason):
    """Access for everybody, on or off."""

    model_config = example(open=False, reason="core migration until Monday")

    open: bool


class Redemption(Request):
    """An activation code, and the password that its owner chooses."""

    model_config = example(
        username="amina",
        code="k7qf-2m9x-r4td-hh3w",
        password="three words and a tree",  # noqa: S106 - an example
    )

    username: Line
    code: Annotated[str, Field(max_length=200)]
    password: Password


# Answers


class TokenAnswer(BaseModel):
    """RFC 6749, 5.1. `must_change_password`: the tokens are good for changing the password alone."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str
    must_change_password: bool


class Me(BaseModel):
    """Who I am and what I may see."""

    person: str
    username: str
    kind: str
    clients: list[int]
    permissions: list[str]
    history_from: date | None
    history_months: int | None
    must_change_password: bool
    checked_at: datetime | None = Field(
        description="The ledger's time up to which my copy is known to be complete; null: not known."
    )


class Authenticated(TokenAnswer):
    """The answer to HTTP Basic: who I am, and tokens to go on with."""

    authenticated: Literal[True]
    me: Me


class OAuthProblem(BaseModel):
    """RFC 6749, 5.2, with our own envelope around it."""

    error: str
    error_description: str
    code: str
    message: str
    detail: dict[str, Any] | None
    request_id: str
    because: Told | None = BECAUSE


class Devices(BaseModel):
    """A page of devices."""

    items: list[Device]
    next: str | None


class Sought(BaseModel):
    """What was searched for; null where it was not."""

    text: str | None
    kind: str | None
    state: str | None
    client: int | None
    device: str | None
    not_synchronised_since: datetime | None


class People(BaseModel):
    """A page of people, by user name."""

    items: list[people.Person]
    next: str | None
    sought: Sought


class PersonAnswer(BaseModel):
    """A person; `activation` or `initial_password`, whichever was made, is told once."""

    person: people.Person
    initial_password: str | None = None
    activation: Activation | None = None


class Erasure(BaseModel):
    """How far a deletion is: `done`, or `pending` until the worker has deleted the database."""

    person: str
    state: Literal["done", "pending"]


class Ended(BaseModel):
    """What was ended."""

    sessions_ended: int
    devices_revoked: int


class Approvals(BaseModel):
    """The acts that wait for a second administrator."""

    items: list[approvals.Approval]


@dataclass(frozen=True)
class Decided(approvals.Approval):
    """An act as it was decided, with the code for whoever it made or reset, to hand over."""

    activation: Activation | None = None


class Revoked(BaseModel):
    """What became of a bulk revocation: done at once, or waiting for a second administrator."""

    revoked: int | None = None
    approval: approvals.Approval | None = None


class AuditPage(BaseModel):
    """Rows of the audit log, newest first; `next` is `before` of the page after."""

    items: list[Entry]
    next: int | None


class AuditHead(BaseModel):
    """The last row's id and hash: note it elsewhere, and the log can be proved against it later."""

    anchor: str | None
