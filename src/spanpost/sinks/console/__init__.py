"""What Slack would show, in the terminal."""

from spanpost.sinks.console.sink import ConsoleSink

__all__ = ["ConsoleSink"]
