"""Messages of other apps as alerts, through the signed endpoint: only of the named apps in the named channels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from spanpost.interactions.slack.announcements import Announcements
from spanpost.model.alerts import Alert, Alerted
from spanpost.model.errors import StoreUnavailable
from spanpost.model.queries import TaskQuery
from spanpost.readers.channel_alerts import ChannelAlerts, message_of
from spanpost.store.memory import MemoryStore
from tests.interactions.test_slack_http import NOW, TEAM, Knock

RULE = ChannelAlerts(
    channel="C1", apps=("BMONITOR",), firing="[FIRING:*] {name}", resolved="[RESOLVED] {name}", severity="critical"
)


class Channel:
    """A channel whose messages reach the endpoint."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.recorded: list[Any] = []
        self.knock = Knock(Announcements([RULE], self.store.alerts, self.recorded.append))

    async def post(self, text: str, secret: str = "new", **event: Any) -> int:
        """Send the event of a message of the monitor, with these changes."""
        said = {"type": "message", "channel": "C1", "ts": f"{NOW}.5", "bot_id": "BMONITOR", "text": text} | event
        body = {"type": "event_callback", "api_app_id": "A1", "team_id": TEAM, "event": said, "event_id": str(event)}
        return await self.knock.signed(json.dumps(body).encode(), secret)

    async def alerts(self) -> list[Alert]:
        return await self.store.alerts.listed("default", None, 10)


async def test_a_message_of_a_named_app_becomes_an_alert_until_it_is_resolved() -> None:
    """It is an alert of its own task, known by its message; the message that ends it resolves it."""
    channel = Channel()
    assert await channel.post("[FIRING:1] DiskFull\ndb1 is full") == 200
    assert await channel.post("[FIRING:1] DiskFull\ndb1 is full", client_msg_id="sent again") == 200
    [alert] = await channel.alerts()
    assert (alert.name, alert.summary, alert.severity, alert.source) == ("DiskFull", "db1 is full", "critical", "slack")
    assert message_of(alert, "") == message_of(alert, "T1/C1") == ("C1", f"{NOW}.5")
    assert message_of(alert, "T1/C2") is None
    [task] = await channel.store.tasks(TaskQuery())
    assert (task.is_alert, task.name) == (True, "DiskFull")
    await channel.post("[RESOLVED] Other", ts=f"{NOW + 5}.5")
    assert not (await channel.alerts())[0].is_resolved
    await channel.post("[RESOLVED] DiskFull", ts=f"{NOW + 9}.5")
    assert (await channel.alerts())[0].is_resolved


async def test_an_attachment_is_read_too() -> None:
    """A message without a text of its own is read by the title of its attachment."""
    channel = Channel()
    await channel.post("", attachments=[{"title": "[FIRING:1] <https://example.org|Slow>", "text": "p99 is 4 s"}])
    [alert] = await channel.alerts()
    assert (alert.name, alert.summary) == ("Slow (https://example.org)", "p99 is 4 s")


@pytest.mark.parametrize(
    "event",
    [
        {"bot_id": "BOTHER"},
        {"bot_id": None},
        {"bot_id": None, "user": "UALICE"},
        {"channel": "C2"},
        {"thread_ts": "1.5"},
        {"subtype": "message_changed"},
        {"text_": "nothing happens"},
        {"hidden": True},
    ],
)
async def test_other_messages_are_no_alerts(event: dict[str, Any]) -> None:
    """Another app, a person, another channel, a reply, an edit and any other text record nothing."""
    channel = Channel()
    assert await channel.post(event.pop("text_", "[FIRING:1] DiskFull"), **event) == 200
    assert await channel.alerts() == []
    assert channel.recorded == []


async def test_an_unsigned_message_is_refused() -> None:
    """The signature is verified before an alert is read."""
    channel = Channel()
    assert await channel.post("[FIRING:1] DiskFull", secret="another") == 401
    assert await channel.alerts() == []


async def test_slack_sends_again_what_could_not_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is down the event is not acknowledged, and its repeat is recorded."""
    channel = Channel()
    take: Callable[[Alert], Any] = channel.store.alerts.take

    async def away(alert: Alert) -> Alerted:
        raise StoreUnavailable("away")

    monkeypatch.setattr(channel.store.alerts, "take", away)
    assert await channel.post("[FIRING:1] DiskFull") == 503
    monkeypatch.setattr(channel.store.alerts, "take", take)
    # Slack signs each attempt anew.
    assert await channel.post("[FIRING:1] DiskFull", client_msg_id="again") == 200
    assert len(await channel.alerts()) == 1
