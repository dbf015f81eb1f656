"""What the worker keeps: per document what it wrote, and the clients that could not be projected."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from passbook.servicedb.tables.base import instant, metadata

#: What the worker wrote last: digest of the canonical body, winning revision, and the revisions before it.
projected_document = Table(
    "projected_document",
    metadata,
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE"), primary_key=True),
    Column("document_id", Text, primary_key=True),
    #: The ledger's client the document belongs to; null for the manifest.
    Column("client_id", BigInteger),
    Column("digest", LargeBinary, nullable=False),
    Column("revision", Text, nullable=False),
    #: Hashes of the revisions before this one, newest first, at most 49 of them.
    Column("ancestors", ARRAY(Text), nullable=False),
    Column("deleted", Boolean, nullable=False, server_default=text("false")),
    #: Ledger snapshot from which the body was made: decides between two workers.
    Column("as_of", DateTime(timezone=True), nullable=False),
    Index("ix_projected_document_client_id", "client_id"),
)

#: When somebody's database was last written to: the time of the transaction that says so. A trigger of
#: `projected_document` keeps it, for gateways that may have missed the notice.
written = Table(
    "written",
    metadata,
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE"), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
)

#: One row: the ledger's time at the beginning of the last pass over everybody. Null before the first.
whole_pass = Table(
    "whole_pass",
    metadata,
    Column(
        "singleton",
        Boolean,
        CheckConstraint("singleton", name="singleton"),
        primary_key=True,
        server_default=text("true"),
    ),
    instant("as_of"),
)

#: How complete somebody's copy is. Written when that changes, not in every pass; no row: never copied.
#:
#: * `complete`: up to the last whole pass, or to `as_of` if that is later
#: * `behind`: since `as_of` some client could not be copied
#: * `lacking`: rebuilt without a client that could not be read; rebuilt again when all of them can be
#: * `rebuilding`: lost, or being filled; the next pass rebuilds it from the beginning
completeness = Table(
    "completeness",
    metadata,
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('complete', 'behind', 'lacking', 'rebuilding')", name="state"),
        nullable=False,
    ),
    #: By the ledger's clock; null: there is no time up to which it is known to be complete.
    instant("as_of"),
)

#: A client that could not be projected, with its reason; the others go on without it.
dead_letter = Table(
    "dead_letter",
    metadata,
    Column("client_id", BigInteger, primary_key=True),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    instant("first_seen_at", required=True),
    instant("last_seen_at", required=True),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
)
