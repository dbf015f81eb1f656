"""Administrators, sessions, changes of scope, the switch for everybody, the audit log."""

from __future__ import annotations

from importlib import resources

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")


def _instant(name: str, *, required: bool = False) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=not required, server_default=_NOW if required else None
    )


def _text(name: str, default: str | None = None, *, required: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=not required, server_default=default)


def _version() -> sa.Column[int]:
    return sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1"))


def _reference(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def upgrade() -> None:
    _people()
    _access()
    _oversight()
    guards = resources.files("passbook.servicedb") / "sql" / "guards.sql"
    # Past the parameters of the driver: the text has percent signs and colons of its own.
    op.get_bind().exec_driver_sql(guards.read_text("utf-8"))


def _people() -> None:
    # The naming rule was applied twice to these.
    op.execute("ALTER TABLE person RENAME CONSTRAINT ck_person_ck_person_kind TO ck_person_kind")
    op.execute("ALTER TABLE person RENAME CONSTRAINT ck_person_ck_person_state TO ck_person_state")
    op.execute(
        "ALTER TABLE person RENAME CONSTRAINT ck_person_ck_person_history_months TO ck_person_history_months"
    )
    op.add_column("person", _version())
    op.add_column("person", _instant("password_changed_at"))
    op.add_column("device", _text("platform", ""))
    op.add_column("device", _instant("last_synchronised_at"))
    op.add_column("device", sa.Column("idempotency_digest", sa.LargeBinary))
    op.add_column("device", sa.Column("sealed_secret", sa.LargeBinary))
    op.create_index(
        "uq_device_person_id_idempotency_digest", "device", ["person_id", "idempotency_digest"], unique=True
    )
    op.create_table(
        "scope_change",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        _text("person_id"),
        _text("what"),
        _instant("requested_at", required=True),
        _instant("done_at"),
        sa.Column("documents_added", sa.Integer),
        sa.Column("documents_removed", sa.Integer),
        sa.Column("clients_failed", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_scope_change"),
        sa.CheckConstraint("what IN ('created', 'clients', 'permissions')", name=op.f("ck_scope_change_what")),
        _reference("scope_change", "person_id", "person"),
    )
    op.create_index("ix_scope_change_person_id", "scope_change", ["person_id"])
    op.create_index(
        "ix_scope_change_pending", "scope_change", ["person_id"], postgresql_where=sa.text("done_at IS NULL")
    )


def _access() -> None:
    op.create_table(
        "administrator",
        _text("id"),
        _text("username"),
        _text("role"),
        _text("state", "active"),
        _text("password_hash"),
        sa.Column("must_change_password", sa.Boolean, nullable=False, server_default=sa.text("true")),
        _version(),
        _instant("created_at", required=True),
        _instant("changed_at", required=True),
        sa.PrimaryKeyConstraint("id", name="pk_administrator"),
        sa.CheckConstraint("role IN ('support', 'manager', 'owner')", name=op.f("ck_administrator_role")),
        sa.CheckConstraint("state IN ('active', 'suspended')", name=op.f("ck_administrator_state")),
    )
    op.create_index("uq_administrator_username", "administrator", [sa.text("lower(username)")], unique=True)
    op.create_table(
        "session",
        _text("id"),
        _text("person_id", required=False),
        _text("administrator_id", required=False),
        _instant("created_at", required=True),
        _instant("last_used_at", required=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _instant("ended_at"),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
        sa.CheckConstraint(
            "(person_id IS NULL) <> (administrator_id IS NULL)", name=op.f("ck_session_one_principal")
        ),
        _reference("session", "person_id", "person"),
        _reference("session", "administrator_id", "administrator"),
    )
    for column in ("person_id", "administrator_id", "expires_at"):
        op.create_index(f"ix_session_{column}", "session", [column])
    op.create_table(
        "refresh_token",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        _text("session_id"),
        sa.Column("parent", sa.LargeBinary),
        _instant("created_at", required=True),
        _instant("spent_at"),
        sa.PrimaryKeyConstraint("digest", name="pk_refresh_token"),
        _reference("refresh_token", "session_id", "session"),
    )
    op.create_index("ix_refresh_token_session_id", "refresh_token", ["session_id"])
    op.create_table(
        "signing_key",
        _text("kid"),
        sa.Column("public_jwk", JSONB, nullable=False),
        sa.Column("sealed_private_key", sa.LargeBinary, nullable=False),
        _instant("created_at", required=True),
        _instant("retires_at"),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_key"),
    )
    op.create_table(
        "sign_in_counter",
        sa.Column("bucket", sa.LargeBinary, nullable=False),
        sa.Column("level", sa.Double, nullable=False),
        _instant("blocked_until"),
        _instant("updated_at", required=True),
        sa.PrimaryKeyConstraint("bucket", name="pk_sign_in_counter"),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_sign_in_counter_updated_at", "sign_in_counter", ["updated_at"])
    op.create_table(
        "familiar_place",
        _text("principal"),
        sa.Column("place", sa.LargeBinary, nullable=False),
        _instant("seen_at", required=True),
        sa.PrimaryKeyConstraint("principal", "place", name="pk_familiar_place"),
    )

    op.add_column("device", _text("session_id", required=False))
    op.create_foreign_key("fk_device_session_id", "device", "session", ["session_id"], ["id"], ondelete="SET NULL")
    op.create_index("ix_device_session_id", "device", ["session_id"])


def _oversight() -> None:
    op.create_table(
        "tenant",
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("open", sa.Boolean, nullable=False, server_default=sa.text("true")),
        _text("reason", ""),
        _version(),
        _instant("changed_at", required=True),
        sa.PrimaryKeyConstraint("singleton", name="pk_tenant"),
        sa.CheckConstraint("singleton", name=op.f("ck_tenant_singleton")),
    )
    op.execute("INSERT INTO tenant DEFAULT VALUES")
    op.create_table(
        "approval",
        _text("id"),
        _text("action"),
        sa.Column("arguments", JSONB, nullable=False),
        _text("reason"),
        _text("requested_by"),
        _instant("requested_at", required=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _text("decided_by", required=False),
        _instant("decided_at"),
        _text("decision", required=False),
        sa.PrimaryKeyConstraint("id", name="pk_approval"),
        sa.CheckConstraint("decision IN ('approved', 'refused')", name=op.f("ck_approval_decision")),
        _reference("approval", "requested_by", "administrator"),
        _reference("approval", "decided_by", "administrator"),
    )
    op.create_table(
        "audit_event",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        _instant("at", required=True),
        _text("event"),
        _text("actor_kind"),
        _text("actor"),
        _text("person", required=False),
        _text("device", required=False),
        _text("reason"),
        _text("request_id"),
        _text("address"),
        _text("detail"),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_event"),
    )
    for column in ("at", "event", "person", "actor"):
        op.create_index(f"ix_audit_event_{column}", "audit_event", [column])
