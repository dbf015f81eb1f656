"""The one tree of errors, split by what the caller can do about them.

    PassbookError
    ├── Refused         the request or setting is wrong; repeating it changes nothing      exit 2
    │   ├── NotFound           there is no such person, device, administrator …
    │   ├── Conflict           it contradicts what is there: a name taken, a limit reached
    │   ├── Stale              it was changed by somebody else since the caller looked
    │   ├── NotAuthenticated   who asks is not known, or no longer
    │   ├── NotPermitted       who asks is known, and may not do this
    │   └── LedgerUnsuitable   the ledger lacks a table or column that Passbook must have
    ├── Unavailable     something outside does not answer; the same call may work later    exit 3
    │   ├── TooMany            too many requests; `retry_after` says when to come again
    │   ├── OlderDatabase      the service database was restored from a back-up, and nobody has seen to it yet
    │   ├── WitnessLost        the witness of the audit log is gone from CouchDB
    │   ├── NotWitnessed       nobody has compared the service database with its witness
    │   └── PortBusy           an address that should be served is taken
    └── CheckFailed     the command did its work and the answer is "no"                    exit 1

The docstring of a class is its default message. `remedy` is the sentence that says what to do next; the
command line prints it on a line of its own. No error carries a secret: URLs are stripped of credentials.
"""

from __future__ import annotations

EXIT_CHECK_FAILED = 1
EXIT_REFUSED = 2
EXIT_UNAVAILABLE = 3


class PassbookError(Exception):
    """Something went wrong."""

    exit_code = EXIT_REFUSED
    code = "error"

    def __init__(self, message: str | None = None, *, remedy: str = "", code: str = "") -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.remedy = remedy
        self.code = code or type(self).code
        super().__init__(self.message)


class Refused(PassbookError):
    """This was asked for in a way that cannot be done."""

    code = "refused"


class NotFound(Refused):
    """There is no such thing."""

    code = "not_found"


class Conflict(Refused):
    """This contradicts what is there."""

    code = "conflict"


class Stale(Refused):
    """Somebody else changed this since you looked at it."""

    code = "stale"


class NotAuthenticated(Refused):
    """Name or password is incorrect."""

    code = "unknown"
    #: Why access that was there has ended, where whoever asks may know.
    because: str | None = None


class NotPermitted(Refused):
    """You may not do this."""

    code = "not_permitted"


class LedgerUnsuitable(Refused):
    """The ledger lacks a table or column that Passbook must have."""

    code = "ledger_unsuitable"


class Unavailable(PassbookError):
    """Something that Passbook depends on does not answer."""

    exit_code = EXIT_UNAVAILABLE
    code = "unavailable"


class TooMany(Unavailable):
    """Too many requests; wait a little."""

    code = "too_many_requests"

    def __init__(
        self, message: str | None = None, *, retry_after: int, limit: str = "", began: bool = False
    ) -> None:
        super().__init__(message)
        #: Seconds, at least 1.
        self.retry_after = retry_after
        #: Which limit it was: `account`, `address`, `everybody` or `capacity`.
        self.limit = limit
        #: Whether this is the first refusal of this wait.
        self.began = began


class OlderDatabase(Unavailable):
    """The service database is older than what Passbook knows of it: it was restored from a back-up."""

    code = "older_database"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message,
            remedy="Whoever was revoked, suspended or erased since would be in again. If it was restored on "
            "purpose, run `passbook restored`; docs/restore.md says how.",
        )


class WitnessLost(Unavailable):
    """The witness of the audit log, which this service database had, is not in CouchDB any more."""

    code = "witness_lost"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message,
            remedy="If CouchDB alone was lost, run `passbook witness renew`. If the service database was restored "
            "too, run `passbook restored`.",
        )


class NotWitnessed(Unavailable):
    """Nobody has compared this service database with its witness in CouchDB lately."""

    code = "not_witnessed"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message,
            remedy="A worker or the administrators' side of the auth service does so while it runs, and "
            "`passbook init` once: start one of them.",
        )


class PortBusy(Unavailable):
    """The port is taken by another program."""

    code = "port_busy"


class CheckFailed(PassbookError):
    """The check failed."""

    exit_code = EXIT_CHECK_FAILED
    code = "check_failed"
