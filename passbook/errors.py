"""The one tree of errors, split by what the caller can do about them.

    PassbookError
    ├── Refused         the request or setting is wrong; repeating it changes nothing      exit 2
    │   └── LedgerUnsuitable   the ledger lacks a table or column that Passbook must have
    ├── Unavailable     something outside does not answer; the same call may work later    exit 3
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

    def __init__(self, message: str | None = None, *, remedy: str = "") -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.remedy = remedy
        super().__init__(self.message)


class Refused(PassbookError):
    """This was asked for in a way that cannot be done."""

    code = "refused"


class LedgerUnsuitable(Refused):
    """The ledger lacks a table or column that Passbook must have."""

    code = "ledger_unsuitable"


class Unavailable(PassbookError):
    """Something that Passbook depends on does not answer."""

    exit_code = EXIT_UNAVAILABLE
    code = "unavailable"


class PortBusy(Unavailable):
    """The port is taken by another program."""

    code = "port_busy"


class CheckFailed(PassbookError):
    """The check failed."""

    exit_code = EXIT_CHECK_FAILED
    code = "check_failed"
