"""One place distributes what was recorded, whatever caused it."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from spanpost.model.recorded import Recorded
from spanpost.runtime.fanout import Fanout
from spanpost.runtime.pipeline import Pipeline
from spanpost.settings import load
from spanpost.testing.observed import started


async def test_every_receiver_has_all_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """Receivers are called in order, step by step or at once; one that raises stops no other, and is logged
    once.
    """
    seen: list[str] = []

    def steps(recorded: Recorded):
        for number in range(recorded.events):
            seen.append(f"step {number}")
            yield

    def fails(recorded: Recorded) -> None:
        raise ValueError("no")

    fanout = Fanout()
    for receiver in (steps, fails, lambda recorded: seen.append("last")):
        fanout.subscribe(receiver)
    with caplog.at_level(logging.ERROR, "spanpost"):
        await fanout.publish(Recorded(events=2))
        fanout.publish_now(Recorded(events=1))
    assert seen == ["step 0", "step 1", "last", "step 0", "last"]
    assert [record.getMessage() for record in caplog.records] == [
        "a receiver of recorded batches raised ValueError, logged once: no"
    ]


def test_a_timer_reaches_every_receiver(clean_environment: Path) -> None:
    """A task that stalls is recorded by a timer: event streams and metrics receive it like an ingested
    batch.
    """
    pipeline = Pipeline(load(stall={"stall_after": timedelta(seconds=0.2)}, console={"enabled": False}))
    pipeline.start()
    try:
        has_stalled, statuses = threading.Event(), []

        def receive(recorded: Recorded) -> None:
            statuses.extend(task.status for task in recorded.tasks)
            if "stalled" in statuses:
                has_stalled.set()

        pipeline.components.recorded.subscribe(receive)
        pipeline.receive([started(trace=1, span=1, name="agent", attributes={"agent.task.name": "slow"})])
        assert has_stalled.wait(60), statuses
        assert statuses[0] != "stalled"
    finally:
        pipeline.shutdown(1)
