"""The demo's ledger and what is remembered of it between two starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, inspect

from passbook.progress import reporting
from sample_institution.images import write_images
from sample_institution.institution import fill
from sample_institution.tables import create_schema

CLIENTS = 60


@dataclass
class Login:
    """A sample login with its device."""

    username: str
    kind: str
    clients: list[int]
    password: str = ""
    device: dict[str, Any] = field(default_factory=dict)


@dataclass
class Memory:
    """What the demo keeps in `demo.json`, readable by its owner alone."""

    customer: Login
    agent: Login

    def save(self, directory: Path) -> None:
        """Write it."""
        path = directory / "demo.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self), indent=1))


def remembered(directory: Path) -> Memory | None:
    """What an earlier start left, or None."""
    try:
        found = json.loads((directory / "demo.json").read_text())
        return Memory(Login(**found["customer"]), Login(**found["agent"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_institution(engine: Engine, pictures: Path) -> Memory:
    """Fill the ledger with the sample institution: a customer, and an agent with 30 clients."""
    if not inspect(engine).has_table("m_client"):
        create_schema(engine)
    with reporting("sample institution") as reporter:
        institution = fill(engine, clients=CLIENTS, seed=1, progress=reporter.update)
    write_images(engine, pictures)
    return Memory(
        Login(institution.customer_login, "customer", [institution.customer]),
        Login(institution.agent_login, "agent", list(institution.agent_clients)),
    )
