"""People, the clients they may see, their devices, and changes of what they may see.

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
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from passbook.servicedb.tables.base import instant, metadata

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
    instant("database_ready_at"),
    #: Set with the first tombstone, and until the old bodies were seen to be gone from every copy.
    Column("compaction_due", Boolean, nullable=False, server_default=text("false")),
    #: When something was withdrawn last: whoever clears the flag says up to when they have looked.
    instant("withdrawn_at"),
    #: With the flag: the nodes of CouchDB that may still have old bodies; null before the first look.
    Column("nodes_outstanding", Integer),
    #: When a write to their database was last taken by too few nodes of CouchDB; null once every node was seen to
    #: have what is on record, and nothing that competes with it.
    instant("doubtful_at"),
    #: Goes up with every change an administrator makes: who changes a person says which version they saw.
    Column("version", Integer, nullable=False, server_default=text("1")),
    instant("password_changed_at"),
    instant("created_at", required=True),
    instant("changed_at", required=True),
    #: `Amina` and `amina` are the same person to whoever answers the phone.
    Index("uq_person_username", text("lower(username)"), unique=True),
)

#: Which clients a person may see: many to many, since agents share clients.
person_client = Table(
    "person_client",
    metadata,
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE"), primary_key=True),
    Column("client_id", BigInteger, primary_key=True),
    instant("linked_at", required=True),
    Index("ix_person_client_client_id", "client_id"),
)

#: One installation with one replication credential, of which only the digest is kept.
device = Table(
    "device",
    metadata,
    Column("id", Text, primary_key=True),
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    Column("platform", Text, nullable=False, server_default=""),
    #: SHA-256 of the 256-bit random secret; a slow hash adds nothing to a secret nobody can guess.
    Column("secret_digest", LargeBinary, nullable=False),
    instant("created_at", required=True),
    #: Moves on whenever it synchronises, up to `ends_at`.
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    instant("revoked_at"),
    #: Why it was, which its app is told; null for those of before this was kept.
    Column(
        "revoked_because",
        Text,
        CheckConstraint(
            "revoked_because IN ('institution', 'password_changed', 'other_device', 'signed_out')",
            name="revoked_because",
        ),
    ),
    #: About when it last synchronised; the gateway writes it rarely.
    instant("last_synchronised_at"),
    #: Up to which change of its database it had it all then: CouchDB's sequence.
    Column("position", Text),
    #: Which phone it is on: what was begun there ends with it, or a stolen phone would register itself anew.
    Column("installation", LargeBinary, nullable=False),
    #: SHA-256 of the key that came with the request, and the secret sealed under that key for a while, so that
    #: a repeated request gets the same answer. Without the key, which is not kept, the seal cannot be opened.
    Column("idempotency_digest", LargeBinary),
    #: Which key's orders to wipe the device believes: it was given the public half when it was registered.
    Column("wipe_kid", Text),
    Column("sealed_secret", LargeBinary),
    CheckConstraint("expires_at <= ends_at", name="ends_at"),
    Index("ix_device_person_id", "person_id"),
    Index("uq_device_person_id_idempotency_digest", "person_id", "idempotency_digest", unique=True),
)

#: An order to a revoked device to throw its copy away: signed, for this device alone, and good once.
wipe_order = Table(
    "wipe_order",
    metadata,
    Column("device_id", Text, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("nonce", Text, nullable=False),
    #: The order as the device gets it: a JSON Web Signature.
    Column("statement", Text, nullable=False),
    instant("ordered_at", required=True),
    #: When a gateway first handed it over, and when the device said that it has obeyed.
    instant("delivered_at"),
    instant("received_at"),
)

#: Where a device keeps how far it has come (`_local` documents): few each, so that nothing else is kept there.
device_checkpoint = Table(
    "device_checkpoint",
    metadata,
    Column("device_id", Text, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("checkpoint", Text, primary_key=True),
    instant("created_at", required=True),
)

#: A change of what a person may see: pending until the worker has carried it out, then with what it did; done when
#: nothing can be read any more of what it took away.
scope_change = Table(
    "scope_change",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("person_id", Text, ForeignKey("person.id", ondelete="CASCADE"), nullable=False),
    Column(
        "what",
        Text,
        CheckConstraint("what IN ('created', 'clients', 'permissions')", name="what"),
        nullable=False,
    ),
    instant("requested_at", required=True),
    instant("carried_out_at"),
    instant("done_at"),
    Column("documents_added", Integer),
    Column("documents_removed", Integer),
    #: Clients that could not be read or projected when it was carried out; they follow when they can be.
    Column("clients_failed", Integer),
    Index("ix_scope_change_person_id", "person_id"),
    Index("ix_scope_change_pending", "person_id", postgresql_where=text("carried_out_at IS NULL")),
)
