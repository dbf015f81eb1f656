"""Filling a ledger with a made-up microfinance institution."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from random import Random

from sqlalchemy import Connection, Engine, select

from sample_institution import clients as stories
from sample_institution.canaries import PREFIX, canary
from sample_institution.clients import ClientStories, Told
from sample_institution.desk import Counter
from sample_institution.load import Chunk, advance_sequences, highest_ids, set_default_savings
from sample_institution.rows.clients import MappingRow
from sample_institution.setup import set_up, user
from sample_institution.tables import table
from sample_institution.world import World

TODAY = date(2026, 6, 30)
"""The business date of the sample unless another is given, so that the same seed gives the same rows."""

AGENT_CLIENTS = 30
CUSTOMER_LOGIN = "asha"
AGENT_LOGIN = "agent-baraka"

_CHUNK = 250  # clients


@dataclass(frozen=True)
class Institution:
    """Who is in the ledger after a fill: client ids by their nature.

    `customer` is a good typical client: a running loan with history, a repaid one, savings with interest, a
    fixed deposit, charges and client transactions. `agent_clients` are the clients of the field agent's login.
    `canaries` are strings that confidential columns carry; none may ever appear in a document.
    """

    customer: int
    agent_clients: tuple[int, ...]
    active_clients: tuple[int, ...]
    inactive_clients: tuple[int, ...]
    canaries: tuple[str, ...]
    today: date
    customer_login: str = CUSTOMER_LOGIN
    agent_login: str = AGENT_LOGIN


@dataclass
class _Census:
    """Client ids by nature, collected while filling."""

    active: list[int] = field(default_factory=list)
    inactive: list[int] = field(default_factory=list)

    def count(self, told: Told) -> None:
        is_active = told.client.status_enum == stories.ACTIVE
        (self.active if is_active else self.inactive).append(told.client.id)


def fill(
    engine: Engine,
    *,
    clients: int,
    seed: int = 1,
    today: date | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Institution:
    """Add an institution of `clients` clients to a ledger that has Fineract's tables.

    Deterministic: an empty ledger, the same `seed` and the same `today` give the same rows. Offices, currencies,
    code lists and products are looked up first and added where missing. All is one transaction; rows are told
    and written in chunks, so memory stays bounded. `progress` is called with clients written and wanted.
    """
    if clients < 1:
        raise ValueError("an institution needs at least one client")
    census = _Census()
    with engine.begin() as connection:
        setup = set_up(connection, today or TODAY)
        world = World(setup, Counter(highest_ids(connection)), Random(f"{seed}"))
        _write_clients(connection, world, clients, seed, census, progress)
        agent_clients = tuple(census.active[1 : AGENT_CLIENTS + 1]) or tuple(census.active)
        _map_logins(connection, world, census.active[0], agent_clients)
        advance_sequences(connection)
    return Institution(
        customer=census.active[0],
        agent_clients=agent_clients,
        active_clients=tuple(census.active),
        inactive_clients=tuple(census.inactive),
        canaries=_canaries(engine),
        today=setup.today,
    )


def _write_clients(
    connection: Connection,
    world: World,
    wanted: int,
    seed: int,
    census: _Census,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Tell clients, while another thread writes the chunk before."""
    teller = ClientStories(world, Random(f"decks {seed}"))
    written: Future[None] | None = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="sample-ledger") as writer:
        for start in range(0, wanted, _CHUNK):
            chunk, defaults = Chunk(), {}
            end = min(start + _CHUNK, wanted)
            for index in range(start, end):
                told = teller.tell(index)
                chunk.add(told.rows)
                chunk.add(told.arrears)
                census.count(told)
                if told.default_savings is not None:
                    defaults[told.client.id] = told.default_savings
            if written is not None:
                written.result()
                if progress is not None:
                    progress(start, wanted)
            written = writer.submit(_write, connection, chunk, defaults)
        if written is not None:
            written.result()
            if progress is not None:
                progress(wanted, wanted)


def _write(connection: Connection, chunk: Chunk, defaults: dict[int, int]) -> None:
    chunk.write(connection)
    set_default_savings(connection, defaults)


def _map_logins(connection: Connection, world: World, customer: int, agent_clients: tuple[int, ...]) -> None:
    """Self-service logins: a customer with one client, a field agent with many."""
    office = min(world.setup.offices.values())
    asha = user(
        connection,
        CUSTOMER_LOGIN,
        office,
        self_service=True,
        firstname=stories.TYPICAL_NAME[0],
        lastname=stories.TYPICAL_NAME[1],
        email="asha@example.org",
    )
    agent = user(
        connection,
        AGENT_LOGIN,
        office,
        self_service=True,
        firstname="Baraka",
        lastname="Otieno",
        email="baraka@example.org",
    )
    chunk = Chunk()
    mapped = {customer: asha} | {client: agent for client in agent_clients if client != customer}
    ids = Counter(highest_ids(connection))
    chunk.add(
        MappingRow(id=ids.new(MappingRow.table), appuser_id=login, client_id=client)
        for client, login in mapped.items()
    )
    chunk.write(connection)


def _canaries(engine: Engine) -> tuple[str, ...]:
    """The common prefix, and by name what staff tables hold."""
    staff = table("m_staff")
    with engine.connect() as connection:
        names = connection.execute(
            select(staff.c.display_name).where(staff.c.display_name.like(f"{PREFIX}%")).order_by(staff.c.id)
        ).scalars()
        return (PREFIX, *names, canary("user", "approver"), canary("user-last", "approver"))
