"""Orders: work that people, rules and programs asked for, carried by the letters that there are."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import add_columns, table

revision = "1.8"
down_revision = "1.7"

ORDERS = table(
    "launch_orders",
    "One row per order: work that was asked for. Its letter in deliveries has the order's id as key and tells what became of it.",
    [
        ("id", "uuid PRIMARY KEY", "Made of what asked for it: the same asking is the same order. Receivers know a repeat by it."),
        ("tenant", "text NOT NULL", "Whose it is; part of every identity."),
        ("carrier", "text NOT NULL", "Who carries it: launch:<launcher>, or hook:<provider> for a request that came in."),
        ("text", "text NOT NULL", "What is to be done: untrusted text."),
        ("parameters", "jsonb NOT NULL", "What the launcher is given, by name."),
        ("retry_of", "text NOT NULL", "Public id of the task that is to be done again; empty for new work."),
        ("caused_by", "text NOT NULL", "Public id of the task whose end asked for it; empty without one."),
        ("task_uid", "uuid", "That task: agent_tasks.uid."),
        ("run", "bigint NOT NULL", "Which of that task's runs."),
        ("depth", "bigint NOT NULL", "How many orders by rules led to this one."),
        ("source", "text NOT NULL", "slack, api, cli, rule or hook."),
        ("by", "text NOT NULL", "Who asked, for people."),
        ("by_id", "text NOT NULL", "Who asked: provider, team and id."),
        ("rule", "text NOT NULL", "Name of the rule that asked; empty where none did."),
        ("body", "bytea NOT NULL", "Of a request that came in: as it came."),
        ("at", "timestamptz NOT NULL", "When it was asked for."),
        ("recorded_at", "timestamptz NOT NULL DEFAULT now()", "When it was recorded, by the database's clock."),
    ],
)
TASKS = [
    ("caused_by", "text", "Public id of the task whose end started this one, as the agent says."),
    ("order_id", "text", "Order that started it (launch_orders.id), as the agent says."),
]


def upgrade() -> None:
    """Add the table and two columns; an older spanpost beside carries none of it."""
    connection = op.get_bind()
    for statement in [
        *ORDERS,
        "CREATE INDEX launch_orders_task ON launch_orders (task_uid) WHERE task_uid IS NOT NULL",
        "CREATE INDEX launch_orders_recorded ON launch_orders (recorded_at)",
        *add_columns("agent_tasks", TASKS),
        "COMMENT ON COLUMN deliveries.checkpoint_id IS"
        " 'What news tells: agent_checkpoints.id; of an order (sinks launch: and hook:) launch_orders.id. Null for a state.'",
    ]:
        connection.exec_driver_sql(statement)
