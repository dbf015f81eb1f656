"""What requests about administrators carry, and their answers hold."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from auth_service import administrators
from auth_service.api.models import BY_CODE, GIVEN, CredentialKind, Line, OptionalReason, Password, example
from auth_service.delivery import Activation

_Role = Literal["support", "manager", "owner"]


class NewAdministrator(OptionalReason):
    """An administrator to be."""

    model_config = example(username="olga", role="support")

    username: Line
    role: _Role
    password: Password | None = Field(None, description=GIVEN)
    credential: CredentialKind = BY_CODE


class AdministratorChange(OptionalReason):
    """Role or state of an administrator."""

    model_config = example(state="suspended", reason="left the institution")

    role: _Role | None = None
    state: Literal["active", "suspended"] | None = None


class AdministratorReset(OptionalReason):
    """A new password for another administrator."""

    model_config = example(reason="password lost, ticket 4711")

    password: Password | None = Field(None, description=GIVEN)
    credential: CredentialKind = BY_CODE


class Administrators(BaseModel):
    """All administrators, by user name."""

    items: list[administrators.Administrator]


class AdministratorAnswer(BaseModel):
    """An administrator; `activation` or `initial_password`, whichever was made, is told once."""

    administrator: administrators.Administrator
    initial_password: str | None = None
    activation: Activation | None = None


class WhoIAm(BaseModel):
    """The administrator who asks."""

    administrator: str
    username: str
    role: str
    must_change_password: bool
