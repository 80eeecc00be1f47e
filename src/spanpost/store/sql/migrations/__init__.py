"""Alembic migrations, forward only: `spanpost.store.sql.schema.upgrade` runs them.

A new revision is a module in `versions` that builds its statements with `ddl`, and a new `schema.HEAD`. A
minor revision only adds tables, indexes, and columns that have a default or may be null: older gateways keep
recording.
"""
