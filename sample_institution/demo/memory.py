"""What the demo remembers between two starts: who may log in, with which passwords."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

_FILE = "demo.json"
#: Nothing that looks like something else, and no vowels, so that no user name comes out.
_ALPHABET = "bcdfghjkmnpqrstvwxz23456789"
_LENGTH = 14


def _new_password() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


@dataclass
class Login:
    """Somebody who can log in. The password is drawn when the demo starts for the first time."""

    username: str
    kind: str
    clients: list[int] = field(default_factory=list)
    password: str = field(default_factory=_new_password)
    #: The idempotency key with which the phone was registered.
    device_key: str = ""


def _administrator() -> Login:
    return Login("admin", "administrator")


@dataclass
class Memory:
    """What the demo keeps in a file that its owner alone may read."""

    customer: Login
    agent: Login
    administrator: Login = field(default_factory=_administrator)

    @property
    def logins(self) -> tuple[Login, Login, Login]:
        """All of them."""
        return self.customer, self.agent, self.administrator

    def save(self, directory: Path) -> None:
        """Write it, whole or not at all."""
        fresh = directory / f"{_FILE}.new"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=1)
        fresh.replace(directory / _FILE)


def remembered(directory: Path) -> Memory | None:
    """What an earlier start left, that of an older release too; or None."""
    try:
        found = json.loads((directory / _FILE).read_text())
        customer, agent = _login(found["customer"]), _login(found["agent"])
        administrator = _login(found["administrator"]) if "administrator" in found else _administrator()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Memory(customer, agent, administrator)


def _login(found: dict[str, Any]) -> Login:
    names = {one.name for one in fields(Login)}
    return Login(**{name: value for name, value in found.items() if name in names})
