"""The section `interactions`: refusals at the start, without any secret; and the objects made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spanpost.interactions.slack.check import wanted
from spanpost.model.errors import ConfigError
from spanpost.runtime.interactions import InteractionsRuntime, apps_of, needs_interactions
from spanpost.settings import SlackOauthSettings, load
from spanpost.sinks.slack.check import SCOPES
from tests.conftest import ROOT
from tests.interactions.store import InteractionStore

RULE = {"actions": ["decide"], "users": ["U01"]}


@pytest.mark.parametrize(
    "interactions",
    [
        {"app_token": "xoxb-secret-1"},
        {"app_token": "xapp-secret 1"},
        {"signing_secret": "secret 1"},
        {"old_signing_secret": "secret"},
        {"rules": [{"actions": []}]},
        {"rules": [{"actions": ["xoxb-secret-1"]}]},
        {"rules": [RULE | {"users": ["xoxb-secret-1"]}]},
        {"rules": [RULE | {"groups": ["U01"]}]},
        {"rules": [RULE | {"channels": ["#secret"]}]},
        {"rules": [RULE | {"emails": ["secret"]}]},
        {"rules": [RULE | {"user": ["U01"]}]},
        {"people": {"alice": "secret"}},
        {"remember": 301},
        {"apps": [{"token": "xapp-secret-1", "signing_secret": "s"}]},
        {"apps": [{"signing_secret": "s"}]},
    ],
)
def test_mistakes_are_refused_at_the_start(clean_environment: Path, interactions: dict[str, Any]) -> None:
    """Each mistake names its place, and never the value, which may be a misplaced secret."""
    with pytest.raises(ConfigError) as caught:
        load(interactions=interactions)
    assert "interactions" in str(caught.value)
    assert "secret-1" not in str(caught.value)
    assert "secret 1" not in str(caught.value)


def test_an_app_needs_its_bot_token_and_a_way_to_receive(clean_environment: Path) -> None:
    """An app without a bot token, or without a way to receive, is refused with the next step."""
    with pytest.raises(ConfigError, match="SPANPOST_SLACK__TOKEN"):
        apps_of(load(interactions={"app_token": "xapp-1"}))
    with pytest.raises(ConfigError, match="app_token nor signing_secret"):
        apps_of(load(interactions={"apps": [{"token": "xoxb-1"}]}))


def test_a_resolver_must_be_installed(clean_environment: Path) -> None:
    """A rule with a resolver that is not installed stops the start."""
    settings = load(
        slack={"token": "xoxb-1"}, interactions={"app_token": "xapp-1", "rules": [RULE | {"resolver": "okta"}]}
    )
    with pytest.raises(ConfigError, match="'okta': not installed"):
        InteractionsRuntime(settings, InteractionStore(), lambda recorded: None)


@pytest.mark.parametrize(
    ("interactions", "in_gateway", "installed_apps"),
    [
        (None, False, False),
        ({"rules": [RULE]}, False, False),
        ({"signing_secret": "s"}, True, False),
        ({"app_token": "xapp-1"}, True, True),
        ({"app_token": "xapp-1", "enabled": False}, False, False),
        ({"apps": [{"token": "xoxb-2", "app_token": "xapp-2"}]}, True, True),
    ],
)
def test_which_processes_have_interactions(
    clean_environment: Path, interactions: Any, in_gateway: bool, installed_apps: bool
) -> None:
    """HTTP needs the gateway; Socket Mode works in any process."""
    settings = load(interactions=interactions) if interactions is not None else load()
    assert (needs_interactions(settings, is_gateway=True), needs_interactions(settings, is_gateway=False)) == (
        in_gateway,
        installed_apps,
    )


async def test_rules_and_secrets_are_read_again(clean_environment: Path) -> None:
    """A reload changes rules, signing secrets and tokens; an app that receives in another way needs a restart, and
    nothing has changed then.
    """
    base: dict[str, Any] = {"slack": {"token": "xoxb-1"}}
    interactions_runtime = InteractionsRuntime(
        load(**base, interactions={"signing_secret": "one", "rules": [RULE]}), InteractionStore(), lambda recorded: None
    )
    (one,) = interactions_runtime.app.installations
    base = {"slack": {"token": "xoxb-2"}}
    interactions_runtime.reloading(load(**base, interactions={"signing_secret": "two", "old_signing_secret": "one"}))()
    assert (one.secrets, one.interactions.rules.rules, one.token) == (("two", "one"), (), "xoxb-2")
    with pytest.raises(ConfigError, match="restart"):
        interactions_runtime.reloading(load(**base, interactions={"app_token": "xapp-1", "rules": [RULE]}))
    assert (one.secrets, one.interactions.rules.rules) == (("two", "one"), ())
    await interactions_runtime.close()


def test_rules_are_made_as_they_are_written(clean_environment: Path) -> None:
    """Every field of a rule is kept, and domains and people are compared without regard to case."""
    rule = RULE | {"tenant": "t", "agent": "a", "topic": "o", "environment": "e", "risk": "high", "groups": ["S01"]}
    rule |= {
        "channels": ["here", "C01"],
        "emails": ["a@b.example"],
        "requester": True,
        "not_requester": True,
        "resolver": "okta",
        "launcher": "nightly",
        "roles": ["operator"],
    }
    settings = load(interactions={"rules": [rule], "people": {"Alice ": "U01"}, "email_domains": ["@Acme.Example"]})
    assert settings.interactions is not None
    rules = settings.interactions
    (made,) = rules.rules
    values = {name: getattr(made, name) for name in type(made).model_fields}
    assert {
        name: list(value) if isinstance(value, (tuple, frozenset)) else value for name, value in values.items()
    } == rule
    assert (dict(rules.people), rules.email_domains) == ({"alice": "U01"}, ("acme.example",))


@pytest.mark.parametrize(
    "name", ["app-manifest.yaml", "app-manifest-http.yaml", "app-manifest-oauth.yaml", "app-manifest-agent.yaml"]
)
def test_the_manifests_ask_for_what_is_used(clean_environment: Path, name: str) -> None:
    """The manifests request exactly the scopes of rules and sink, and the events of the connection in use."""
    manifest = yaml.safe_load((ROOT / "docs" / "slack" / name).read_text())
    rule = {"actions": ["decide"], "groups": ["S01"], "channels": ["here"], "emails": ["a@b.example"]}
    settings = load(interactions={"rules": [rule]})
    assert settings.interactions is not None
    needed = wanted(settings.interactions, hears_replies=True, joins=False, unfurls=True)
    of_sink = {scope for scope, _ in SCOPES} | {"files:write"}
    of_agent = {"assistant:write"} if "agent" in name else set()
    assert set(manifest["oauth_config"]["scopes"]["bot"]) == set(needed) | of_sink | of_agent
    assert set(SlackOauthSettings.model_fields["scopes"].default) == set(needed) | of_sink
    declared = manifest["settings"]
    further = {"oauth": ["app_uninstalled", "tokens_revoked"], "agent": ["agent_session_stopped"]}.get(name[13:18], [])
    assert declared["event_subscriptions"]["bot_events"] == [
        "message.channels",
        "message.groups",
        "app_mention",
        "link_shared",
        "app_home_opened",
        *further,
    ]
    assert ("agent_view" in manifest["features"]) is ("agent" in name)
    leads = ["https://spanpost.example.com/slack/oauth_redirect"] if "oauth" in name else None
    assert manifest["oauth_config"].get("redirect_urls") == leads
    assert manifest["features"]["app_home"]["home_tab_enabled"] is True
    assert manifest["features"]["unfurl_domains"] == ["agents.example.com"]
    assert declared["interactivity"]["is_enabled"] is True
    is_http = "http" in name or "oauth" in name
    assert declared["socket_mode_enabled"] is not is_http
    [command] = manifest["features"]["slash_commands"]
    assert (command["command"], command["should_escape"]) == ("/agents", False)
    urls = {
        declared["interactivity"].get("request_url"),
        declared["event_subscriptions"].get("request_url"),
        command.get("url"),
    }
    assert urls == ({"https://spanpost.example.com/slack/events"} if is_http else {None})
