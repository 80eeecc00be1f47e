"""Checkpoints of agents' tasks, and launch orders, as signed webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

from spanpost import Launcher, LauncherPlugin, Sink, SinkPlugin
from spanpost_webhook.settings import WebhookLauncherSettings, WebhookSettings


def _open(settings: WebhookSettings) -> Sink:
    from spanpost_webhook.sink import WebhookSink  # imported here: httpx is not needed to read the settings

    return WebhookSink(settings)


plugin = SinkPlugin(name="webhook", settings=WebhookSettings, open=_open)


def _open_launcher(name: str, settings: WebhookLauncherSettings) -> Launcher:
    from spanpost_webhook.launcher import WebhookLauncher

    return WebhookLauncher(name, settings)


launcher = LauncherPlugin(kind="webhook", settings=WebhookLauncherSettings, open=_open_launcher)
