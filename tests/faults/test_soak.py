"""The harness for faults: a short run, its plan, and the names of what it tries."""

from __future__ import annotations

import shutil
import tomllib

import pytest

from tests.conftest import ROOT
from tests.faults.soak.checker import DELIVERED_WITHIN
from tests.faults.soak.dealt import FAULTS
from tests.faults.soak.plan import plan
from tests.faults.soak.run import fresh, run, table


def test_a_seed_is_a_plan() -> None:
    """A seed deals the same faults at the same times; another seed deals others; no two of a part overlap."""

    def of(seed: int) -> list[str]:
        return [f"{each.at} {each.fault}" for each in plan(seed, 300, 3, list(FAULTS))]

    assert of(7) == of(7)
    assert of(7) != of(8)
    ends: dict[str, float] = {}
    for each in plan(7, 300, 3, list(FAULTS)):
        assert each.at > ends.get(each.fault.part, 0)
        ends[each.fault.part] = each.at + each.fault.seconds


def test_each_fault_tries_a_promise_by_its_name() -> None:
    """The promise and the fault that each kind names are in `tests/promises.toml`."""
    known = tomllib.loads((ROOT / "tests" / "promises.toml").read_text())
    promises = {name for each in known["guarantees"].values() for name in each["promises"]}
    wrong = [
        name for name, fault in FAULTS.items() if not (fault.tries[0] in promises and fault.tries[1] in known["faults"])
    ]
    assert wrong == []


@pytest.mark.acceptance
@pytest.mark.slow
@pytest.mark.timeout(180 + DELIVERED_WITHIN)
def test_a_short_run_finds_nothing() -> None:
    """Gateways and agents are killed and connections cut for ten seconds: everything acknowledged is there, once."""
    home = fresh()
    kinds = ("gateway killed", "connections cut", "agent killed", "asking agent killed", "Slack loses answers")
    try:
        result = run(home, 7, 10, only=kinds, rate=60)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert result["findings"] == [], table(result)
    assert sum(result["faults"].values()) >= 2, table(result)
    assert result["spans"] > 100, table(result)
