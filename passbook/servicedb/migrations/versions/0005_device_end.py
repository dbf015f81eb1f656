"""When the credential of a device ends however often it synchronises."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("ends_at", sa.DateTime(timezone=True)))
    # Nobody is cut off by an upgrade; the auth service's sweep brings it to what the setting says.
    op.execute("UPDATE device SET ends_at = greatest(expires_at, created_at + interval '365 days')")
    op.alter_column("device", "ends_at", nullable=False)
    op.create_check_constraint(op.f("ck_device_ends_at"), "device", "expires_at <= ends_at")
