"""What is raised when a ledger row cannot be believed."""

from __future__ import annotations


class BadValue(ValueError):
    """A value in the ledger cannot be right; the client it belongs to is left as it is on the devices.

    `where` names table and row, `problem` what is wrong. Neither repeats the value of a text or an amount: it
    may be confidential, and this ends up in logs.
    """

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem
        super().__init__(f"{where}: {problem}")
