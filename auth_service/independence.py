"""Whether two administrators are two people.

Whoever makes an administrator, resets their password, gives them a role or lets them in again may know how to sign
in as them. For some days they may therefore be one person with two accounts: neither approves what the other asked
for, and what both do is counted together. That goes on through any number of accounts. Where a second administrator
approved the making, either of the two may have been handed the access, so it holds for both, while the two stay
independent of each other.

What is known of it is in the audit log, which nobody can change. What the operator does at the command line makes
nobody dependent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import resources

from sqlalchemy import Connection, select, text

from passbook.servicedb.tables import administrator


@dataclass(frozen=True)
class Tie:
    """`maker` made `made`, reset their password, gave them a role, or let them in again."""

    maker: str
    made: str
    at: datetime


def ties(connection: Connection, since: datetime) -> list[Tie]:
    """Who had another administrator in hand since then."""
    statement = (resources.files("auth_service") / "sql" / "ties.sql").read_text("utf-8")
    return [Tie(row.maker, row.made, row.at) for row in connection.execute(text(statement), {"since": since})]


def holders(account: str, known: Iterable[Tie]) -> set[str]:
    """Who may be behind an account: itself, and whoever had it in hand, through any number of steps."""
    found, waiting = {account}, [account]
    makers: dict[str, set[str]] = {}
    for tie in known:
        makers.setdefault(tie.made, set()).add(tie.maker)
    while waiting:
        new = makers.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def independent(one: str, other: str, known: Collection[Tie]) -> bool:
    """Whether nobody can be behind both accounts."""
    return holders(one, known).isdisjoint(holders(other, known))


def independent_from(one: str, other: str, known: Collection[Tie], lasts: timedelta) -> datetime | None:
    """From when on the two are independent if nothing more happens; None where they never are: one account."""
    for tie in sorted(known, key=lambda tie: tie.at):
        if independent(one, other, [later for later in known if later.at > tie.at]):
            return tie.at + lasts
    return None


def hand(connection: Connection, account: str, known: Collection[Tie]) -> list[str]:
    """All accounts behind which the same person may be as behind this one; itself among them."""
    everybody = connection.execute(select(administrator.c.id)).scalars()
    mine = holders(account, known)
    return [one for one in everybody if one == account or not holders(one, known).isdisjoint(mine)]
