"""Alerts in messages that other apps post in Slack: which message is one, and what it says. Pure.

A pattern describes the first line of a message: ``*`` is any text, ``{name}`` the alert's name. An alert is known by
workspace, channel and time of its message: the message is the root of the thread in which it is answered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from spanpost.model.alerts import Alert
from spanpost.model.ids import named

SLACK: Final = "slack"
#: Characters of a first line, and of a text, that are read.
_LINE, _TEXT = 300, 4_000
_WILD: Final = re.compile(r"(\*|\{name\})")
#: A workspace of a route, by its id.
_TEAM: Final = re.compile(r"T[A-Z0-9]{2,30}")


@dataclass(frozen=True, kw_only=True)
class ChannelAlerts:
    """The messages of one channel that are alerts."""

    channel: str
    apps: tuple[str, ...]
    firing: str
    resolved: str = ""
    severity: str = "warning"


def mistake_in(pattern: str) -> str:
    """Return what is wrong with a pattern; empty: nothing."""
    parts = _WILD.split(pattern)
    if parts.count("{name}") != 1:
        return "must hold {name} once"
    if any(not literal for literal in parts[2:-1:2]):
        return "needs a text between two placeholders"
    if "{" in (rest := "".join(parts[::2])) or "}" in rest:
        return "knows the placeholders * and {name} alone"
    return ""


def name_in(pattern: str, text: str) -> str:
    """Return the name that the first line of a text has by a pattern; empty: it does not match. Linear."""
    line = text.strip().split("\n", 1)[0][:_LINE].strip()
    parts = _WILD.split(pattern)
    if not line.startswith(parts[0]):
        return ""
    at, found = len(parts[0]), ""
    for i in range(1, len(parts), 2):
        literal, is_last = parts[i + 1], i + 2 == len(parts)
        if is_last:
            end = len(line) - len(literal)
            end = end if end >= at and line.endswith(literal) else -1
        else:
            end = line.find(literal, at)
        if end < 0:
            return ""
        if parts[i] == "{name}":
            found = line[at:end].strip()
        at = end + len(literal)
    return found


def read_message(rule: ChannelAlerts, team: str, ts: str, at: datetime, text: str, tenant: str) -> Alert | None:
    """Return the alert that begins with a message; None if it is none."""
    name = name_in(rule.firing, text)
    if not name:
        return None
    fingerprint = f"{team}-{rule.channel}-{ts}"
    _, _, rest = text.strip().partition("\n")
    return Alert(
        id=UUID(bytes=named(f"{tenant}\0alert\0{fingerprint}\0{at.timestamp():.6f}")),
        tenant=tenant,
        source=SLACK,
        fingerprint=fingerprint,
        starts_at=at,
        name=name,
        severity=rule.severity,
        summary=rest.strip()[:_TEXT],
        labels={"alertname": name, "severity": rule.severity},
    )


def message_of(alert: Alert, address: str) -> tuple[str, str] | None:
    """Return channel and time of the message that an alert is, where a route to this address shows it.

    None for an alert of a monitor, and for a route that names another workspace or channel.
    """
    parts = alert.fingerprint.split("-")
    if alert.source != SLACK or len(parts) != 3:
        return None
    team, channel, ts = parts
    space, _, where = address.rpartition("/")
    is_elsewhere = (_TEAM.fullmatch(space) and space != team) or where not in ("", channel)
    return None if is_elsewhere else (channel, ts)
