"""Tables of the service database (PostgreSQL). Migrations create them; a test holds the two equal.

Personal data lives in `person` alone; everything else refers to it by an opaque id.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

_NOW = text("now()")

#: Somebody who logs in. `database_name` is the person's CouchDB database: 128 random bits, told to nobody.
person = Table(
    "person",
    metadata,
    Column("id", Text, primary_key=True),
    Column("username", Text, nullable=False),
    Column("kind", Text, CheckConstraint("kind IN ('customer', 'agent')", name="kind"), nullable=False),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('active', 'suspended', 'deleting')", name="state"),
        nullable=False,
        server_default="active",
    ),
    Column("password_hash", Text, nullable=False),
    Column("must_change_password", Boolean, nullable=False, server_default=text("true")),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("history_from", Date),
    Column("history_months", Integer, CheckConstraint("history_months > 0", name="history_months")),
    Column("database_name", Text, nullable=False, unique=True),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    #: Set once the database exists with its `_security`; null means the worker has yet to make it.
    Column("database_ready_at", DateTime(timezone=True)),
    #: Set with the first tombstone: old bodies are still there until the database is compacted.
    Column("compaction_due", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    #: `Amina` and `amina` are the same person to whoever answers the phone.
    Index("uq_person_username", text("lower(username)"), unique=True),
)

#: Which clients a person may see: many to many, since agents share clients.
person_client = Table(
    "person_client",
    metadata,
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE"), primary_key=True),
    Column("client_id", BigInteger, primary_key=True),
    Column("linked_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Index("ix_person_client_client_id", "client_id"),
)

#: One installation with one replication credential, of which only the digest is kept.
device = Table(
    "device",
    metadata,
    Column("id", Text, primary_key=True),
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    #: SHA-256 of the 256-bit random secret; a slow hash adds nothing to a secret nobody can guess.
    Column("secret_digest", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Index("ix_device_person_id", "person_id"),
)

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

#: A client that could not be projected, with its reason; the others go on without it.
dead_letter = Table(
    "dead_letter",
    metadata,
    Column("client_id", BigInteger, primary_key=True),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("first_seen_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("last_seen_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
)
