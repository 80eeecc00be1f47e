"""Slack down for the first part of a run (`--slack-down 3600`), and what is posted afterwards."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from tests.faults.soak.actors import Threads
from tests.faults.soak.world import now, pause

#: Seconds after which a checkpoint is recorded and not posted.
TOO_OLD = 15 * 60
#: Messages of each sort from which on their order is compared.
_ENOUGH = 20


class SlackAway(Threads):
    """Slack itself, which answers nothing until the given time. Without `--slack-down` it does nothing."""

    name = "Slack away"
    #: Unix time at which Slack came back.
    back = 0.0

    def start(self) -> None:
        if self.world.slack_down:
            kinds = ("posts", "updates", "lookups")
            self.world.tell_slack(do="odds", odds={kind: {"reset before": 1.0} for kind in kinds})
            self.begin(self._come_back, now() + self.world.slack_down)

    def _come_back(self, at: float) -> None:
        pause(self.world.closing, at - now())
        self.back = time.time()
        self.world.tell_slack(do="clear_faults")
        print(f"         Slack is back after {self.world.slack_down:g} s", flush=True)

    def findings(self) -> Sequence[str]:
        """After the outage each message was edited once at most, and ends were posted before other lines."""
        if not self.back:
            return ()
        messages: list[dict[str, Any]] = [m for c in self.world.slack.state()["channels"].values() for m in c]
        late = [m for m in messages if float(m["ts"]) >= self.back]
        # What the time of the outage left is posted by then; what is sent afterwards is another's task.
        first = sorted(late, key=lambda m: float(m["ts"]))[: len(late) // 3]
        roots = [m for m in first if m.get("thread_ts", m["ts"]) == m["ts"]]
        often = [m["text"] for m in roots if m.get("edits", 0) > 1]
        ends, lines = [], []
        for reply in (m for m in first if m.get("thread_ts", m["ts"]) != m["ts"]):
            (lines if reply["text"].startswith("part ") or " part " in reply["text"] else ends).append(
                float(reply["ts"])
            )
        is_ordered = min(len(ends), len(lines)) < _ENOUGH or statistics.median(ends) <= statistics.median(lines)
        return [
            *([f"{len(often)} messages were edited more than once after the outage: {often[:3]}"] if often else []),
            *([] if is_ordered else [f"lines of threads were posted before {len(ends)} ends and questions"]),
        ]
