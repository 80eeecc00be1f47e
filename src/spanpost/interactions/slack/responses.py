"""Answers to Slack, and where a payload came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from slack_bolt.response import BoltResponse

from spanpost.interactions.slack import modals
from spanpost.interactions.slack.installations import Installation
from spanpost.text.locales import ENGLISH, Locale


class SlackAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a payload. `word` is the metric's outcome."""

    status: int
    word: str
    body: str = ""
    content_type: str = "text/plain"


class PayloadOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The installation and workspace of a payload, and the loop time by which it must be answered."""

    installation: Installation
    team: str
    until: float


def answer(status: int, word: str, body: dict[str, Any] | None = None) -> BoltResponse:
    """Return an answer; `word` is the metric's outcome, `body` is sent as JSON."""
    headers: dict[str, str | Sequence[str]] = {"x-spanpost": word}
    if body is None:
        return BoltResponse(status=status, body="", headers=headers)
    return BoltResponse(status=status, body=json.dumps(body), headers={**headers, "content-type": "application/json"})


def update(text: str, word: str, locale: Locale = ENGLISH) -> BoltResponse:
    """Return an answer that replaces the open dialogue with one text (mrkdwn, ours)."""
    return answer(200, word, {"response_action": "update", "view": modals.notice(text, locale)})


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, for a log line."""
    with suppress(Exception):
        return str(error).splitlines()[0][:200] if str(error) else ""
    return ""
