"""Interactions of people: Slack, the HTTP API, the board, webhooks."""
