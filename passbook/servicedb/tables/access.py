"""Who may sign in besides people, what a sign-in gives, and what slows down those who guess."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from passbook.servicedb.tables.base import instant, metadata

#: Somebody of the institution who administers people. Not a person: no clients, no devices, other tokens.
administrator = Table(
    "administrator",
    metadata,
    Column("id", Text, primary_key=True),
    Column("username", Text, nullable=False),
    Column("role", Text, CheckConstraint("role IN ('support', 'manager', 'owner')", name="role"), nullable=False),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('active', 'suspended')", name="state"),
        nullable=False,
        server_default="active",
    ),
    Column("password_hash", Text, nullable=False),
    Column("must_change_password", Boolean, nullable=False, server_default=text("true")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    instant("password_changed_at"),
    instant("created_at", required=True),
    instant("changed_at", required=True),
    Index("uq_administrator_username", text("lower(username)"), unique=True),
)

#: The code with which a person or an administrator chooses a password, once: the last that was made, by digest.
activation = Table(
    "activation",
    metadata,
    #: Id of the person or the administrator.
    Column("principal", Text, primary_key=True),
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE")),
    Column("administrator_id", Text, ForeignKey("administrator.id", ondelete="CASCADE")),
    Column("digest", LargeBinary, nullable=False),
    instant("made_at", required=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    instant("used_at"),
    CheckConstraint("principal = coalesce(person_id, administrator_id)", name="one_principal"),
)

#: One sign-in and everything that follows from it: the family of refresh tokens that dies as a whole.
session = Table(
    "session",
    metadata,
    Column("id", Text, primary_key=True),
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE")),
    Column("administrator_id", Text, ForeignKey("administrator.id", ondelete="CASCADE")),
    instant("created_at", required=True),
    instant("last_used_at", required=True),
    #: The end however often it is refreshed.
    Column("expires_at", DateTime(timezone=True), nullable=False),
    instant("ended_at"),
    #: Why it was, which its app is told; null for those of before this was kept.
    Column(
        "ended_because",
        Text,
        CheckConstraint(
            "ended_because IN ('institution', 'password_changed', 'other_device', 'signed_out', 'token_reused')",
            name="ended_because",
        ),
    ),
    #: Which phone it is on, if that was shown: it ends with that phone's devices. Null: it ends with any device of
    #: its person.
    Column("installation", LargeBinary),
    CheckConstraint("(person_id IS NULL) <> (administrator_id IS NULL)", name="one_principal"),
    Index("ix_session_person_id", "person_id"),
    Index("ix_session_administrator_id", "administrator_id"),
    Index("ix_session_expires_at", "expires_at"),
)

#: A refresh token, by digest. A spent one stays, so that its reuse is recognised.
refresh_token = Table(
    "refresh_token",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("session_id", Text, ForeignKey("session.id", ondelete="CASCADE"), nullable=False),
    #: Digest of the token it was given for; null for the first.
    Column("parent", LargeBinary),
    instant("created_at", required=True),
    instant("spent_at"),
    #: `jti` of the access token that was given with it, and when that was first used: the answer has arrived then.
    Column("access_id", Text),
    instant("arrived_at"),
    Index("ix_refresh_token_session_id", "session_id"),
    Index("ix_refresh_token_parent", "parent"),
    Index("uq_refresh_token_access_id", "access_id", unique=True),
)

#: Keys that sign. The newest of a purpose signs; one for tokens that was replaced verifies until `retires_at`.
signing_key = Table(
    "signing_key",
    metadata,
    Column("kid", Text, primary_key=True),
    #: `access` signs tokens and is rotated; `wipe` signs wipe orders, and devices keep its public half for good.
    Column(
        "purpose",
        Text,
        CheckConstraint("purpose IN ('access', 'wipe')", name="purpose"),
        nullable=False,
        server_default="access",
    ),
    Column("public_jwk", JSONB, nullable=False),
    #: Sealed under PASSBOOK_AUTH_SECRET: a copy of this database forges no tokens.
    Column("sealed_private_key", LargeBinary, nullable=False),
    instant("created_at", required=True),
    instant("retires_at"),
)

#: Counters against guessing, by digest of what is counted (an account, an address prefix, all).
#: Unlogged: after a crash of the server everybody starts from nothing, which costs an attacker's wait alone.
sign_in_counter = Table(
    "sign_in_counter",
    metadata,
    Column("bucket", LargeBinary, primary_key=True),
    Column("level", Double, nullable=False),
    instant("blocked_until"),
    instant("updated_at", required=True),
    Index("ix_sign_in_counter_updated_at", "updated_at"),
    prefixes=["UNLOGGED"],
)

#: Address prefixes from which somebody has signed in before (digest): guesses from elsewhere do not slow them.
familiar_place = Table(
    "familiar_place",
    metadata,
    #: Id of a person or an administrator.
    Column("principal", Text, primary_key=True),
    Column("place", LargeBinary, primary_key=True),
    instant("seen_at", required=True),
)
