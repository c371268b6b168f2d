"""Alembic's entry: runs the migrations on the connection that storage.migrate passes in."""

from __future__ import annotations

from alembic import context

from storage.tables import metadata
from storage.version_table import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transaction_per_migration=False,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
