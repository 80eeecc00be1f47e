"""Slack: one message per task, edited in place, its news in the thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanpost.domain.errors import ConfigError
from spanpost.sinks.base import Sink
from spanpost.sinks.plugin import SinkPlugin
from spanpost.sinks.slack.settings import SlackSettings

if TYPE_CHECKING:
    from spanpost.sinks.slack.preview import Transport


def _open(settings: SlackSettings) -> Sink:
    from spanpost.sinks.slack.sink import SlackSink

    return SlackSink(channel=settings.channel, transport=_transport(settings), rates=settings.rates, settle=settings.patience)


def _transport(settings: SlackSettings) -> Transport:
    if settings.token is not None:
        try:
            from spanpost.sinks.slack.transport import WebApi
        except ImportError as error:
            raise ConfigError(f"slack: {error.name} is missing; install it with: pip install 'spanpost[slack]'") from error
        return WebApi(settings.token.get_secret_value(), base_url=settings.base_url, timeout=settings.timeout)
    from spanpost.sinks.slack.preview import Preview

    file = settings.preview_file
    try:
        return Preview(file.open("a", encoding="utf-8") if file is not None else None)
    except OSError as error:
        raise ConfigError(f"slack.preview_file: {file}: {error.strerror}; name a file that can be written") from error


plugin = SinkPlugin(name="slack", settings=SlackSettings, open=_open)
