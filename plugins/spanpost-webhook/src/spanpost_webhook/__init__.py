"""News of agents' tasks as signed webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

from spanpost import Sink, SinkPlugin
from spanpost_webhook.settings import WebhookSettings


def _open(settings: WebhookSettings) -> Sink:
    from spanpost_webhook.sink import WebhookSink  # imported here: httpx is not needed to read the settings

    return WebhookSink(settings)


plugin = SinkPlugin(name="webhook", settings=WebhookSettings, open=_open)
