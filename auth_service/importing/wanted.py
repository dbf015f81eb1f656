"""What an import is given (people as a list has them) and what comes out of it (an outcome per entry)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from auth_service.scopes import Window

#: What can become of an entry. `skipped`: the list itself says that this one is not to come in.
OUTCOMES = ("created", "changed", "unchanged", "skipped", "refused")

#: How much of a user name that cannot be one is shown.
_SHOWN = 100


@dataclass(frozen=True)
class Wanted:
    """A person as a list has them. What is None the list does not say: it is neither compared nor changed."""

    #: Where it stands in the list: a line of a file, an id in the ledger.
    number: int
    username: str
    kind: str | None = None
    #: The kind of somebody new, when the list does not say.
    new_kind: str = "customer"
    clients: Sequence[int] | None = None
    permissions: Sequence[str] | None = None
    window: Window | None = None
    #: For somebody new alone; nobody's password is changed by an import.
    password: str | None = field(default=None, repr=False)
    #: Why this entry cannot be read, or must not come in.
    refused: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of an entry, and why."""

    number: int
    username: str
    outcome: str
    reason: str = ""
    #: The person's id; empty when there is none, as in a dry run.
    person: str = ""
    #: Whether somebody new has a password with which to sign in.
    can_sign_in: bool = False


@dataclass(frozen=True)
class Report:
    """The outcomes of an import, in the order of the list."""

    outcomes: list[Outcome]
    #: What the entries' numbers are: `line`, `ledger user`.
    place: str
    dry_run: bool

    @property
    def counts(self) -> dict[str, int]:
        """How many entries had each outcome."""
        counted = Counter(one.outcome for one in self.outcomes)
        return {outcome: counted[outcome] for outcome in OUTCOMES}

    @property
    def without_password(self) -> int:
        """New people who cannot sign in until their password is reset."""
        return sum(one.outcome == "created" and not one.can_sign_in for one in self.outcomes)

    def only(self, outcomes: Collection[str]) -> list[Outcome]:
        """The entries with one of these outcomes."""
        return [one for one in self.outcomes if one.outcome in outcomes]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        rows = [
            {
                self.place.replace(" ", "_"): one.number,
                "username": one.username,
                "outcome": one.outcome,
                "reason": one.reason,
                "person": one.person,
            }
            for one in self.outcomes
        ]
        return {
            "dry_run": self.dry_run,
            **self.counts,
            "created_without_password": self.without_password,
            "rows": rows,
        }


def shown(username: str) -> str:
    """A user name as it may stand in a report, even one that is none: no control characters, not endless."""
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in username)
    return clean if len(clean) <= _SHOWN else f"{clean[:_SHOWN]}…"
