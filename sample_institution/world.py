"""What all stories share: the institution's ids, today's date, and decks that make rare things come up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Generic, TypeVar

from sample_institution.canaries import canary
from sample_institution.desk import Counter, HistoryDesk, stamps
from sample_institution.products import BRANCHES, Branch
from sample_institution.rows import Row
from sample_institution.rows.clients import ClientRow, NoteRow, PaymentDetailRow
from sample_institution.setup import Setup

CardT = TypeVar("CardT")


class Deck(Generic[CardT]):
    """Cards drawn without replacement, shuffled anew when all are drawn: each comes up in every round."""

    def __init__(self, random: Random, cards: Sequence[CardT]) -> None:
        self._random = random
        self._cards = list(cards)
        self._left: list[CardT] = []

    def draw(self) -> CardT:
        """The next card."""
        if not self._left:
            self._left = list(self._cards)
            self._random.shuffle(self._left)
        return self._left.pop()


@dataclass
class World:
    """The institution while its history is being told."""

    setup: Setup
    ids: Counter
    random: Random
    rows: list[Row] = field(default_factory=list)  # written with the next chunk, apart from accounts

    @property
    def today(self) -> date:
        """The business date of the sample."""
        return self.setup.today

    def desk(self, role: int = 0) -> HistoryDesk:
        """Somebody to book with: 0 teller, 1 officer, 2 approver, 3 manager, 4 nightly jobs."""
        return HistoryDesk(self.ids, self.setup.users[role])

    def user(self, role: int) -> int:
        """The user id of a role; see `desk`."""
        return self.setup.users[role]

    def officer(self, branch: Branch) -> int:
        """A loan officer of the branch."""
        return self.random.choice(self.setup.staff[branch.name][1:])

    def code(self, name: str) -> int:
        """A random value of a code list."""
        return self.random.choice(self.setup.codes[name])

    def days(self, least: int, most: int) -> timedelta:
        """A random number of days."""
        return timedelta(days=self.random.randint(least, most))

    def payment(self, *, receipt: str) -> PaymentDetailRow:
        """How somebody paid."""
        kind = self.random.randrange(len(self.setup.payment_types))
        number = self.ids.new(PaymentDetailRow.table)
        return PaymentDetailRow(
            id=number,
            payment_type_id=self.setup.payment_types[kind],
            account_number=f"07{number % 10**8:08d}" if kind in (1, 2) else None,
            check_number=f"{number % 10**6:06d}" if kind == 3 else None,
            receipt_number=f"{receipt}{number:07d}",
            bank_number=f"BANK{number % 9 + 1}" if kind in (2, 3) else None,
        )

    def note(self, kind: int, on: date, **about: int) -> None:
        """A staff note: 100 client, 200 loan, 300 loan transaction, 500 savings, 800 savings transaction."""
        number = self.ids.new(NoteRow.table)
        self.rows.append(
            NoteRow(
                id=number,
                note_type_enum=kind,
                note=f"{canary('note', number)} do not lend again before the visit",
                **about,
                **stamps(self.desk(1), on),
            )
        )


def branch_of(number: int) -> Branch:
    """Clients are dealt to the branches in turn."""
    return BRANCHES[number % len(BRANCHES)]


__all__ = ["BRANCHES", "Branch", "ClientRow", "Deck", "World", "branch_of"]
