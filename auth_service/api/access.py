"""Access for somebody new, or reset: which password or code is made, and how it reaches its owner."""

from __future__ import annotations

from typing import Literal

from auth_service.activation import NO_PASSWORD
from auth_service.administrators import Administrator
from auth_service.api.acts import Access
from auth_service.delivery import Activation, deliver
from auth_service.people import Person
from auth_service.service import Service
from passbook.audit.chain import Actor
from passbook.errors import Refused

Credential = Literal["activation", "initial_password"]


async def password_for(
    service: Service, username: str, given: str | None, credential: Credential
) -> tuple[str, str | None]:
    """The hash of the password to begin with (of none where a code is to be made), and the password if made here.

    Raises `Refused` for a password where codes are delivered: nobody is to know another's.
    """
    if given is None and credential == "activation":
        return NO_PASSWORD, None
    if service.settings.activation_command:
        raise Refused(
            "Activation codes are delivered to their owners here, so nobody else makes or reads a password: leave "
            "out `password` and `credential`.",
            code="password_not_shown",
        )
    return await service.hashing.given_or_new(given, username=username)


def handed_over(service: Service, by: Actor, access: Access[Person] | Access[Administrator]) -> Activation | None:
    """What becomes of the code, if there is one: delivered, or to be handed over."""
    if access.code is None:
        return None
    return deliver(service.database, by, service.settings.activation_command, access.whom, access.code)
