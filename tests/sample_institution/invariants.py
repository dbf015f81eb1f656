"""What must hold in a ledger after any fill and any moves, computed anew from the rows alone.

Nothing here shares code with the generator: the rules are those by which Fineract derives its columns.
"""

from __future__ import annotations

from sqlalchemy import Engine

from tests.sample_institution.loan_invariants import loans
from tests.sample_institution.rules import Ledger
from tests.sample_institution.savings_invariants import client_charges, savings, stamps


def violations(engine: Engine) -> list[str]:
    """Every broken rule, in words; empty for a sound ledger."""
    ledger = Ledger(engine)
    return [*loans(ledger), *savings(ledger), *client_charges(ledger), *stamps(ledger)]
