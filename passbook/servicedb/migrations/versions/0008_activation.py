"""What one administrator does alone is counted; codes with which people choose their own passwords."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "administrator_act",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("administrator_id", sa.Text, nullable=False),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("amount", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")),
        sa.PrimaryKeyConstraint("id", name="pk_administrator_act"),
        sa.ForeignKeyConstraint(
            ["administrator_id"],
            ["administrator.id"],
            name="fk_administrator_act_administrator_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_administrator_act_administrator_id", "administrator_act", ["administrator_id", "at"])
    op.create_table(
        "activation",
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text),
        sa.Column("administrator_id", sa.Text),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("principal", name="pk_activation"),
        sa.CheckConstraint(
            "principal = coalesce(person_id, administrator_id)", name=op.f("ck_activation_one_principal")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_activation_person_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["administrator_id"],
            ["administrator.id"],
            name="fk_activation_administrator_id",
            ondelete="CASCADE",
        ),
    )
    op.add_column("administrator", sa.Column("password_changed_at", sa.DateTime(timezone=True)))
