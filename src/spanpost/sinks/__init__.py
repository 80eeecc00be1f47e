"""Sinks show deliveries to people: Slack, Grafana, the console, plugins."""
