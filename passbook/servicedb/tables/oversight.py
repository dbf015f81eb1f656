"""The switch for everybody, acts that wait for a second approver, and the audit log."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from passbook.servicedb.tables.base import instant, metadata

#: One row: whether anybody at all may synchronise or sign in.
tenant = Table(
    "tenant",
    metadata,
    Column(
        "singleton",
        Boolean,
        CheckConstraint("singleton", name="singleton"),
        primary_key=True,
        server_default=text("true"),
    ),
    Column("open", Boolean, nullable=False, server_default=text("true")),
    Column("reason", Text, nullable=False, server_default=""),
    Column("version", Integer, nullable=False, server_default=text("1")),
    instant("changed_at", required=True),
)

#: One row: when this database was last compared with the witness of its audit log (`passbook.witness`).
witnessed = Table(
    "witnessed",
    metadata,
    Column(
        "singleton",
        Boolean,
        CheckConstraint("singleton", name="singleton"),
        primary_key=True,
        server_default=text("true"),
    ),
    #: Which database it was: cluster, timeline and number. One that was restored has others. Empty: never compared.
    Column("place", Text, nullable=False, server_default=""),
    instant("compared_at"),
    #: The row of the audit log that the witness had: ID:HASH.
    Column("anchor", Text, nullable=False, server_default=""),
    #: The row of the audit log that this database lacks: it is older. Empty while it lacks none.
    Column("lacks", Text, nullable=False, server_default=""),
)

#: An act that one administrator asked for and another must approve.
approval = Table(
    "approval",
    metadata,
    Column("id", Text, primary_key=True),
    Column("action", Text, nullable=False),
    Column("arguments", JSONB, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, ForeignKey("administrator.id", ondelete="CASCADE"), nullable=False),
    instant("requested_at", required=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("decided_by", Text, ForeignKey("administrator.id", ondelete="CASCADE")),
    instant("decided_at"),
    Column("decision", Text, CheckConstraint("decision IN ('approved', 'refused')", name="decision")),
)

#: What administrators did in the last hour, to be counted: how much one does alone is bounded.
administrator_act = Table(
    "administrator_act",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("administrator_id", Text, ForeignKey("administrator.id", ondelete="CASCADE"), nullable=False),
    #: Name of an act in `auth_service.sensitivity`, or `clients`.
    Column("act", Text, nullable=False),
    Column("amount", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    Index("ix_administrator_act_administrator_id", "administrator_id", "at"),
)

#: What happened, in order, each row bound to the one before by its hash. No row refers to another table: the
#: log outlives what it tells of. Triggers refuse every change of a row, and every deletion.
audit_event = Table(
    "audit_event",
    metadata,
    #: 1, 2, 3 … without a gap: a missing row shows.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    instant("at", required=True),
    #: Name of the event's class in `passbook.audit.events`.
    Column("event", Text, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("person", Text),
    Column("device", Text),
    Column("reason", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    #: Address prefix (/24, /48) the request came from.
    Column("address", Text, nullable=False),
    #: The event's other fields, as canonical JSON text: the bytes that were hashed.
    Column("detail", Text, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("ix_audit_event_at", "at"),
    Index("ix_audit_event_event", "event"),
    Index("ix_audit_event_person", "person"),
    Index("ix_audit_event_actor", "actor"),
)

#: Events that came more often than the audit log tells one by one, counted until it is told how often.
#: Unlogged: a crash of the server loses the numbers alone.
audit_repeat = Table(
    "audit_repeat",
    metadata,
    #: Digest of what is counted together.
    Column("key", LargeBinary, primary_key=True),
    Column("event", Text, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("person", Text),
    Column("administrator", Text),
    Column("address", Text, nullable=False),
    instant("since", required=True),
    instant("until", required=True),
    #: How many have a row in the log, and how many have not.
    Column("written", Integer, nullable=False, server_default=text("0")),
    Column("counted", Integer, nullable=False, server_default=text("0")),
    Index("ix_audit_repeat_since", "since"),
    prefixes=["UNLOGGED"],
)
