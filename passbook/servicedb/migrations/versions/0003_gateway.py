"""What gateways need: when somebody's database was written to, where devices stand, what they keep."""

from __future__ import annotations

from importlib import resources

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("position", sa.Text))
    op.create_table(
        "written",
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("person_id", name="pk_written"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_written_person_id", ondelete="CASCADE"),
    )
    op.create_table(
        "device_checkpoint",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("device_id", "checkpoint", name="pk_device_checkpoint"),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name="fk_device_checkpoint_device_id", ondelete="CASCADE"
        ),
    )
    op.add_column("signing_key", sa.Column("purpose", sa.Text, nullable=False, server_default="access"))
    op.create_check_constraint(op.f("ck_signing_key_purpose"), "signing_key", "purpose IN ('access', 'wipe')")
    op.add_column("device", sa.Column("wipe_kid", sa.Text))
    op.create_table(
        "wipe_order",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("statement", sa.Text, nullable=False),
        sa.Column("ordered_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("delivered_at", sa.DateTime(timezone=True)),
        sa.Column("received_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("device_id", name="pk_wipe_order"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_wipe_order_device_id", ondelete="CASCADE"),
    )
    notices = resources.files("passbook.servicedb") / "sql" / "written.sql"
    op.get_bind().exec_driver_sql(notices.read_text("utf-8"))
