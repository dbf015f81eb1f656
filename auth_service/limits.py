"""What slows down those who guess passwords: waits that grow and end, never a lock-out.

Counted in the service database, so that all processes count together:

* an account at a place (address prefix): 5 failures are free, then waits of 1, 2, 4 … 60 s;
* an account over all places where its owner has not signed in before: 20 are free, then waits up to 60 s;
* a place: a bucket of attempts, wide enough for the many who share an address;
* everybody: a bucket of attempts, so that a flood meets a wall before it meets the hashing.

Whoever signs in where they have signed in before is *familiar* there and feels the first rule alone: nobody can
keep others out of where they usually are. They have a bucket of attempts of their own: with the right password too,
nobody signs in without end. A name that nobody has is counted like any other. Failures are half forgotten after a
quarter of an hour.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from threading import Lock
from typing import Any, Literal

from sqlalchemy import Connection, TextClause, delete, text

from passbook.errors import TooMany
from passbook.servicedb.tables import familiar_place
from passbook.settings import Settings

Audience = Literal["passbook", "passbook-admin"]
#: The rule that refused, as the audit log names it.
Limit = Literal["account", "address", "everybody"]

PAIR_FREE = 5
ACCOUNT_FREE = 20
#: Seconds: no wait of an account is longer.
LONGEST_WAIT = 60
#: Seconds after which a failure counts half.
HALF_LIFE = 900
FAMILIAR_DAYS = 90
FAMILIAR_PLACES = 20
#: Attempts, right or wrong, that one familiar person may make at one place: at once, and a second.
FAMILIAR_BURST = 60
FAMILIAR_RATE = 1.0
#: Seconds in which refusals of one bucket are told to the audit log once.
_TOLD_ONCE = 60

#: What cannot be read as an address: all of it is one place, at which nobody is familiar.
UNKNOWN_PLACE = "unknown"
#: The rules of the statement, as others call them.
_LIMITS: dict[str, Limit] = {
    "pair": "account",
    "account": "account",
    "habit": "account",
    "address": "address",
    "everybody": "everybody",
}
#: The key of an account with this appended sorts behind all keys that begin with it (34 bytes more at most).
_BEHIND = b"\xff" * 35
_EVERYBODY = hashlib.sha256(b"passbook everybody").digest()

#: Seconds for which a process remembers a refusal, and who was a stranger, without asking the database again.
_REMEMBER_WALL = 1.0
_REMEMBER_STRANGER = 10.0
_REMEMBERED = 10_000


def prefix_of(address: str) -> str:
    """The place of an address: its /24 (IPv4) or /48 (IPv6), for example `203.0.113.0/24`.

    Whoever has one IPv6 address usually has a whole prefix of them. An IPv4 address written as IPv6 is IPv4; what
    is no address is the place `unknown`.
    """
    try:
        found = ipaddress.ip_address(address.strip())
    except ValueError:
        return UNKNOWN_PLACE
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    bits = 24 if found.version == 4 else 48
    # Without the zone (`%eth0`), which is a matter of this machine.
    return str(ipaddress.ip_network((int(found).to_bytes(found.max_prefixlen // 8, "big"), bits), strict=False))


@dataclass(frozen=True)
class Attempt:
    """Somebody wants to sign in: the keys under which it is counted."""

    account: bytes
    place: bytes
    #: Whether the address could be read: without, nobody can be familiar.
    located: bool

    @classmethod
    def of(cls, audience: Audience, name: str, address: str) -> Attempt:
        """The attempt with a user name as typed, from an address."""
        prefix = prefix_of(address)
        return cls(account_key(audience, name), _digest("place", prefix), prefix != UNKNOWN_PLACE)

    @property
    def pair(self) -> bytes:
        """The account at this place."""
        return self.account + self.place

    @property
    def habit(self) -> bytes:
        """All attempts of somebody familiar, also those that turned out well."""
        return self.pair + b"~"


@dataclass(frozen=True)
class Admission:
    """What was decided about an attempt. `refusal` is to be raised after the transaction, which notes it."""

    familiar: bool
    refusal: TooMany | None
    #: Keys of the failures counted in advance.
    reserved: tuple[bytes, ...] = ()


def account_key(audience: Audience, name: str) -> bytes:
    """The digest under which a user name is counted, however it is written, and whether anybody has it or not."""
    # Spellings that the search for the person takes for one name must never be two accounts here. PostgreSQL's
    # lower() makes İ an i, Python's an i with a dot more.
    lower = unicodedata.normalize("NFKC", name).replace("\u0130", "i").lower()
    return _digest(f"account {audience}", unicodedata.normalize("NFKC", lower.casefold()).strip())


class Limits:
    """The rules. One for a process; safe among threads.

    Bursts are attempts, rates attempts a second. `clock` gives the time instead of the database, for tests.
    """

    def __init__(
        self,
        *,
        address_burst: int = 100,
        address_rate: float = 5.0,
        everybody_rate: float = 100.0,
        clock: Callable[[], datetime] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        everybody_burst = max(1.0, 2 * everybody_rate)
        self._clock = clock
        self._monotonic = monotonic
        self._memory = _Memory()
        self._rules: dict[str, Any] = {
            "pair_free": float(PAIR_FREE),
            "account_free": float(ACCOUNT_FREE),
            "longest": float(LONGEST_WAIT),
            "half_life": float(HALF_LIFE),
            "told": float(_TOLD_ONCE),
            "familiar_days": FAMILIAR_DAYS,
            "habit_burst": float(FAMILIAR_BURST),
            "habit_rate": FAMILIAR_RATE,
            "everybody": _EVERYBODY,
            "address_burst": float(address_burst),
            "address_rate": float(address_rate),
            "everybody_burst": everybody_burst,
            "everybody_rate": float(everybody_rate),
        }
        #: Seconds after which a bucket is empty and every wait is over.
        self._settled = max(
            LONGEST_WAIT,
            _TOLD_ONCE,
            FAMILIAR_BURST / FAMILIAR_RATE,
            address_burst / address_rate,
            everybody_burst / everybody_rate,
        )

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the settings have it."""
        return cls(
            address_burst=settings.sign_in_address_burst,
            address_rate=settings.sign_in_address_per_second,
            everybody_rate=settings.sign_in_per_second,
        )

    def recall(self, attempt: Attempt, *, place_alone: bool = False) -> None:
        """Raise `TooMany` for what the database refused just now: it is not asked again.

        With `place_alone` only for what comes from this place, and for what is too much altogether.

        Takes no time, and belongs before anything that does. Knows no more than the database said, for at most a
        second of the wait; a place or everybody being full holds up those alone who were found strangers.
        """
        remembered = self._memory.refusal(attempt, self._monotonic(), place_alone=place_alone)
        if remembered is not None:
            limit, wait = remembered
            raise _too_many(limit, wait, began=False)

    def admit(self, connection: Connection, attempt: Attempt, principal: str | None) -> Admission:
        """Decide about an attempt, in one round trip, and count it as a failure in advance.

        `principal` is the id of who has that name, if anybody. Raises nothing for a refusal: it is in the answer,
        so that the transaction is kept. End the transaction at once, before any password is hashed: others wait
        for these rows.
        """
        for _ in range(3):
            began_at = self._monotonic()
            found = connection.execute(_statement("admit_attempt"), self._bound(attempt, principal)).one()
            if found.refused_by is not None:
                self._memory.refused(attempt, found, began_at)
                return Admission(
                    found.familiar, _too_many(_LIMITS[found.refused_by], found.wait, began=found.began)
                )
            if len(found.charged) == found.wanted:
                if not found.familiar:
                    self._memory.met(attempt, began_at)
                reserved = tuple(key for key in found.charged if key in (attempt.pair, attempt.account))
                return Admission(found.familiar, None, reserved)
            # Another process took the last place between the look and the lock: look again, now that it is locked.
            self._give_back(connection, attempt, found.charged, undo=True)
        return Admission(found.familiar, _too_many("account", 1, began=False))

    def withdraw(self, connection: Connection, attempt: Attempt, admission: Admission) -> None:
        """Give an attempt back whose password nobody looked at (no capacity, no database)."""
        self._give_back(connection, attempt, admission.reserved, undo=False)

    def succeeded(self, connection: Connection, attempt: Attempt, admission: Admission, principal: str) -> None:
        """The password was right: nothing is held against this pair, and `principal` is familiar here for 90 days.

        A failure needs no call: it was counted when the attempt was admitted.
        """
        others = [key for key in admission.reserved if key != attempt.pair]
        self._give_back(connection, attempt, others, undo=False)
        connection.execute(_statement("clear_attempts"), {"pair": attempt.pair})
        if attempt.located:
            connection.execute(
                _statement("remember_place"),
                {
                    "principal": principal,
                    "place": attempt.place,
                    "others": FAMILIAR_PLACES - 1,
                    "at": self._now(),
                },
            )
        self._memory.forget(attempt)

    def forget(self, connection: Connection, audience: Audience, name: str, principal: str) -> None:
        """Erase what is kept about somebody: where they signed in, and how often it failed."""
        account = account_key(audience, name)
        connection.execute(_statement("forget_account"), {"account": account, "after": account + _BEHIND})
        self.forget_places(connection, principal)

    def forget_places(self, connection: Connection, principal: str) -> None:
        """Make somebody a stranger everywhere: for when their password was known to another."""
        connection.execute(delete(familiar_place).where(familiar_place.c.principal == principal))

    def sweep(self, connection: Connection) -> int:
        """Delete what makes no difference any more; how many rows. Once in some minutes is enough."""
        at = self._now()
        counters = connection.execute(
            _statement("sweep_counters"), {"at": at, "settled": self._settled, "half_life": float(HALF_LIFE)}
        )
        places = connection.execute(_statement("sweep_places"), {"at": at, "familiar_days": FAMILIAR_DAYS})
        return counters.rowcount + places.rowcount

    def _bound(self, attempt: Attempt, principal: str | None) -> dict[str, Any]:
        return {
            **self._rules,
            "at": self._now(),
            "principal": principal if attempt.located else None,
            "place": attempt.place,
            "pair": attempt.pair,
            "account": attempt.account,
            "habit": attempt.habit,
            "address": _digest("address", attempt.place),
        }

    def _give_back(self, connection: Connection, attempt: Attempt, buckets: Sequence[bytes], *, undo: bool) -> None:
        if buckets:
            connection.execute(
                _statement("give_back_attempt"),
                {
                    "buckets": list(buckets),
                    "undo": undo,
                    "account": attempt.account,
                    "account_free": float(ACCOUNT_FREE),
                    "pair_free": float(PAIR_FREE),
                },
            )

    def _now(self) -> datetime | None:
        return self._clock() if self._clock else None


