"""Slack down for the first part of a run (`--slack-down 3600`), and what is posted afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.faults.soak.actors import Threads
from tests.faults.soak.world import now, pause

#: Seconds after which a checkpoint is recorded and not posted.
TOO_OLD = 15 * 60


class SlackAway(Threads):
    """Slack itself, which answers nothing until the given time. Without `--slack-down` it does nothing."""

    name = "Slack away"
    #: Unix time of Slack's clock at which it came back.
    back = 0.0
    #: Ids of the tasks whose end was acknowledged before.
    ended: frozenset[str] = frozenset()

    def start(self) -> None:
        if self.world.slack_down:
            kinds = ("posts", "updates", "lookups")
            self.world.tell_slack(do="odds", odds={kind: {"reset before": 1.0} for kind in kinds})
            self.begin(self._come_back, now() + self.world.slack_down)

    def _come_back(self, at: float) -> None:
        pause(self.world.closing, at - now())
        self.ended, self.back = frozenset(dict(self.world.sent.tasks)), time.time() + self.world.slack_ahead
        self.world.tell_slack(do="clear_faults")

    def findings(self) -> Sequence[str]:
        """Each task that ended before Slack came back was then posted and edited once at most."""
        messages = [m for c in self.world.slack.state()["channels"].values() for m in c] if self.back else []
        late = [m for m in messages if m.get("thread_ts", m["ts"]) == m["ts"] and float(m["ts"]) >= self.back]
        often = [
            m["text"] for m in late if m.get("edits", 0) > 1 and self.ended & set(m["text"].replace(":", " ").split())
        ]
        return [f"{len(often)} messages were edited more than once after the outage: {often[:3]}"] if often else []

    def notes(self) -> Sequence[str]:
        """Return how long it was away."""
        return [f"Slack was down for the first {self.world.slack_down:g} s: {len(self.ended)} tasks ended"] * bool(
            self.back
        )
