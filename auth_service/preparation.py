"""What the auth service needs before it can run: a key to sign tokens with, and somebody to administer."""

from __future__ import annotations

import getpass
from typing import Any

from auth_service import administrators, keys
from auth_service.passwords import given_or_new
from auth_service.secret import auth_secret
from passbook.audit.chain import operator
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings


def prepare(settings: Settings, database: ServiceDatabase, *, administrator: str) -> dict[str, Any]:
    """The first signing key and the first administrator, an owner with a random password that is told once.

    Does nothing where they are there. Raises `Refused` if the keys are sealed with another secret.
    """
    by = operator(getpass.getuser())
    with database.begin() as connection:
        made = keys.ensure(connection, by, auth_secret(settings))
    done: dict[str, Any] = {"signing_key": "made" if made else "there"}
    hashed, initial = given_or_new(None, username=administrator)
    with database.begin() as connection:
        if administrators.none_yet(connection):
            first = administrators.add(
                connection, by, username=administrator, role="owner", password_hash=hashed, reason="the first"
            )
            done["administrator"] = {"username": first.username, "role": "owner", "initial_password": initial}
        else:
            done["administrator"] = "there"
    return done
