"""Which phone a session and a device are on, so that they end together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("session", sa.Column("installation", sa.LargeBinary))
    op.add_column("device", sa.Column("installation", sa.LargeBinary))
    # Devices that one session registered are on one phone, and so is that session.
    op.execute(
        "UPDATE device"
        " SET installation = sha256(convert_to('registered with ' || coalesce(session_id, id), 'UTF8'))"
    )
    op.execute(
        "UPDATE session SET installation = sha256(convert_to('registered with ' || id, 'UTF8'))"
        " WHERE EXISTS (SELECT FROM device WHERE device.session_id = session.id)"
    )
    # Whoever reported a phone lost meant all that was begun on it. Sessions from before a device was revoked that
    # did not register one that goes on cannot be told from those of the lost phone.
    op.execute("""
        UPDATE session SET ended_at = now()
        WHERE ended_at IS NULL
            AND EXISTS (
                SELECT FROM device
                WHERE device.person_id = session.person_id AND device.revoked_at >= session.created_at)
            AND NOT EXISTS (SELECT FROM device WHERE device.session_id = session.id AND device.revoked_at IS NULL)
    """)
    op.alter_column("device", "installation", nullable=False)
    op.drop_column("device", "session_id")
