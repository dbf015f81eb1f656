"""Alembic's entry: migrations run on the connection that `ServiceDatabase.migrate` hands over."""

from __future__ import annotations

from alembic import context

from passbook.servicedb.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
