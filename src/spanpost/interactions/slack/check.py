"""Slack part of ``spanpost check``: whether the tokens work, and what each missing scope prevents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from spanpost.interactions.authorization import ACTIONS, DECIDE, HERE, AuthorizationRules
from spanpost.interactions.slack.installations import Installation
from spanpost.interactions.slack.web import Trouble
from spanpost.model.findings import Finding
from spanpost.text.sanitise import line

_AGAIN: Final = "add it to the app (OAuth & Permissions) and install the app again"


def wanted(rules: AuthorizationRules, *, hears_replies: bool, joins: bool, unfurls: bool) -> dict[str, str]:
    """Return the needed scopes, and what is impossible without each."""
    needs = {
        "chat:write": "people are not told the result of their click",
        "users:read": "people cannot be identified, so every act is refused",
    }
    if any(rule.groups for rule in rules.rules):
        needs["usergroups:read"] = "rules with groups allow no one"
    if any(rule.emails for rule in rules.rules) or any("@" in who for who in rules.people.values()):
        needs["users:read.email"] = (
            "rules with emails allow no one, and the person for whom a task runs is known by user id only"
        )
    if any(rule.channels for rule in rules.rules):
        needs["channels:read"] = "rules with channels allow no one"
    if any(HERE in rule.channels for rule in rules.rules):
        needs["groups:read"] = "rules with private channels allow no one"
    needs["commands"] = "the command /agents is not there"
    needs["app_mentions:read"] = "messages that mention the app are not received"
    if hears_replies:
        needs["channels:history"] = "replies in threads of public channels are not received"
        needs["groups:history"] = "replies in threads of private channels are not received"
    if unfurls:
        needs["links:read"] = needs["links:write"] = "links to the board are shown without the card of their task"
    if joins:
        needs["channels:join"] = "public channels are not joined"
    return needs


#: Nothing works without these; the others only limit what works.
_ALL: Final = ("chat:write", "users:read")


def of_rules(rules: AuthorizationRules) -> Iterable[Finding]:
    """Check the rules: actions that no one may do, and rules that allow no one."""
    if not rules.rules:
        yield Finding(
            ok=False,
            found="no rule allows anything, so every act is refused",
            cure="add a [[interactions.rules]] to spanpost.toml",
        )
        return
    named = {action for rule in rules.rules for action in rule.actions}
    if DECIDE in named:
        named |= {"approve", "deny", "choose"}
    if missing := [
        action for action in ACTIONS if action not in named and action not in ("pause", "resume", "retry", "start")
    ]:
        yield Finding(
            ok=True,
            found=f"no rule names {', '.join(missing)}: no one may do it",
            cure="add them to the actions of a [[interactions.rules]]",
        )
    for number, rule in enumerate(rules.rules, 1):
        if not (rule.users or rule.groups or rule.channels or rule.emails or rule.requester or rule.resolver):
            yield Finding(ok=True, found=f"rule {number} names no people, so it allows no one")


async def check_app(one: Installation, *, hears_replies: bool, joins: bool, unfurls: bool) -> list[Finding]:
    """Check one app by calls of Slack's API. Changes nothing."""
    seen: list[Finding] = []
    try:
        data, scopes = await one.web.ask("auth.test")
        who = " of ".join(line(str(data.get(key) or "?"), 80) for key in ("user", "team"))
        seen.append(Finding(ok=True, found=f"the bot token is {who}"))
    except Trouble as trouble:
        return [
            Finding(
                ok=False,
                found=f"the bot token cannot be used: {trouble}",
                cure="see whether Slack is reached, or install the app again",
            )
        ]
    needs = wanted(one.interactions.rules, hears_replies=hears_replies, joins=joins, unfurls=unfurls)
    if scopes is None:
        seen.append(Finding(ok=True, found="the answer names no scopes"))
    else:
        seen += [
            Finding(ok=scope not in _ALL, found=f"without the scope {scope}, {lack}", cure=_AGAIN)
            for scope, lack in needs.items()
            if scope not in scopes
        ]
    if one.app_token:
        seen.append(await _socket(one))
    if one.secrets:
        more = " (two signing secrets hold; take the old one back when it is replaced)" if len(one.secrets) > 1 else ""
        seen.append(Finding(ok=True, found=f"/slack/events takes signed requests{more}"))
    return seen


async def _socket(one: Installation) -> Finding:
    try:
        await one.web.call("apps.connections.open", token=one.app_token)
    except Trouble as trouble:
        cure = "make an app-level token with the scope connections:write, and turn Socket Mode on in the app's settings"
        return Finding(ok=False, found=f"Socket Mode cannot be used: {trouble}", cure=cure)
    return Finding(ok=True, found="Socket Mode can be used")
