"""The demo's ledger: the sample institution, made at the first start."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect

from passbook.progress import reporting
from sample_institution.demo.memory import Login, Memory
from sample_institution.images import write_images
from sample_institution.institution import fill
from sample_institution.tables import create_schema

CLIENTS = 60


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
