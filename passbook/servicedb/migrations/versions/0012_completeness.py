"""Up to when each copy is known to be complete."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "whole_pass",
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("as_of", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("singleton", name="pk_whole_pass"),
        sa.CheckConstraint("singleton", name=op.f("ck_whole_pass_singleton")),
    )
    op.execute("INSERT INTO whole_pass DEFAULT VALUES")
    op.create_table(
        "completeness",
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("person_id", name="pk_completeness"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_completeness_person_id", ondelete="CASCADE"),
        sa.CheckConstraint(
            "state IN ('complete', 'behind', 'lacking', 'rebuilding')", name=op.f("ck_completeness_state")
        ),
    )
