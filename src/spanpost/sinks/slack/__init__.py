"""Slack: one message per task, edited in place, its news in the thread."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spanpost.domain.errors import ConfigError
from spanpost.sinks.base import Sink
from spanpost.sinks.plugin import SinkPlugin
from spanpost.sinks.slack.settings import SlackSettings

if TYPE_CHECKING:
    from spanpost.sinks.slack.manner import Manner
    from spanpost.sinks.slack.preview import Preview, Transport
    from spanpost.sinks.slack.settings import WorkspaceSettings


def manner_of(settings: SlackSettings) -> Manner:
    """Return how messages look where no route says more."""
    from spanpost.sinks.slack.links import Template
    from spanpost.sinks.slack.manner import Manner
    from spanpost.tongues import tongue

    return Manner(
        mention=settings.mention,
        shows_content=settings.content,
        shows_logs=settings.logs,
        is_interactive=bool(settings.interactive),
        retries=lambda task: False,  # until somebody says otherwise (`Restarts`)
        links=tuple(Template(name, address) for name, address in settings.links.items()),
        patterns=tuple(re.compile(one) for one in settings.redact),
        tongue=tongue(settings.language),
    )


def _open(settings: SlackSettings) -> Sink:
    from spanpost.sinks.slack.sink import SlackSink, Space

    return SlackSink(
        channel=settings.channel,
        transport=_transport(settings, settings),
        rates=settings.rates,
        settle=settings.patience,
        manner=manner_of(settings),
        others=[Space(name, _transport(one, settings), one.channel, one.rates) for name, one in settings.workspaces.items()],
        dry=_preview(settings),
    )


def _transport(workspace: WorkspaceSettings, settings: SlackSettings) -> Transport:
    if workspace.token is None or settings.dry_run:
        return _preview(settings)
    try:
        from spanpost.sinks.slack.transport import WebApi
    except ImportError as error:
        raise ConfigError(f"slack: {error.name} is missing; install it with: pip install 'spanpost[slack]'") from error
    return WebApi(workspace.token.get_secret_value(), base_url=settings.base_url, timeout=settings.timeout)


def _preview(settings: SlackSettings) -> Preview:
    from spanpost.sinks.slack.preview import Preview

    file = settings.preview_file
    try:
        return Preview(file.open("a", encoding="utf-8") if file is not None else None)
    except OSError as error:
        raise ConfigError(f"slack.preview_file: {file}: {error.strerror}; name a file that can be written") from error


plugin = SinkPlugin(name="slack", settings=SlackSettings, open=_open, edits_news=True, summarises=True)
