"""Taking activation codes to their owners: by a program of the institution's own.

The program gets one JSON object on its standard input and is to send the code by whatever way reaches its owner: a
text message to the number that the core has of the client, a letter, a call. Where it goes the program must know: a
number that came with the order would be the number of whoever ordered it. Exit status 0 means that the code is on
its way.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import structlog

from auth_service.activation import Code
from auth_service.administrators import Administrator
from auth_service.people import Person
from passbook.audit.chain import Actor, record
from passbook.audit.events import ActivationCodeDelivered
from passbook.declarations import PREFIX
from passbook.servicedb.engine import ServiceDatabase

log = structlog.get_logger()

_LONGEST = 30.0  # seconds that the program may take


@dataclass(frozen=True)
class Activation:
    """What became of an activation code. `code` is told once, and only where no program takes it to its owner.

    `hand_over`: give the code to its owner. `sent`: it is on its way. `not_sent`: it did not go out, and is good no
    more once another is ordered.
    """

    state: Literal["hand_over", "sent", "not_sent"]
    expires_at: datetime
    code: str | None = field(default=None, repr=False)


def deliver(
    database: ServiceDatabase, by: Actor, command: str, whom: Person | Administrator, code: Code
) -> Activation:
    """Have the code taken to its owner, or have it handed over where there is no program. Takes up to 30 s."""
    if not command:
        return Activation("hand_over", code.expires_at, code.text)
    is_person = isinstance(whom, Person)
    sent = _sent(command, whom, code)
    event = ActivationCodeDelivered(
        delivered=sent,
        person=whom.person if isinstance(whom, Person) else None,
        administrator=None if isinstance(whom, Person) else whom.administrator,
    )
    with database.begin() as connection:
        record(connection, by, event)
    if not sent:
        log.error("an activation code was not delivered", kind="person" if is_person else "administrator")
    return Activation("sent" if sent else "not_sent", code.expires_at)


def _sent(command: str, whom: Person | Administrator, code: Code) -> bool:
    told: dict[str, object] = {"username": whom.username, "code": code.text}
    told["expires_at"] = code.expires_at.isoformat()
    if isinstance(whom, Person):
        told |= {"person": whom.person, "clients": whom.clients}
    else:
        told |= {"administrator": whom.administrator}
    try:
        done = subprocess.run(
            shlex.split(command),
            input=json.dumps(told).encode(),
            # None of our secrets, and nothing of it in our log: it may repeat what it was given.
            env={name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_LONGEST,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
