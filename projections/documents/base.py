"""What every document has, and the small types they share.

A field's annotation is its documentation: meaning, unit and source column feed `docs/documents.md` and the
published JSON Schemas. A field without a value is absent from the document, never null.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from projections.words import WordList

#: Number of the schema of every document but the manifest; raised when one changes so that an app must know of it.
SCHEMA = 1


def about(meaning: str, source: str = "", unit: str = "", *, words: WordList | None = None) -> Meta:
    """Documentation of one field: what it means, which ledger column it is from, its unit, and its words."""
    extra: dict[str, object] = {"source": source, "unit": unit}
    if words is None:
        return Meta(description=meaning, extra=extra)
    # The marker is turned into the list when the schemas are published.
    return Meta(description=meaning, extra=extra | {"words": words}, extra_json_schema={"words": words.name})


_DECIMAL_TEXT = r"^-?[0-9]+(\.[0-9]+)?$"

#: An amount: decimal text with exactly the digits of the currency beside it.
Amount = Annotated[Decimal, Meta(extra={"kind": "amount"}, extra_json_schema={"pattern": _DECIMAL_TEXT})]
#: A rate in per cent: decimal text without padding zeros.
Rate = Annotated[str, Meta(pattern=_DECIMAL_TEXT, extra={"kind": "rate"})]
#: A calendar date, `YYYY-MM-DD`.
Day = Annotated[date, Meta(extra={"kind": "date"})]


class Part(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """A piece of a document."""


class Currency(Part):
    """The currency of the amounts beside it."""

    code: Annotated[str, about("ISO 4217 code", "currency_code")]
    digits: Annotated[int, about("Digits after the point in every amount of this document", "currency_digits")]
    symbol: Annotated[
        str, about("Sign to show; the code, if the institution set none", "m_currency.display_symbol")
    ]


class Payment(Part):
    """How a payment was made."""

    type: Annotated[str | None, about("Way of payment, in the institution's words", "m_payment_type.value")] = None
    receipt: Annotated[str | None, about("Receipt number", "m_payment_detail.receipt_number")] = None


class Document(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of all documents: `type` says which one it is."""

    schema: Annotated[int, about("Number of the schema of this type of document")]


class ClientPart(Document):
    """A document that belongs to one client."""

    client_id: Annotated[int, about("The client", "m_client.id")]
