"""Apps that were installed in workspaces: a table, which older versions do not mind."""

from __future__ import annotations

from alembic import op

from spanpost.ledger.sql.migrations.ddl import table

revision = "1.14"
down_revision = "1.13"

INSTALLATIONS = table(
    "slack_installations",
    "One row per Slack app and workspace in which somebody installed it by /slack/install. Removed ones stay, without tokens.",
    [
        ("client", "text NOT NULL", "The app: its client id at Slack."),
        ("team", "text NOT NULL", "The workspace (T...)."),
        ("enterprise", "text NOT NULL", "The organisation that it is in (E...); empty without one."),
        ("team_name", "text NOT NULL", "Its name, as Slack said at the installation: untrusted text."),
        ("app_id", "text NOT NULL", "The app (A...)."),
        ("bot", "text NOT NULL", "The app's bot there (B...)."),
        ("bot_user", "text NOT NULL", "And that bot's user (U...)."),
        ("scopes", "jsonb NOT NULL", "What the token may do."),
        ("by", "text NOT NULL", "Who installed it: a user id."),
        ("sealed", "bytea", "The tokens, encrypted with desk.oauth.keys. Null once it was removed."),
        ("expires_at", "timestamptz", "When the token ends; null where it does not."),
        ("refreshing_until", "timestamptz", "Until then one process fetches the next token."),
        ("installed_at", "timestamptz NOT NULL DEFAULT clock_timestamp()", "When it was installed last, by the database's clock."),
        ("removed_at", "timestamptz", "When it was removed; null while it is there."),
        ("why", "text NOT NULL DEFAULT ''", "Why it was removed: uninstalled, revoked, or by hand."),
        ("revision", "bigint NOT NULL DEFAULT 1", "Goes up with each writing, so that none overwrites a later one."),
    ],
    rules=["PRIMARY KEY (client, team)"],
)


def upgrade() -> None:
    """Add the table."""
    connection = op.get_bind()
    for statement in INSTALLATIONS:
        connection.exec_driver_sql(statement)
