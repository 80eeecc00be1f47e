"""Alembic migrations, forwards only: `spanpost.store.sql.schema.upgrade` runs them.

A new revision is a module in `versions` that builds its statements with `ddl`, and the new `schema.HEAD`. A minor revision only
adds tables, indexes and columns that have a default or may be null: gateways of the revision before go on recording.
"""
