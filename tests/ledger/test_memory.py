"""What only the memory ledger has to do: make good a fold that did not come to its end."""

from __future__ import annotations

from spanpost.fold.batch import Rules
from spanpost.ledger.base import TaskQuery
from spanpost.ledger.memory import MemoryLedger
from spanpost.testing.observed import a_run


class Broken(dict[str, int]):
    """A table of windows that cannot be read once: stands for a fault of ours in the midst of a fold."""

    def __init__(self) -> None:
        self.faults = 1

    def get(self, key: object, default: object = None) -> int:  # type: ignore[override]
        if self.faults:
            self.faults -= 1
            raise RuntimeError("a fault")
        return 1000


def test_a_fold_that_fails_half_way_is_made_good() -> None:
    """After a fault in the midst of a batch nothing is lost, doubled or half counted."""
    batch = [*a_run("a"), *a_run("b", trace=2)]
    whole, broken = MemoryLedger(Rules(windows={})), MemoryLedger(Rules(windows=Broken()))
    whole.record_now(batch)
    recorded = broken.record_now(batch)
    assert (recorded.events, recorded.lost) == (len(batch), {})
    figures = [(t.task_id, t.status, t.input_tokens, t.llm_calls, t.tool_calls) for t in whole.tasks_now(TaskQuery())]
    assert figures == [(t.task_id, t.status, t.input_tokens, t.llm_calls, t.tool_calls) for t in broken.tasks_now(TaskQuery())]
    assert broken.record_now(batch).events == 0
