"""Findings of `spanpost check` about Slack, and Slack settings that are refused."""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path

import pytest

from spanpost.cli.examination import _run_check, _sinks
from spanpost.model.errors import ConfigError
from spanpost.settings import load
from spanpost.sinks import registry
from spanpost.sinks.base import Finding
from spanpost.sinks.slack.check import SCOPES
from spanpost.sinks.slack.preview import Preview
from spanpost.sinks.slack.settings import SlackSettings
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.transport import WebApi
from spanpost.testing.fake_slack import FakeSlack


@pytest.fixture
async def slack():
    async with FakeSlack() as fake:
        yield fake


async def examined(slack: FakeSlack, channel: str = "#agents") -> list[Finding]:
    sink = SlackSink(transport=WebApi(slack.token, base_url=slack.url), channel=channel)
    try:
        return await sink.check()
    finally:
        await sink.close()


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


async def test_all_is_well(slack):
    """Token, scopes and channel are checked, by name or id, and nothing is posted or changed."""
    for channel in ("#agents", slack.workspace.channel("agents").id):
        findings = await examined(slack, channel)
        assert bad(findings) == []
        assert findings[0].found == "the token is spanpost of Acme"
        assert findings[-1].found == "the app is in #agents"
    assert {asked.method for asked in slack.asked} == {"auth.test", "conversations.list", "conversations.info"}


async def test_a_token_that_is_no_good(slack):
    """A revoked token is one finding, with a next step."""
    slack.refuse("token_revoked")
    [finding] = await examined(slack)
    assert not finding.ok
    assert "SPANPOST_SLACK__TOKEN" in finding.cure


async def test_scopes_that_are_missing(slack):
    """Without chat:write nothing works; without another scope check names what is lost."""
    slack.remove_scope("channels:history")
    slack.remove_scope("chat:write")
    findings = await examined(slack)
    [missing] = bad(findings)
    assert "chat:write" in missing.found
    assert any("channels:history" in f.found and "looked up" in f.found for f in findings)


@pytest.mark.proves("settings", "channels")
async def test_channels_that_cannot_be_posted_in(slack):
    """Not a member, archived, unknown, inaccessible by that id: each is found with its remedy."""
    slack.kick()
    [outside] = bad(await examined(slack))
    assert "/invite" in outside.cure
    slack.invite()
    slack.archive()
    [archived] = bad(await examined(slack, slack.workspace.channel("agents").id))
    assert "archived" in archived.found
    for unknown in ("#nowhere", "C0NOWHERE"):
        [nowhere] = bad(await examined(slack, unknown))
        assert nowhere.cure


async def test_the_channels_of_routes_are_looked_at(slack):
    """Each channel of a route is checked once; all names are found in one list."""
    for i in range(5):
        slack.workspace.add_channel(f"room{i}", members=("U0SPANPOST",) if i else ())
    sink = SlackSink(transport=WebApi(slack.token, base_url=slack.url))
    findings = await sink.check(["", "#agents", "acme/#agents", *(f"#room{i}" for i in range(5))])
    await sink.close()
    [outside] = bad(findings)
    assert "#room0" in outside.found
    assert [f.found for f in findings if f.found.startswith("the app is in")] == [
        f"the app is in #{name}" for name in ("agents", "room1", "room2", "room3", "room4")
    ]
    assert len(slack.calls("conversations.list")) == 1


def test_the_command_passes_the_routes_addresses(clean_environment, monkeypatch):
    """`spanpost check` passes a sink the addresses of its own routes, and its default."""
    asked = []

    async def check(self, addresses=("",)):
        asked.extend(addresses)
        return [Finding(ok=False, found="x", cure="y")]

    monkeypatch.setattr(SlackSink, "check", check)
    routes = [
        {"sink": "slack", "address": "#b"},
        {"sink": "slack", "address": "#a"},
        {"sink": "console", "address": "c"},
    ]
    found = [
        f for f in _sinks(load(slack={"channel": "#x"}, console={}, routes=routes), sends=False) if f.name == "slack"
    ]
    assert asked == ["", "#a", "#b"]
    assert (found[1].ok, found[1].finding, found[1].next_step) == (False, "x", "y")


