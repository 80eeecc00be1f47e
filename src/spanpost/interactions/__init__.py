"""What people do: Slack, the HTTP API, the board, webhooks."""
