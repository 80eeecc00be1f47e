"""Alembic's environment: runs on the connection of `schema.upgrade`, inside its transaction."""

from __future__ import annotations

from alembic import context

context.configure(
    # Without a connection the statements are written down, for `schema_text`.
    connection=context.config.attributes.get("connection"),
    dialect_name="postgresql",
    # A name of our own: the database may be shared with an application that uses alembic too.
    version_table="spanpost_version",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
