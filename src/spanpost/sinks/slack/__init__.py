"""Slack: one message per task, edited in place, with its checkpoints in the thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanpost.model.errors import ConfigError
from spanpost.sinks.base import Sink
from spanpost.sinks.plugin import SinkPlugin
from spanpost.sinks.slack.settings import SlackSettings

if TYPE_CHECKING:
    from spanpost.sinks.slack.preview import Preview, Transport
    from spanpost.sinks.slack.settings import WorkspaceSettings
    from spanpost.sinks.slack.style import SlackStyle


def slack_style_of(settings: SlackSettings) -> SlackStyle:
    """Return the style of messages without a route."""
    from spanpost.sinks.slack.links import Template
    from spanpost.sinks.slack.style import SlackStyle
    from spanpost.text.locales import locale

    return SlackStyle(
        mention=settings.mention,
        shows_content=settings.content,
        shows_logs=settings.logs,
        is_interactive=bool(settings.interactive),
        has_sessions=settings.stop_button and bool(settings.interactive),
        retries=lambda task: False,  # until `Restarts` sets it
        links=tuple(Template(name, address) for name, address in settings.links.items()),
        rules=settings.redact,
        locale=locale(settings.language),
    )


def _open(settings: SlackSettings) -> Sink:
    from spanpost.sinks.slack.settings import WorkspaceSettings
    from spanpost.sinks.slack.sink import SlackSink, Space

    def space(name: str, one: WorkspaceSettings) -> Space:
        return Space(name, _transport(name, one, settings), one.channel, one, tenant=one.tenant.strip() or None)

    def unlisted(team: str) -> Space:
        return space(team, WorkspaceSettings(team=team, tenant=team))

    return SlackSink(
        own=space("default", settings),
        reconcile_timeout=settings.lookup_wait,
        slack_style=slack_style_of(settings),
        others=[space(name, one) for name, one in settings.workspaces.items()],
        unlisted=unlisted,
        dry=_preview(settings),
        finds_people=settings.find_people,
    )


def _transport(name: str, workspace: WorkspaceSettings, settings: SlackSettings) -> Transport:
    if settings.dry_run or (workspace.token is None and not workspace.team):
        return _preview(settings)
    try:
        from spanpost.sinks.slack.installed import InstalledApi
        from spanpost.sinks.slack.transport import WebApi
    except ImportError as error:
        raise ConfigError(f"slack: {error.name} is missing; install it with: pip install 'spanpost[slack]'") from error

    def web(token: str) -> Transport:
        return WebApi(token, base_url=settings.base_url, timeout=settings.timeout)

    return (
        web(workspace.token.get_secret_value())
        if workspace.token is not None
        else InstalledApi(name, workspace.team, web)
    )


def _preview(settings: SlackSettings) -> Preview:
    from spanpost.sinks.slack.preview import Preview

    file = settings.preview_file
    try:
        return Preview(file.open("a", encoding="utf-8") if file is not None else None)
    except OSError as error:
        raise ConfigError(f"slack.preview_file: {file}: {error.strerror}; name a file that can be written") from error


plugin = SinkPlugin(
    name="slack", settings=SlackSettings, open=_open, edits_checkpoints=True, redacts=True, summarises=True
)
