"""Alembic migrations, forwards only: `spanpost.ledger.sql.schema.upgrade` runs them."""
