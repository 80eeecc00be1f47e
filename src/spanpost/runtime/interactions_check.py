"""Check of the interactions, without receiving any."""

from __future__ import annotations

from spanpost.model.findings import Finding
from spanpost.runtime.interactions import InteractionsRuntime
from spanpost.settings import Settings


async def examine(settings: Settings) -> list[Finding]:
    """Check the rules, and ask Slack about the apps; changes nothing. Raises `ConfigError`."""
    section = settings.interactions
    assert section is not None
    from spanpost.store.memory import MemoryStore

    interactions_runtime = InteractionsRuntime(settings, MemoryStore(), lambda recorded: None)
    from spanpost.interactions.slack.check import check_app, of_rules

    seen = list(of_rules(section))
    try:
        for one in interactions_runtime.app.installations:
            seen += await check_app(
                one,
                hears_replies=section.replies != "off",
                joins=section.join_channels,
                unfurls=bool(settings.api.public_url),
            )
        if interactions_runtime.has_http and (
            settings.gateway is None or not settings.gateway.enabled or settings.gateway.http_port < 0
        ):
            cure = (
                "`spanpost run` serves /slack/events on its HTTP port; where there is none, use Socket Mode (app_token)"
            )
            seen.append(Finding(ok=True, found="a signing secret is used by the gateway alone", cure=cure))
        return seen
    finally:
        await interactions_runtime.close()
