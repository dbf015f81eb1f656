"""What worker, verifier and rebuilder have in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from passbook.couch import CouchClient
from passbook.servicedb.engine import ServiceDatabase
from passbook.settings import Settings
from sync_worker.ledger.reader import LedgerReader
from sync_worker.writer import Writer


@dataclass(frozen=True)
class Parts:
    """The settings, and the three servers between which everything happens."""

    settings: Settings
    reader: LedgerReader
    couch: CouchClient
    database: ServiceDatabase

    @property
    def writer(self) -> Writer:
        """A writer on these servers. It keeps nothing, so one is as good as another."""
        return Writer(
            self.couch,
            self.database,
            most_documents=self.settings.couchdb_bulk_documents,
            most_bytes=self.settings.couchdb_bulk_bytes,
        )

    def today(self) -> date:
        """The institution's day: decides where a rolling history window begins."""
        return datetime.now(self.settings.tenant_timezone).date()
