"""The work for one observation does not grow with what is there already, and depth is no fault."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from spanpost.domain.observations import Observation, Part
from spanpost.fold import walk
from spanpost.fold.batch import Rules
from spanpost.fold.work import Key, R
from spanpost.ledger.base import TaskQuery
from spanpost.ledger.memory import MemoryLedger
from tests.fold.histories import BASE, NOW, SECOND

AGENT = {"gen_ai.operation.name": "invoke_agent"}


class Counting:
    """A `Work` that counts how often it is asked."""

    def __init__(self) -> None:
        self.records: dict[Key, Any] = {}
        self.asked = 0

    def get(self, key: Key, kind: type[R]) -> R | None:
        self.asked += 1
        return self.records.get(key)

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self.records[key] = record

    def drop(self, key: Key) -> None:
        self.records.pop(key, None)


def box(number: int, parent: int, name: str, part: Part = Part.ENDED) -> Observation:
    start, end = BASE + number, BASE + SECOND - number
    return Observation(
        part=part,
        trace_id=b"t" * 16,
        span_id=number.to_bytes(8, "big"),
        parent_id=parent.to_bytes(8, "big") if parent else b"",
        name=f"invoke_agent {name}",
        start_ns=start,
        end_ns=end if part is Part.ENDED else 0,
        at_ns=end if part is Part.ENDED else start,
        attributes={**AGENT, "gen_ai.agent.name": name},
    )


@pytest.mark.parametrize("is_root_first", [True, False], ids=["root first", "root last"])
def test_the_thousandth_sub_agent_costs_what_the_tenth_cost(is_root_first: bool) -> None:
    """Records looked at for one more sub-agent are as many among ten as among a thousand."""
    work = Counting()
    looks = []
    children = [box(n, 1, f"agent-{n}") for n in range(2, 1002)]
    for o in [box(1, 0, "lead", Part.STARTED), *children] if is_root_first else children:
        work.asked = 0
        walk.fold(work, walk.prepare([o]), Rules(), NOW)
        looks.append(work.asked)
    assert max(looks[900:]) <= max(looks[5:50])


def test_boxes_within_boxes_are_followed_however_deep() -> None:
    """A thousand boxes of one agent, each within the one before and learned in any order, are one task; nothing is lost."""
    chain = [box(n, n - 1, "deep") for n in range(1, 1001)]
    for seed in (None, 1):
        if seed is not None:
            Random(seed).shuffle(chain)
        ledger = MemoryLedger()
        assert not ledger.record_now(chain).lost
        assert len(ledger.tasks_now(TaskQuery(limit=2000))) == 1
