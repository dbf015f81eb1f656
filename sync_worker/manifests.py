"""The manifest of a database: what it holds, as of when. Built from what the pass saw, applied last."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime

from passbook.freshness import in_words
from passbook.scope import PERMISSIONS
from passbook.settings import Settings
from projections import canonical
from projections.documents import MANIFEST_SCHEMA, BusinessDate, ClientInScope, Institution, Passbook
from projections.project import Projected
from sync_worker.scopes import Holder
from sync_worker.state import MANIFEST, OLD_MANIFEST, Copies


@dataclass
class Contents:
    """What a pass found of one person: names of the clients in scope, documents by type."""

    names: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    #: Clients that could not be read or projected: what is known of them stays as it was.
    failed: set[int] = field(default_factory=set)
    #: How many clients are not in it although they should be: those that failed, and those the ledger lacks.
    left_out: int = 0


@dataclass(frozen=True)
class OnRecord:
    """What is on record of one person that bears on the manifest."""

    #: The manifest, and one of schema 1 where that was written.
    manifests: Copies
    #: The ledger snapshot of the last change among all other documents.
    changed: datetime | None

    @property
    def stored(self) -> str | None:
        """The id under which the person has a manifest now."""
        found = (key for key in (MANIFEST, OLD_MANIFEST) if key in self.manifests)
        return next((key for key in found if not self.manifests[key].deleted), None)

    def as_of(self, begun: datetime) -> datetime:
        """The ledger snapshot of the last change, for a pass that began at `begun` and changes nothing else."""
        stands = max((copy.as_of for copy in self.manifests.values()), default=begun)
        return self.changed or stands


def institution(settings: Settings, business_date: date | None) -> Institution:
    """What everybody's manifest says about the institution; `business_date` where it moves that itself."""
    return Institution(
        time_zone=settings.tenant_timezone.key,
        business_date=BusinessDate(rule="ledger" if business_date else "calendar", date=business_date),
        name=settings.institution_name or None,
        phone=settings.institution_phone or None,
        languages=settings.languages or None,
    )


def build(holder: Holder, contents: Contents, told: Institution, as_of: datetime) -> Projected:
    """Document `~passbook`. `as_of` is the ledger snapshot of the last change of any of the documents."""
    manifest = Passbook(
        schema=MANIFEST_SCHEMA,
        person=holder.id,
        generation=holder.generation,
        kind=holder.kind,
        permissions=sorted(holder.scope.permissions, key=PERMISSIONS.index),
        clients=[ClientInScope(id=key, display_name=contents.names[key]) for key in sorted(contents.names)],
        counts={kind: count for kind, count in sorted(contents.counts.items()) if count},
        institution=told,
        as_of=in_words(as_of),
        history_from=holder.scope.since,
    )
    body = canonical.encode(manifest)
    return Projected(MANIFEST, MANIFEST, None, body, canonical.digest(body))
