"""Checkpoints of agents' tasks through `apprise`: e-mail, Teams, Discord, Telegram, PagerDuty and many more."""

from __future__ import annotations

from spanpost import Sink, SinkPlugin
from spanpost_apprise.settings import AppriseSettings


def _open(settings: AppriseSettings) -> Sink:
    from spanpost_apprise.sink import AppriseSink  # imported here: apprise takes its time

    return AppriseSink(settings)


plugin = SinkPlugin(name="apprise", settings=AppriseSettings, open=_open)
