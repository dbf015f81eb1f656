"""The manifest: what a database holds, for whom, and as of when."""

from __future__ import annotations

from typing import Annotated

from projections import words
from projections.documents.base import Day, Document, Part, about

#: Number of the manifest's schema. In schema 1 its id was `passbook`.
MANIFEST_SCHEMA = 2


class ClientInScope(Part):
    """One client of the manifest."""

    id: Annotated[int, about("The client", "m_client.id")]
    display_name: Annotated[str, about("Name to show", "m_client.display_name")]


class BusinessDate(Part):
    """How an app finds the institution's today."""

    rule: Annotated[
        str, about("Where it comes from", "c_configuration: enable-business-date", words=words.BUSINESS_DATE_RULE)
    ]
    date: Annotated[
        Day | None, about("With the rule `ledger`: the day the books are on", "m_business_date.date")
    ] = None


class Institution(Part):
    """Whose books these are, as the institution's settings tell."""

    time_zone: Annotated[str, about("IANA name of its time zone", "setting PASSBOOK_TENANT_TIMEZONE")]
    business_date: Annotated[BusinessDate, about("How an app finds today")]
    name: Annotated[str | None, about("What it calls itself", "setting PASSBOOK_INSTITUTION_NAME")] = None
    phone: Annotated[str | None, about("Where people call", "setting PASSBOOK_INSTITUTION_PHONE")] = None
    languages: Annotated[
        list[str] | None,
        about("Its languages, BCP 47 tags, the preferred first", "setting PASSBOOK_INSTITUTION_LANGUAGES"),
    ] = None


class Passbook(Document, tag="passbook"):
    """The manifest. Id `~passbook`, the last of all, so that its arrival says "complete"."""

    person: Annotated[str, about("The person's opaque id; a copy on a device is one person's, and named after it")]
    generation: Annotated[int, about("Raised when a database starts over; an app then starts over too")]
    kind: Annotated[str, about("Whose copy this is", words=words.PERSON_KIND)]
    permissions: Annotated[
        list[Annotated[str, about("A permission", words=words.PERMISSION)]], about("What this person may see")
    ]
    clients: Annotated[list[ClientInScope], about("Clients in scope, by key")]
    counts: Annotated[dict[str, int], about("Number of documents of each type, this one left out")]
    institution: Annotated[Institution, about("The institution")]
    as_of: Annotated[
        str,
        about(
            "Ledger's time of the last change in any of these documents, RFC 3339. It does not move while nothing "
            "changes: up to when the copy is complete is `checked_at`, which the gateway tells",
            unit="UTC",
        ),
    ]
    history_from: Annotated[Day | None, about("First day of the transactions sent; absent: all of them")] = None
