"""Slack: one message per task, edited in place, its news in the thread."""

from spanpost.sinks.slack.sink import SlackSink

__all__ = ["SlackSink"]
