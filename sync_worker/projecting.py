"""Projecting a batch of clients, each once per history window, with every failure kept to its own client."""

from __future__ import annotations

from datetime import date

import structlog

from passbook.scope import Scope
from projections.clients import display_name
from projections.context import Context
from projections.garbage import BadValue
from projections.project import Projected, project, visible
from sync_worker.ledger.reader import Batch, Failure

log = structlog.get_logger()

#: CouchDB refuses documents of 8 MB, and with one of them the whole write.
LARGEST_DOCUMENT_BYTES = 4_000_000


class BatchProjection:
    """The documents of a batch of clients, made when first asked for."""

    def __init__(self, batch: Batch, context: Context) -> None:
        self._aggregates = {aggregate.client.id: aggregate for aggregate in batch.aggregates}
        self._context = context
        self.as_of = batch.as_of
        self._made: dict[tuple[int, date | None], list[Projected]] = {}
        self.failures: dict[int, Failure] = {failure.client_id: failure for failure in batch.failures}
        for client_id in batch.absent:
            detail = f"client {client_id} is not in the ledger"
            self.failures[client_id] = Failure(client_id, "client_unknown", detail)

    def usable(self, client_id: int) -> bool:
        """Whether the client's documents are known now. A client the ledger lacks has none, for certain."""
        failure = self.failures.get(client_id)
        return failure is None or failure.code == "client_unknown"

    def name(self, client_id: int) -> str | None:
        """Name of a client who is to be in the manifest, None for one who is not."""
        aggregate = self._aggregates.get(client_id)
        return display_name(aggregate.client) if aggregate and visible(aggregate) else None

    def documents(self, client_id: int, scope: Scope) -> list[Projected]:
        """What a person of this scope gets of this client; nothing for a client that failed or is not there."""
        return [
            document for document in self._all(client_id, scope.since) if scope.allows(client_id, document.type)
        ]

    def _all(self, client_id: int, since: date | None) -> list[Projected]:
        key = (client_id, since)
        if key not in self._made:
            self._made[key] = self._project(client_id, since)
        return self._made[key]

    def _project(self, client_id: int, since: date | None) -> list[Projected]:
        aggregate = self._aggregates.get(client_id)
        if aggregate is None or client_id in self.failures:
            return []
        try:
            documents = project(aggregate, since, self._context)
        except BadValue as error:
            self.failures[client_id] = Failure(client_id, "ledger_value", str(error))
            return []
        except Exception as error:
            # A defect of ours in the face of data we did not think of must not hold up everybody else.
            log.exception("projection failed", client=client_id)
            self.failures[client_id] = Failure(client_id, "projection_error", type(error).__name__)
            return []
        for document in documents:
            if len(document.body) > LARGEST_DOCUMENT_BYTES:
                detail = f"{document.id} would have {len(document.body)} bytes"
                self.failures[client_id] = Failure(client_id, "document_too_large", detail)
                return []
        return documents
