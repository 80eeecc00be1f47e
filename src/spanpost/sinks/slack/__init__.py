"""Slack: one message per task, edited in place, its news in the thread."""

from __future__ import annotations

import logging

from spanpost.domain.errors import ConfigError
from spanpost.sinks.base import Sink
from spanpost.sinks.plugin import SinkPlugin
from spanpost.sinks.slack.settings import SlackSettings

log = logging.getLogger("spanpost.slack")


def _open(settings: SlackSettings) -> Sink:
    from spanpost.sinks.slack.sink import Preview, SlackSink

    file = settings.preview_file
    try:
        out = file.open("a", encoding="utf-8") if file is not None else None
    except OSError as error:
        raise ConfigError(f"slack.preview_file: {file}: {error.strerror}; name a file that can be written") from error
    if settings.token is not None:
        log.warning("slack: this version does not post yet; what it would post is written to %s", file or "stderr")
    return SlackSink(channel=settings.channel, transport=Preview(out))


plugin = SinkPlugin(name="slack", settings=SlackSettings, open=_open)
