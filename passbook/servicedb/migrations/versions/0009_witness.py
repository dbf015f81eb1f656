"""When the service database was last compared with the witness of its audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "witnessed",
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("place", sa.Text, nullable=False, server_default=""),
        sa.Column("compared_at", sa.DateTime(timezone=True)),
        sa.Column("anchor", sa.Text, nullable=False, server_default=""),
        sa.Column("lacks", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("singleton", name="pk_witnessed"),
        sa.CheckConstraint("singleton", name=op.f("ck_witnessed_singleton")),
    )
    op.execute("INSERT INTO witnessed DEFAULT VALUES")
