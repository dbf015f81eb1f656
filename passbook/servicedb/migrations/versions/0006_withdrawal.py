"""What was withdrawn: when last, and on how many nodes it is outstanding; changes carried out and not yet done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("person", sa.Column("withdrawn_at", sa.DateTime(timezone=True)))
    op.add_column("person", sa.Column("nodes_outstanding", sa.Integer))
    op.add_column("scope_change", sa.Column("carried_out_at", sa.DateTime(timezone=True)))
    op.execute("UPDATE scope_change SET carried_out_at = done_at WHERE done_at IS NOT NULL")
    op.drop_index("ix_scope_change_pending", "scope_change")
    op.create_index(
        "ix_scope_change_pending", "scope_change", ["person_id"], postgresql_where=sa.text("carried_out_at IS NULL")
    )
    # The release before called it done when compaction had only begun: looked at once more.
    op.execute(
        "UPDATE person SET compaction_due = true WHERE EXISTS "
        "(SELECT FROM projected_document AS d WHERE d.person_id = person.id AND d.deleted)"
    )
