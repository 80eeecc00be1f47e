"""Records and tasks of some kilobytes stay as they are, where they are: packing them took a tenth of what writing them did.

For every spanpost alike, whatever its version: it changes how rows are kept, not what they hold. Rows that are there stay as they
are until they are written again.
"""

from __future__ import annotations

from alembic import op

revision = "1.13"
down_revision = "1.12"


def upgrade() -> None:
    """Have rows packed, and put aside, only where they would not fit a page."""
    connection = op.get_bind()
    for table in ("kin", "agent_tasks"):
        connection.exec_driver_sql(f"ALTER TABLE {table} SET (toast_tuple_target = 8160)")
