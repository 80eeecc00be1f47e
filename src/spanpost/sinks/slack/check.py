"""Checks of ``spanpost check``: the token, its scopes, and whether the app can post in the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spanpost.model.errors import DeliveryError, DeliveryRefused
from spanpost.sinks.base import Finding
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest, Talk
from spanpost.sinks.slack.errors import meaning
from spanpost.sinks.slack.lookup import Memory, channel_id
from spanpost.text.sanitise import line

NO_TOKEN: Final = Finding(
    ok=True,
    found="no token: messages are written to the preview",
    cure="to post, set SPANPOST_SLACK__TOKEN",
)
_LATER: Final = "see whether this machine reaches Slack (network, proxy, SPANPOST_SLACK__BASE_URL), and try again"
#: Scopes and what happens without each. The first is required, the others are useful.
SCOPES: Final = (
    ("chat:write", "nothing can be posted"),
    (
        "channels:history",
        "an uncertain message cannot be looked up in public channels, and becomes a dead letter",
    ),
    ("groups:history", "the same in private channels"),
    ("channels:read", "a public channel must be named by its id"),
    ("groups:read", "a private channel must be named by its id"),
    ("files:write", "only the end of a long log is shown"),
    ("users:read.email", "a person for whom a task runs is not mentioned by their email address"),
)


def check(places: Sequence[SlackPlace], memory: Memory) -> Talk[list[Finding]]:
    """Check the token, its scopes and the channels."""
    request = SlackRequest(method="auth.test")
    response = yield request
    failed = meaning(response, request, places[0])
    if failed is not None:
        return [of_error(failed)]
    who = " of ".join(line(str(response.body.get(key) or "?"), 80) for key in ("user", "team"))
    findings = [Finding(ok=True, found=f"the token is {who}"), *_scopes(response)]
    for place in dict.fromkeys(places):
        findings.append((yield from _check_place(place, memory)))
    return findings


def _check_place(place: SlackPlace, memory: Memory) -> Talk[Finding]:
    try:
        channel = yield from channel_id(place, memory)
    except DeliveryError as error:
        return _unseen(place, error)
    if not channel:
        cure = "mend the name; of a private channel, invite the app and set the channel's id (C...)"
        return Finding(ok=False, found=f"no channel {line(place.channel, 80)} is known to the app", cure=cure)
    request = SlackRequest(method="conversations.info", arguments={"channel": channel})
    response = yield request
    return _channel(response, request, place)


def _unseen(place: SlackPlace, error: DeliveryError) -> Finding:
    """A channel that cannot be read can still accept posts."""
    if isinstance(error, DeliveryRefused) and error.reason == "missing_scope":
        return Finding(ok=True, found=f"{place.channel} could not be looked at, only posted in", cure=error.cure)
    return of_error(error)


def _scopes(response: Response) -> list[Finding]:
    if response.scopes is None:
        return [Finding(ok=True, found="the answer names no scopes")]
    missing = [(scope, without) for scope, without in SCOPES if scope not in response.scopes]
    if not missing:
        return [Finding(ok=True, found="the token has all scopes that are used")]
    cure = "add it to the app (OAuth & Permissions) and install the app again"
    return [
        Finding(ok=scope != "chat:write", found=f"without the scope {scope}, {without}", cure=cure)
        for scope, without in missing
    ]


def _channel(response: Response, request: SlackRequest, place: SlackPlace) -> Finding:
    error = meaning(response, request, place)
    if error is not None:
        return _unseen(place, error)
    channel = response.body.get("channel")
    channel = channel if isinstance(channel, dict) else {}
    name = f"#{line(str(channel.get('name') or place.channel), 80)}"
    if channel.get("is_archived"):
        return Finding(ok=False, found=f"{name} is archived", cure="unarchive it, or set another channel")
    if not (channel.get("is_member") or channel.get("is_im")):
        return Finding(ok=False, found=f"the app is not in {name}", cure=f"invite it: /invite @<app> in {name}")
    return Finding(ok=True, found=f"the app is in {name}")


def of_error(error: DeliveryError) -> Finding:
    """Return an error as a finding."""
    return Finding(
        ok=False, found=line(str(error), 300), cure=error.cure if isinstance(error, DeliveryRefused) else _LATER
    )
