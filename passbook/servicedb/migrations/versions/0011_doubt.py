"""When a write to somebody's database was last taken by too few nodes of CouchDB."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("person", sa.Column("doubtful_at", sa.DateTime(timezone=True)))
