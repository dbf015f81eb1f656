"""How much an administrator does alone: counted by the hour, for all accounts that may be one person's.

The count is in the service database, in the transaction of what it counts, and one is looked at at a time: forty at
once are counted as forty. It belongs to administrators, so signing out and in again changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select

from auth_service import independence
from auth_service.independence import Tie
from auth_service.sensitivity import CLIENTS, Act, Approver, hourly
from passbook.errors import NotPermitted, TooMany
from passbook.servicedb.tables import administrator_act
from passbook.settings import Settings

HOUR = timedelta(hours=1)
#: Rows of the count make no difference after an hour; they stay for a day, for whoever looks.
_KEPT = timedelta(days=1)
#: Key of the advisory lock under which acts are counted. Taken before any row is locked.
_COUNT_LOCK = 0x70617362


@dataclass(frozen=True)
class Measure:
    """How much one act is."""

    #: Of how many things: devices of a list, else 1. None at all for what is so already.
    things: int = 1
    #: How many clients it opens to somebody.
    opens: int = 0
    #: To how many clients that person has access then.
    clients: int = 0


class TooMuch(NotPermitted):
    """More at once than an administrator may do in an hour alone."""

    code = "too_much_at_once"


class OverBound(TooMany):
    """More than an administrator may do in an hour alone."""

    code = "hourly_bound"


@dataclass(frozen=True)
class Bounds:
    """What the institution has settled about acts of administrators."""

    second_approver: bool
    #: The most clients that one administrator opens alone: to one person, and in an hour.
    clients_alone: int
    #: For how long an administrator depends on whoever made, reset or promoted them.
    dependent: timedelta
    hourly: Mapping[str, int | None]

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """As the settings have it. Raises `Refused` for numbers that cannot be."""
        return cls(
            settings.second_approver,
            settings.clients_alone,
            timedelta(days=settings.administrator_dependent_days),
            hourly(settings.hourly_acts),
        )

    def alone(self, connection: Connection, account: str, act: Act, measure: Measure) -> bool:
        """Count an act that an administrator may do alone: True, as for one that changes nothing.

        False, and not counted, if a second must agree. Where no second one is wanted, what is over the bound raises
        `OverBound` (wait), or `TooMuch` if it would be too much at any time. `lock` must be held.
        """
        if not measure.things:
            return True
        if self.second_approver and act.approver is Approver.ALWAYS:
            return False
        if self.second_approver and act.approver is Approver.CLIENTS and measure.clients > self.clients_alone:
            return False
        pools = list(self._pools(act, measure))
        if not pools:
            return True
        now = connection.execute(select(func.clock_timestamp())).scalar_one()
        one_hand = independence.hand(connection, account, self.ties(connection, now))
        for pool, amount, most in pools:
            wait = _wait(connection, one_hand, pool, amount, most, now)
            if wait is None:
                continue
            if self.second_approver:
                return False
            raise _refusal(act, pool, most, wait)
        connection.execute(
            insert(administrator_act),
            [{"administrator_id": account, "act": pool, "amount": amount} for pool, amount, _ in pools],
        )
        return True

    def ties(self, connection: Connection, at: datetime) -> list[Tie]:
        """Who depended on whom at that time, and what came since."""
        return independence.ties(connection, at - self.dependent)

    def _pools(self, act: Act, measure: Measure) -> Iterator[tuple[str, int, int]]:
        """Under which names an act is counted, how much it is, and the most of it in an hour."""
        most = self.hourly[act.name]
        if most is not None:
            yield act.pool, measure.things, most
        if measure.opens:
            yield CLIENTS, measure.opens, self.clients_alone


def lock(connection: Connection) -> None:
    """Be the only one who counts until the transaction ends. Before any row is locked."""
    connection.execute(select(func.pg_advisory_xact_lock(_COUNT_LOCK)))


def sweep(connection: Connection) -> None:
    """Throw away what makes no difference any more."""
    connection.execute(delete(administrator_act).where(administrator_act.c.at < func.now() - _KEPT))


def _wait(
    connection: Connection, accounts: list[str], pool: str, amount: int, most: int, now: datetime
) -> timedelta | None:
    """How long until so much more is within the bound: None for now, without end (`timedelta.max`) if never."""
    done = connection.execute(
        select(administrator_act.c.at, administrator_act.c.amount)
        .where(
            administrator_act.c.administrator_id.in_(accounts),
            administrator_act.c.act == pool,
            administrator_act.c.at > now - HOUR,
        )
        .order_by(administrator_act.c.at)
    ).all()
    over = sum(row.amount for row in done) + amount - most
    if over <= 0:
        return None
    for row in done:
        over -= row.amount
        if over <= 0:
            free_at: datetime = row.at + HOUR
            return max(timedelta(seconds=1), free_at - now)
    return timedelta.max


def _refusal(act: Act, pool: str, most: int, wait: timedelta) -> OverBound | TooMuch:
    what = f"open {most:,} clients to people" if pool == CLIENTS else f"{act.does} {most:,} times"
    bound = f"One administrator can {what} in an hour."
    more = (
        "For more, a second administrator must agree (PASSBOOK_SECOND_APPROVER), or the operator does it at the "
        "command line."
    )
    if wait == timedelta.max:
        return TooMuch(f"{bound} Do it in parts. {more}")
    seconds = math.ceil(wait.total_seconds())
    return OverBound(f"{bound} Try again in {seconds} seconds. {more}", retry_after=seconds, limit="hourly")
