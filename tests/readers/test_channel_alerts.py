"""Messages of other apps as alerts: which first lines match, and in what time."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.errors import ConfigError
from spanpost.readers.channel_alerts import ChannelAlerts, message_of, mistake_in, name_in, read_message
from spanpost.settings import load

RULE = {"channel": "C1", "apps": ["B1"], "firing": "[FIRING:*] {name}"}


@pytest.mark.parametrize(
    ("pattern", "text", "name"),
    [
        ("[FIRING:*] {name}", "[FIRING:1] DiskFull\nmore", "DiskFull"),
        ("[FIRING:*] {name}", "[RESOLVED] DiskFull", ""),
        ("[FIRING:*] {name} (*)", "[FIRING:1] DiskFull (db1)", "DiskFull"),
        ("Triggered: {name}", "Triggered:   CPU is hot  ", "CPU is hot"),
        ("{name} is down", "shop is down", "shop"),
        ("{name} is down", "shop is up", ""),
        ("Alert {name}", "Alert ", ""),
    ],
)
def test_a_first_line_names_the_alert(pattern: str, text: str, name: str) -> None:
    """A pattern is met by the whole first line, and gives the alert's name."""
    assert name_in(pattern, text) == name


@given(st.text(alphabet="ab*{}name[] ", max_size=30), st.text(max_size=400))
def test_any_text_is_read(pattern: str, text: str) -> None:
    """No pattern that is accepted and no text raises; a name is a part of the first line."""
    if not mistake_in(pattern):
        assert name_in(pattern, text) in text


def test_a_hostile_line_costs_no_time() -> None:
    """Many placeholders and a long line take no longer than a search for each text."""
    began = time.perf_counter()
    for _ in range(100):
        assert name_in("a*a*a*a*a*a*a*a*a {name} b", "a" * 1_000_000) == ""
    assert time.perf_counter() - began < 5


def test_an_alert_is_its_message() -> None:
    """The same message is the same alert, which knows the thread to answer in; the rest of the text is its summary."""
    at = datetime(2026, 11, 23, tzinfo=UTC)
    rule = ChannelAlerts(channel="C1", apps=("B1",), firing="Alert: {name}", severity="critical")
    first, again = (read_message(rule, "T1", "17.5", at, "Alert: DiskFull\ndb1 is full", "acme") for _ in range(2))
    assert first is not None
    assert first == again
    assert (first.name, first.summary, first.severity, first.tenant) == ("DiskFull", "db1 is full", "critical", "acme")
    assert message_of(first, "") == ("C1", "17.5")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"firing": "{name}"}, "every message"),
        ({"firing": "*{name}"}, "between two placeholders"),
        ({"firing": "Alert"}, "name"),
        ({"firing": "Alert {name} {x}"}, "alone"),
        ({"apps": []}, "apps"),
        ({"channel": "#alerts"}, "channel"),
    ],
)
def test_mistakes_are_refused(wrong: dict[str, object], message: str) -> None:
    """Settings that would take every message, or an unnamed app's, are refused at the start."""
    with pytest.raises(ConfigError, match=message):
        load(alerts={"channels": [RULE | wrong]})
