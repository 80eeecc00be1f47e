"""Order within a thread: the failure of a call, which is the cause, stands above the failed end of its task."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode, Receipt
from spanpost.model.observations import Observation, Part
from spanpost.receivers.recordings import read_recording
from spanpost.routing.routes import Route, Routes
from spanpost.semconv import ERROR
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from tests.tasks import recorded_runs as rec
from tests.tasks.posting import at_once

RUNS = [run for run in rec.runs(rec.COMMITTED) if run.endswith(("/toolfail", "/llmfail"))]
SINK = "slack"
#: Several records of the CLI report one failure, of which some arrive after the record that ends the prompt.
LATE = {"qwen-code/llmfail", "copilot-cli/llmfail"}


def _live(run: str) -> Iterator[list[Observation]]:
    """Yield the observations of a run one by one at their times, each span at its start, too."""
    seen = rec.observations(rec.COMMITTED / run)
    starts = [
        msgspec.structs.replace(o, part=Part.STARTED, at_ns=o.start_ns)
        for o in seen
        if o.part is Part.ENDED and o.start_ns
    ]
    yield from ([o] for o in sorted([*starts, *seen], key=lambda o: o.at_ns))


def _final(run: str) -> Iterator[list[Observation]]:
    """Yield the observations of a run as they were exported: a batch for each request."""
    for path in rec.bodies(rec.COMMITTED / run):
        for decoded in read_recording(path):
            yield decoded.observations


def _thread(batches: Iterator[list[Observation]], after: timedelta) -> dict[str, list[Checkpoint]]:
    """Return the lines of each thread in the order in which they are posted, each batch's before the next."""
    route = Route(sink=SINK, after=after)
    routes = Routes(sinks=(SINK,), routes=(route,), max_age=timedelta(days=36_500), editing=frozenset({SINK}))
    now = datetime(2020, 1, 1, tzinfo=UTC)
    store = MemoryStore(FoldRules(routes=routes), clock=lambda: now, keep=None)
    lines: dict[str, list[Checkpoint]] = {}

    def carry() -> None:
        while claimed := at_once(store.outbox.claim((SINK,), 50)):
            for one in claimed:
                if one.mode is Mode.CHECKPOINT and one.checkpoint is not None and one.receipt is None:
                    lines.setdefault(one.ordering_key, []).append(one.checkpoint)
                at_once(store.outbox.finish(one, Receipt(ref={"line": one.key})))

    for batch in batches:
        now = max([now, *(datetime.fromtimestamp(o.at_ns / 1e9, UTC) for o in batch)])
        store.record_now(batch)
        carry()
    for seconds in (1, 10, 90, 4_000):
        now += timedelta(seconds=seconds)
        store.elapse_now(now)
        carry()
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("after", [timedelta(0), timedelta(seconds=5)], ids=["at once", "after 5 s"])
@pytest.mark.parametrize("form", ["live", "final"])
def test_the_cause_stands_above_the_end(form: str, after: timedelta) -> None:
    """No failure of a call is posted below the failed end that it led to, though it was held for its message."""
    wrong, ends = set(), 0
    for run in RUNS:
        for lines in _thread(_live(run) if form == "live" else _final(run), after).values():
            for place, end in enumerate(lines):
                if end.kind is Kind.END and end.status == ERROR:
                    ends += 1
                    late = [one for one in lines[place + 1 :] if one.kind is Kind.ERROR and one.at <= end.at]
                    if late:
                        wrong.add(run)
    assert ends >= 20
    assert wrong <= LATE


@pytest.mark.parametrize("run", ["qwen-code/toolfail", "copilot-cli/toolfail"])
def test_a_failed_call_is_posted_once(run: str) -> None:
    """The record and the span of a call have other words for its failure: what came first is posted, and no more."""
    for batches in (_live(run), _final(run)):
        [lines] = _thread(batches, timedelta(0)).values()
        assert len([one for one in lines if one.kind is Kind.ERROR]) == {"qwen-code/toolfail": 2}.get(run, 1)
