"""Installed workspaces: their tokens are looked up, and they get their own tenant's tasks alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from spanpost.encryption import new_key
from spanpost.model.deliveries import SinkCall
from spanpost.model.errors import ConfigError, DeliveryRefused, Rejected, StoreUnavailable, Unavailable
from spanpost.runtime.assembly import open_sinks, routes_of
from spanpost.runtime.workspaces import refuse_unfit, workspaces_of
from spanpost.settings import load
from spanpost.sinks.base import NoToken
from spanpost.sinks.slack.sink import SlackSink
from spanpost.store.memory import MemoryStore
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.nouns import a_delivery, a_task

pytestmark = pytest.mark.usefixtures("clean_environment")

TEAM = "T0222BBBB"
ACME = {"acme": {"team": TEAM, "tenant": "acme", "channel": "#agents"}}
OAUTH = {"client_id": "1.2", "client_secret": "s", "public_url": "https://agents.example.com", "key": new_key()}


class Tokens:
    """Tokens by team; the requests for them, and an error to raise instead."""

    def __init__(self, **tokens: str) -> None:
        self.tokens = tokens
        self.asked: list[tuple[str, str]] = []
        self.away = False

    async def token(self, team: str, *, refused: str = "") -> str:
        self.asked.append((team, refused))
        if self.away:
            raise StoreUnavailable("away")
        if team not in self.tokens:
            raise NoToken("the app is not installed there", "install it: https://agents.example.com/slack/install")
        return self.tokens[team]


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as slack:
        yield slack


def opened(slack: FakeSlack, **more: Any) -> SlackSink:
    sink = open_sinks(load(slack={"base_url": slack.url, "preview_file": "/dev/null", "workspaces": ACME} | more))[
        "slack"
    ]
    assert isinstance(sink, SlackSink)
    return sink


ACMES = a_delivery(replace(a_task("hers"), tenant="acme"), sink="slack", address="acme/")


async def test_a_delivery_waits_until_the_app_is_installed_and_after_its_removal(slack: FakeSlack) -> None:
    """Without an installation the workspace waits with a hint; installed, the same sink posts.

    A database that is down says nothing about the workspace.
    """
    sink, tokens = opened(slack), Tokens()
    with pytest.raises(DeliveryRefused, match="no source of its token"):
        await sink.deliver(ACMES)
    sink.installed(tokens)
    with pytest.raises(DeliveryRefused) as caught:
        await sink.deliver(ACMES)
    assert (caught.value.reason, caught.value.closes) == ("not_installed", "slack:acme")
    assert "https://agents.example.com/slack/install" in caught.value.cure
    tokens.away = True
    with pytest.raises(Unavailable):
        await sink.deliver(ACMES)
    tokens.away = False
    tokens.tokens[TEAM] = slack.token
    receipt = await sink.deliver(ACMES)
    assert len(slack.messages()) == 1
    assert receipt.ref["ts"] == slack.messages()[0]["ts"]
    assert sink.rate_limits("acme/", SinkCall.POST)[0].key == "slack:acme"
    await sink.close()


async def test_a_newer_token_is_tried_at_once(slack: FakeSlack) -> None:
    """When Slack refuses a token and a newer one exists, the delivery uses that; otherwise it waits."""
    sink, tokens = opened(slack), Tokens(T0222BBBB="xoxb-old")
    slack.workspace.add_token("xoxb-old").refused = "token_revoked"
    slack.workspace.add_token("xoxb-new")
    sink.installed(tokens)
    with pytest.raises(DeliveryRefused) as caught:
        await sink.deliver(ACMES)
    assert (caught.value.reason, tokens.asked[-1]) == ("token_revoked", (TEAM, "xoxb-old"))
    tokens.tokens[TEAM] = "xoxb-new"
    await sink.deliver(ACMES)
    assert len(slack.messages()) == 1
    await sink.close()


async def test_no_workspace_gets_another_tenants_tasks(slack: FakeSlack) -> None:
    """Another tenant's tasks reach no workspace: not by route, not by an older delivery's address."""
    sink = opened(slack)
    sink.installed(Tokens(T0222BBBB=slack.token))
    with pytest.raises(Rejected) as caught:
        await sink.deliver(a_delivery(a_task("theirs"), sink="slack", address="acme/#agents"))
    assert caught.value.reason == "tenant"
    assert slack.asked == []
    await sink.close()

    def routes(*given: dict[str, Any], **slack: Any) -> list[Any]:
        return list(
            routes_of(
                load(slack={"workspaces": ACME} | slack, routes=[{"sink": "slack"} | one for one in given])
            ).routes
        )

    first, second, rest = routes({"address": "acme/#a"}, {"address": "acme/#b", "tenant": ["a*", "b"]}, tenant="own")
    assert (first.tenant, second.tenant, rest.tenant) == ("acme", "acme", "own")
    assert not first.takes(a_task("theirs"))
    (unlisted, _) = routes({"address": "T0333CCCC/#x"})
    assert unlisted.tenant == "T0333CCCC"
    for wrong, word in (
        ({"address": "acme/#a", "tenant": "beta"}, "beta"),
        ({"address": f"{TEAM}/#a"}, "listed as 'acme'"),
    ):
        with pytest.raises(ConfigError, match=word):
            routes(wrong)


@pytest.mark.parametrize(
    ("slack", "word"),
    [
        ({"workspaces": {"a": {"team": TEAM}}}, "tenant"),
        ({"workspaces": {"a": {"team": TEAM, "tenant": "x", "token": "xoxb-1"}}}, "either token or team"),
        ({"workspaces": {"a": {"team": TEAM, "tenant": "x"}, "b": {"team": TEAM, "tenant": "y"}}}, "two"),
        ({"workspaces": {"a": {"team": "acme", "tenant": "x"}}}, "team"),
        ({"workspaces": {"a": {"team": TEAM, "tenant": "x*"}}}, "tenant"),
    ],
)
def test_an_incomplete_workspace_is_refused(slack: dict[str, Any], word: str) -> None:
    """Refused are a team without its tenant, with a token, twice, or invalid."""
    with pytest.raises(ConfigError, match=word):
        load(slack=slack)


def test_where_nobody_can_install_anything_no_workspace_is_to_be_installed() -> None:
    """A team without `slack_oauth`, a route to an unlisted team and half an app are refused at the start."""
    with pytest.raises(ConfigError, match="slack_oauth"):
        workspaces_of(load(slack={"workspaces": ACME}), MemoryStore())
    unlisted = [{"sink": "slack", "address": "T0333CCCC/#x"}]
    for more in ({}, {"slack_oauth": OAUTH}):
        with pytest.raises(ConfigError, match="T0333CCCC"):
            refuse_unfit(load(slack={"preview_file": "/dev/null"}, routes=unlisted, **more))
    refuse_unfit(load(slack={"preview_file": "/dev/null"}, routes=unlisted, slack_oauth=OAUTH | {"allow": "any"}))
    for wrong, word in (
        ({"client_id": ""}, "client_id"),
        ({"public_url": "http://agents.example.com"}, "https"),
        ({"key": "short"}, "no key"),
        ({"old_keys": ["short"]}, "no key"),
        ({"key": None, "old_keys": [new_key()]}, "set that first"),
        ({"enterprises": ["acme"]}, "organisation"),
        ({"scopes": ["chat write"]}, "scope"),
    ):
        with pytest.raises(ConfigError, match=word) as caught:
            load(slack_oauth=OAUTH | wrong)
        assert str(OAUTH["key"]) not in str(caught.value)
