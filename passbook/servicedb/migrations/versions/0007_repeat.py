"""How often events came that the audit log does not tell one by one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_repeat",
        sa.Column("key", sa.LargeBinary, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("event", "actor_kind", "actor")),
        sa.Column("person", sa.Text),
        sa.Column("administrator", sa.Text),
        sa.Column("address", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))
            for name in ("since", "until")
        ),
        *(
            sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))
            for name in ("written", "counted")
        ),
        sa.PrimaryKeyConstraint("key", name="pk_audit_repeat"),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_audit_repeat_since", "audit_repeat", ["since"])
