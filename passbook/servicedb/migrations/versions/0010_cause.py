"""Why a device was revoked and a session ended; whether the answer to a refresh arrived."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("revoked_because", sa.Text))
    op.create_check_constraint(
        op.f("ck_device_revoked_because"),
        "device",
        "revoked_because IN ('institution', 'password_changed', 'other_device', 'signed_out')",
    )
    op.add_column("session", sa.Column("ended_because", sa.Text))
    op.create_check_constraint(
        op.f("ck_session_ended_because"),
        "session",
        "ended_because IN ('institution', 'password_changed', 'other_device', 'signed_out', 'token_reused')",
    )
    op.add_column("refresh_token", sa.Column("access_id", sa.Text))
    op.add_column("refresh_token", sa.Column("arrived_at", sa.DateTime(timezone=True)))
    op.create_index("ix_refresh_token_parent", "refresh_token", ["parent"])
    op.create_index("uq_refresh_token_access_id", "refresh_token", ["access_id"], unique=True)
