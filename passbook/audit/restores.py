"""What is recorded when the service database was restored from a back-up, or its witness lost."""

from __future__ import annotations

from dataclasses import dataclass

from passbook.audit.events import Event


@dataclass(frozen=True, kw_only=True)
class OlderDatabaseFound(Event):
    """The service database was found to lack a row that its audit log had: access was switched off."""

    #: The row, ID:HASH.
    lacks: str


@dataclass(frozen=True, kw_only=True)
class ServiceDatabaseRestored(Event):
    """The service database was restored from a back-up; the rows in between are lost. Numbers go on after them."""

    #: The last row that both logs are known to have.
    common: int
    #: The last row of the log that was lost, as far as anybody knew; 0 if nobody did.
    until: int
    #: That row as ID:HASH, or empty.
    anchor: str
    #: The row before this one in this log.
    follows: int


@dataclass(frozen=True, kw_only=True)
class WitnessRenewed(Event):
    """The witness of the audit log, which was lost, was made anew."""
