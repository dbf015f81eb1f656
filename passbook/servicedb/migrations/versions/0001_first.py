"""People, their clients and devices, and what the worker projected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NOW = sa.text("now()")


def _instant(name: str, *, required: bool = True) -> sa.Column[object]:
    default = _NOW if required else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not required, server_default=default)


def upgrade() -> None:
    op.create_table(
        "person",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="active"),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("must_change_password", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("permissions", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("history_from", sa.Date),
        sa.Column("history_months", sa.Integer),
        sa.Column("database_name", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("database_ready_at", sa.DateTime(timezone=True)),
        sa.Column("compaction_due", sa.Boolean, nullable=False, server_default=sa.text("false")),
        _instant("created_at"),
        _instant("changed_at"),
        sa.PrimaryKeyConstraint("id", name="pk_person"),
        sa.UniqueConstraint("database_name", name="uq_person_database_name"),
        sa.CheckConstraint("kind IN ('customer', 'agent')", name="ck_person_kind"),
        sa.CheckConstraint("state IN ('active', 'suspended', 'deleting')", name="ck_person_state"),
        sa.CheckConstraint("history_months > 0", name="ck_person_history_months"),
    )
    op.create_index("uq_person_username", "person", [sa.text("lower(username)")], unique=True)
    op.create_table(
        "person_client",
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("client_id", sa.BigInteger, nullable=False),
        _instant("linked_at"),
        sa.PrimaryKeyConstraint("person_id", "client_id", name="pk_person_client"),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.id"], name="fk_person_client_person_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_person_client_client_id", "person_client", ["client_id"])
    op.create_table(
        "device",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False, server_default=""),
        sa.Column("secret_digest", sa.LargeBinary, nullable=False),
        _instant("created_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_device"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_device_person_id", ondelete="CASCADE"),
    )
    op.create_index("ix_device_person_id", "device", ["person_id"])
    op.create_table(
        "projected_document",
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("document_id", sa.Text, nullable=False),
        sa.Column("client_id", sa.BigInteger),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("ancestors", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("person_id", "document_id", name="pk_projected_document"),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.id"], name="fk_projected_document_person_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_projected_document_client_id", "projected_document", ["client_id"])
    op.create_table(
        "dead_letter",
        sa.Column("client_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        _instant("first_seen_at"),
        _instant("last_seen_at"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.PrimaryKeyConstraint("client_id", name="pk_dead_letter"),
    )
