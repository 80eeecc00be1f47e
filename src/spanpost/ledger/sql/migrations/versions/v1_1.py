"""What pacing needs: each lane says which call its next letter is, each letter when it was sent, buckets what failed.

Everything that is added has a default. A spanpost of 1.0 goes on beside: it does not keep `lanes.address` and `lanes.call`, so a
claim takes them as hints and looks at the letter itself.
"""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns

revision = "1.1"
down_revision = "1.0"

DELIVERIES = [
    ("claimed_at", "timestamptz", "When it was claimed last, by the database's clock."),
    ("sent_at", "timestamptz", "When it was claimed last to be sent, not to be looked up."),
    ("looks", "integer NOT NULL DEFAULT 0", "Since sent_at: looks that found nothing yet."),
    (
        "recheck",
        "boolean NOT NULL DEFAULT false",
        "While sending: somebody whose lease was over sent it too, so it is looked up once more.",
    ),
]
LANES = [
    ("address", "text NOT NULL DEFAULT ''", "deliveries.address of its letters."),
    ("call", "text NOT NULL DEFAULT 'post'", "What its next letter will be: post, edit or look."),
]
BUCKETS = [
    ("reserve", "double precision NOT NULL DEFAULT 0", "Of cap, what only approvals, ends and errors may draw."),
    ("reason", "text NOT NULL DEFAULT ''", "Short word for why it is or was blocked."),
    ("error", "text NOT NULL DEFAULT ''", "The same in words."),
    ("failures", "integer NOT NULL DEFAULT 0", "Failures in a row."),
    ("window_at", "timestamptz", "Since when calls and failed are counted; null while nothing failed lately."),
    ("calls", "integer NOT NULL DEFAULT 0", "Calls that ended since window_at."),
    ("failed", "integer NOT NULL DEFAULT 0", "Those of them that failed."),
    ("opened", "integer NOT NULL DEFAULT 0", "How often in a row failures or a refusal blocked it; 0 while calls flow."),
    ("refused", "boolean NOT NULL DEFAULT false", "True when a person must mend something."),
    ("probe_at", "timestamptz", "When the call was claimed that probes whether it works again."),
    ("probe_until", "timestamptz", "Until when that call's outcome is waited for."),
]

HEADS = """
UPDATE lanes SET
  due_at = coalesce(lease_until, due_at),
  address = coalesce((SELECT d.address FROM deliveries d WHERE d.sink = lanes.sink AND d.lane = lanes.lane LIMIT 1), ''),
  call = CASE WHEN lease_until IS NOT NULL THEN 'look'
    WHEN receipt IS NOT NULL AND NOT EXISTS (
      SELECT FROM deliveries d WHERE d.sink = lanes.sink AND d.lane = lanes.lane AND d.mode = 'news' AND d.state = 'waiting'
    ) THEN 'edit' ELSE 'post' END
WHERE due_at IS NOT NULL OR lease_until IS NOT NULL"""


def upgrade() -> None:
    """Add the columns, and the index by which a claim finds the next letter of each sort."""
    connection = op.get_bind()
    added = [*add_columns("deliveries", DELIVERIES), *add_columns("lanes", LANES), *add_columns("buckets", BUCKETS)]
    for statement in [
        *added,
        HEADS,
        "CREATE INDEX lanes_heads ON lanes (sink, address, call, rank, due_at) WHERE due_at IS NOT NULL",
        # It served the same question, less well; 1.0 reads the table instead, which is small.
        "DROP INDEX lanes_due",
        "COMMENT ON COLUMN lanes.due_at IS 'When a letter of the lane may be claimed; null when nothing waits.'",
        "COMMENT ON COLUMN buckets.rate IS 'Calls gained per second; infinite when only closed or open matters.'",
        "COMMENT ON COLUMN buckets.blocked_until IS 'Nobody calls before then: Retry-After, a refusal, failures.'",
    ]:
        connection.exec_driver_sql(statement)