async def test_a_channel_that_may_not_be_looked_at(slack):
    """Without the scopes to read, posting may still work: a finding that is no failure."""
    slack.remove_scope("channels:read")
    findings = await examined(slack, slack.workspace.channel("agents").id)
    assert bad(findings) == []
    assert any("channels:read" in finding.cure for finding in findings)


async def test_slack_that_is_away():
    """An unreachable Slack is the finding."""
    async with FakeSlack() as gone:
        pass
    [finding] = await examined(gone)
    assert not finding.ok


async def test_without_a_token():
    """A preview passes, with a hint on how to post."""
    [finding] = await SlackSink(transport=Preview(io.StringIO())).check()
    assert finding.ok
    assert "SPANPOST_SLACK__TOKEN" in finding.cure


async def test_a_check_that_raises_or_has_none_ends_nothing():
    """A foreign sink whose check raises is a finding; one without a check is none."""

    class Plain:
        async def close(self):
            pass

    class Broken(Plain):
        name = "broken"

        async def check(self, addresses):
            raise RuntimeError("oops")

    assert await _run_check(None, Plain().close) == ()
    [finding] = await _run_check(partial(Broken().check, [""]), Broken().close)
    assert not finding.ok
    assert "RuntimeError: oops" in finding.found


def test_the_command_asks_the_sinks(clean_environment, monkeypatch):
    """`spanpost check` lists a sink's findings below its own line."""
    monkeypatch.setenv("SPANPOST_SLACK__CHANNEL", "#agents")
    found = [finding for finding in _sinks(load(), sends=False) if finding.name == "slack"]
    assert [finding.ok for finding in found] == [True, True]
    assert "preview" in found[1].finding


@pytest.mark.parametrize(
    "given",
    [
        {"token": "xapp-1-A0-canary"},
        {"token": "xoxb-canary canary"},
        {"token": "xoxb-cänary"},
        {"base_url": "slack.com/api"},
        {"base_url": "https://user:canary@slack.com/api/"},
        {"base_url": "https://slack.com:99999/api/"},
        {"timeout": 0},
        {"timeout": 60},
        {"edits_per_minute": 0},
        {"reconcile_timeout": -1},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given, clean_environment):
    """Impossible settings are refused at the start, with the setting's name and no secret."""
    with pytest.raises(ConfigError) as caught:
        load(slack=given)
    assert next(iter(given)) in str(caught.value).lower()
    assert "canary" not in str(caught.value)


def test_the_token_is_shown_nowhere():
    """Settings, sink and transport do not show the token when they are printed."""
    settings = SlackSettings(token="  xoxb-canary  ")
    assert settings.token is not None
    assert settings.token.get_secret_value() == "xoxb-canary"
    sink = registry.open_sink("slack", settings)
    assert "canary" not in repr(settings) + repr(sink) + repr(vars(sink)) + repr(vars(vars(sink)["_own"].transport))


def test_settings_come_to_the_sink():
    """Rates, settling time and channel are the configured ones; the settling time follows the time-out."""
    settings = SlackSettings(token="xoxb-x", timeout=5, edits_per_minute=12, channel=" C012345 ")
    assert settings.lookup_wait.total_seconds() == 40
    sink = registry.open_sink("slack", settings)
    from spanpost.model.deliveries import SinkCall

    keys = {rate_limit.key: rate_limit for rate_limit in sink.rate_limits("", SinkCall.EDIT)}
    assert keys["slack:default:chat.update"].rate == pytest.approx(0.2)
    assert "slack:default/C012345" in keys


def test_the_manifest_asks_for_the_scopes_that_are_used():
    """The documented app manifest has the scopes that check expects, and no other."""
    page = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "post-to-slack.md").read_text()
    manifest = page.split("```yaml")[1].split("```")[0]
    assert re.findall(r"^ +- (\S+)$", manifest, re.MULTILINE) == [scope for scope, _ in SCOPES]