class _Memory:
    """What this process was told a moment ago; bounded, the oldest goes first."""

    def __init__(self) -> None:
        self._lock = Lock()
        #: Until when, on the monotonic clock, a bucket is full.
        self._walls: dict[bytes, tuple[float, Limit]] = {}
        #: Until when a pair is taken for unfamiliar.
        self._strangers: dict[bytes, float] = {}

    def refusal(self, attempt: Attempt, now: float, *, place_alone: bool = False) -> tuple[Limit, float] | None:
        """Which limit refuses it and for how many seconds, or None when the database must be asked."""
        with self._lock:
            keys = [] if place_alone else [attempt.pair]
            if self._strangers.get(attempt.pair, now) > now:
                keys += [attempt.place, _EVERYBODY]
                keys += [] if place_alone else [attempt.account]
            standing = [wall for key in keys if (wall := self._walls.get(key)) and wall[0] > now]
            if not standing:
                return None
            until, limit = max(standing)
            return limit, until - now

    def refused(self, attempt: Attempt, found: Any, now: float) -> None:
        """Remember an answer of the database, asked at `now`: before it answered, so nothing lasts too long."""
        keys = {"account": attempt.account, "address": attempt.place, "everybody": _EVERYBODY}
        key = keys.get(found.refused_by, attempt.pair)
        until = now + min(found.wait, _REMEMBER_WALL)
        with self._lock:
            _keep(self._walls, key, (until, _LIMITS[found.refused_by]))
        if not found.familiar:
            self.met(attempt, now)

    def met(self, attempt: Attempt, now: float) -> None:
        """It is a stranger's."""
        with self._lock:
            _keep(self._strangers, attempt.pair, now + _REMEMBER_STRANGER)

    def forget(self, attempt: Attempt) -> None:
        """Ask the database again about this pair."""
        with self._lock:
            self._strangers.pop(attempt.pair, None)
            self._walls.pop(attempt.pair, None)

    def __len__(self) -> int:
        return max(len(self._walls), len(self._strangers))


def _keep(entries: dict[bytes, Any], key: bytes, value: Any) -> None:
    entries.pop(key, None)
    while len(entries) >= _REMEMBERED:
        del entries[next(iter(entries))]
    entries[key] = value


def _too_many(limit: Limit, wait: float, *, began: bool) -> TooMany:
    seconds = max(1, math.ceil(wait))
    unit = "second" if seconds == 1 else "seconds"
    return TooMany(
        f"Too many attempts to sign in; try again in {seconds} {unit}.",
        retry_after=seconds,
        limit=limit,
        began=began,
    )


def _digest(kind: str, value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return hashlib.sha256(f"passbook {kind}\0".encode() + raw).digest()


_STATEMENTS: dict[str, TextClause] = {}


def _statement(name: str) -> TextClause:
    if name not in _STATEMENTS:
        _STATEMENTS[name] = text((resources.files("auth_service") / "sql" / f"{name}.sql").read_text("utf-8"))
    return _STATEMENTS[name]
