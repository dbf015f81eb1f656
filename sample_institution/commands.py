"""`passbook sample-ledger`: fill a ledger with the sample institution, and let things happen in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, ProgrammingError

from passbook.context import opened
from passbook.database import database_url, shown, speaking_to, sql_engine
from passbook.errors import Refused
from passbook.output import Json, print_facts, print_json
from passbook.progress import reporting
from passbook.settings import Settings
from sample_institution import moves
from sample_institution.images import write_images
from sample_institution.institution import fill as fill_ledger
from sample_institution.tables import create_schema as create_tables

app = typer.Typer(help="A made-up institution in a ledger of Fineract's form.", no_args_is_help=True)

Url = Annotated[
    str | None,
    typer.Option("--url", help="The ledger; PASSBOOK_LEDGER_URL otherwise, else the embedded one."),
]
Client = Annotated[int | None, typer.Option("--client", min=1, help="The client it happens to.")]


class Move(StrEnum):
    """What can happen."""

    REPAY = "repay"
    REVERSE = "reverse"
    RESCHEDULE = "reschedule"
    CHARGE = "charge"
    DEPOSIT = "deposit"
    WITHDRAW = "withdraw"
    CLOSE = "close"
    REACTIVATE = "reactivate"
    UNMAP = "unmap"


@app.callback()
def _group() -> None:
    """A made-up institution in a ledger of Fineract's form, for trying things out."""


@app.command("fill")
def fill(
    clients: Annotated[int, typer.Option("--clients", min=1, help="How many clients.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same rows.")] = 1,
    url: Url = None,
    create_schema: Annotated[
        bool, typer.Option("--create-schema/--no-create-schema", help="Create the tables first.")
    ] = True,
    images: Annotated[
        Path | None, typer.Option("--images", file_okay=False, help="Write the clients' photos below it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add the institution to a ledger: clients with loans, savings and charges in every state."""
    with _ledger(url) as engine:
        if create_schema:
            create_tables(engine)
        with reporting("clients") as reporter:
            institution = fill_ledger(engine, clients=clients, seed=seed, progress=reporter.update)
        facts: dict[str, Any] = {
            "ledger": shown(engine.url),
            "clients": clients,
            "active": len(institution.active_clients),
            "today": institution.today.isoformat(),
            "customer": institution.customer,
            "customer_login": institution.customer_login,
            "agent_login": institution.agent_login,
            "agent_clients": list(institution.agent_clients),
        }
        if images is not None:
            facts["images"] = _write_images(engine, images)
    (print_json if as_json else print_facts)(facts)


@app.command("move")
def move(
    kind: Annotated[Move, typer.Argument(help="What happens.")],
    client: Client = None,
    loan: Annotated[int | None, typer.Option("--loan", help="This loan, not the client's first open one.")] = None,
    savings: Annotated[
        int | None, typer.Option("--savings", help="This account, not the first active one.")
    ] = None,
    transaction: Annotated[
        int | None, typer.Option("--transaction", help="The loan transaction to reverse.")
    ] = None,
    amount: Annotated[str | None, typer.Option("--amount", help="How much, like 250.50.")] = None,
    on: Annotated[
        datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="Value date; the business date otherwise.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let one thing happen in the ledger, with all its consequences."""
    with _ledger(url) as engine:
        done = _move(engine, kind, client, loan, savings, transaction, amount, on.date() if on else None)
    facts = {"move": kind.value, **asdict(done)}
    (print_json if as_json else print_facts)(facts)


def _move(
    engine: Engine,
    kind: Move,
    client: int | None,
    loan: int | None,
    savings: int | None,
    transaction: int | None,
    amount: str | None,
    on: date | None,
) -> Any:
    match kind:
        case Move.REPAY:
            return moves.repay(engine, loan or moves.open_loan_of(engine, _given(client)), _amount(amount), on)
        case Move.REVERSE:
            return moves.reverse(engine, _given(transaction, "--transaction"))
        case Move.RESCHEDULE:
            return moves.reschedule(engine, loan or moves.open_loan_of(engine, _given(client)))
        case Move.CHARGE:
            if loan is not None:
                return moves.charge(engine, loan_id=loan, amount=_amount(amount))
            return moves.charge(engine, client_id=_given(client), amount=_amount(amount))
        case Move.DEPOSIT | Move.WITHDRAW:
            account = savings or moves.active_savings_of(engine, _given(client))
            act = moves.deposit if kind == Move.DEPOSIT else moves.withdraw
            return act(engine, account, _amount(amount), on)
        case Move.CLOSE:
            return moves.close(engine, _given(client))
        case Move.REACTIVATE:
            return moves.reactivate(engine, _given(client))
        case Move.UNMAP:
            return moves.unmap(engine, _given(client))


@contextmanager
def _ledger(url: str | None) -> Iterator[Engine]:
    """The ledger's engine; what goes wrong on the way is said in words."""
    settings = Settings.load()
    with opened(settings, ledger=not url) as outside:
        address = database_url(url or outside.ledger_url)
        engine = sql_engine(address)
        try:
            with speaking_to("ledger", address, "PASSBOOK_LEDGER_URL"):
                yield engine
        except ProgrammingError as error:
            raise Refused(
                f"The ledger at {shown(address)} lacks tables or columns of Fineract, or the right to use them.",
                remedy="Create them with `passbook sample-ledger fill`, without --no-create-schema.",
            ) from error
        except DBAPIError as error:
            raise Refused(
                f"The ledger at {shown(address)} refused what was asked: {type(error.orig).__name__}.",
                remedy="It may hold rows of its own that collide with the sample; use an empty database.",
            ) from error
        finally:
            engine.dispose()


def _write_images(engine: Engine, directory: Path) -> int:
    try:
        return write_images(engine, directory)
    except OSError as error:
        raise Refused(
            f"The photos cannot be written below {directory}: {error.strerror}.",
            remedy="Give a directory that may be written to.",
        ) from error


def _given(value: int | None, option: str = "--client") -> int:
    if value is None:
        raise Refused(f"This needs {option}.")
    return value


def _amount(value: str | None) -> Decimal:
    try:
        amount = Decimal(value or "")
    except InvalidOperation:
        raise Refused("This needs --amount, a number like 250.50.") from None
    if not amount.is_finite():
        raise Refused("This needs --amount, a number like 250.50.")
    return amount
