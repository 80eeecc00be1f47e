"""Messages of other apps that are alerts: recorded, and answered in their own threads.

Authorization. Only channels of the settings are read, and there only apps that are named by id. Everything else is
ignored: no rule, no alert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from spanpost.interactions.slack.payloads import Announcement
from spanpost.model.recorded import Recorded
from spanpost.readers.channel_alerts import SLACK, ChannelAlerts, name_in, read_message
from spanpost.store.alerts import Alerts

#: Firing alerts of a tenant among which the one that a message ends is looked for.
_LOOKED = 500


class Announcements:
    """Turns messages of other apps into alerts. `take` receives what was recorded."""

    def __init__(self, rules: Sequence[ChannelAlerts], alerts: Alerts, take: Callable[[Recorded], None]) -> None:
        self._rules = tuple(rules)
        self._alerts = alerts
        self._take = take

    async def hear(self, said: Announcement, tenant: str) -> bool:
        """Record the alert of a message; False if it is none. Safe to repeat. Raises `StoreUnavailable`."""
        for rule in self._rules:
            if rule.channel != said.channel or not set(rule.apps) & set(said.apps):
                continue
            found = []
            if rule.resolved and (name := name_in(rule.resolved, said.text)):
                listed = await self._alerts.listed(tenant, True, _LOOKED)
                where = f"{said.team}-{said.channel}-"
                found = [
                    msgspec.structs.replace(one, ends_at=max(said.at, one.starts_at))
                    for one in listed
                    if one.source == SLACK and one.fingerprint.startswith(where) and one.name == name
                ]
            elif (alert := read_message(rule, said.team, said.ts, said.at, said.text, tenant)) is not None:
                found = [alert]
            for one in found:
                self._take((await self._alerts.take(one)).recorded)
            if found:
                return True
        return False
