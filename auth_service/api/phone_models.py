"""What a person's own phone sends and gets: devices, and signing out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from auth_service.api.models import ID, NO_CONTROL, Request, example
from auth_service.devices import Device


class PhoneSignOut(Request):
    """Which phone to sign out."""

    model_config = example(refresh_token="pbr_…")  # noqa: S106 - an example

    refresh_token: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None,
        description="Of a session on this phone; instead of it, an access token as Authorization: Bearer.",
    )
    device: str | None = Field(
        default=None,
        pattern=ID,
        max_length=100,
        description="The device that this phone is, for an app that signs in without an installation key.",
    )


class NewDevice(Request):
    """A device to register."""

    model_config = example(name="Amina's phone", platform="android")

    name: Annotated[str, Field(max_length=100, pattern=NO_CONTROL)] = ""
    platform: Annotated[str, Field(max_length=100, pattern=NO_CONTROL)] = ""


class CredentialAnswer(BaseModel):
    """A replication credential, shown once."""

    person: str = Field(description="Whose it is. Name the copy on the device after this id: it belongs to them.")
    device: str
    url: str
    username: str
    password: str
    expires_at: datetime
    wipe_key: dict[str, Any] | None = Field(
        description="A public JSON Web Key. Keep it: an order to wipe this device is signed with it."
    )


class MyDevice(BaseModel):
    """A device of mine."""

    device: str
    name: str
    platform: str
    state: str
    created_at: datetime
    last_synchronised_at: datetime | None
    expires_at: datetime
    ends_at: datetime
    revoked_at: datetime | None

    @classmethod
    def of(cls, one: Device) -> MyDevice:
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


class MyDevices(BaseModel):
    """The devices with access to my copy, and those that had it."""

    items: list[MyDevice]
