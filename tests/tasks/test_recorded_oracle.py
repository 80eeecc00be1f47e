"""Recorded runs of real frameworks beside the oracle: every field of every row and checkpoint."""

from __future__ import annotations

import os
from functools import cache
from random import Random

import msgspec
import pytest

from spanpost.routing.launch_orders import Launches
from spanpost.routing.routes import Routes
from spanpost.runtime.assembly import rules_of
from spanpost.settings import load
from spanpost.tasks import batches
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from tests.tasks.against_oracle import compared
from tests.tasks.recorded_runs import observations, runs, shared

CAPTURES = shared()
RUNS = list(runs(CAPTURES))
#: Orders of each run: one, or as many as SPANPOST_HISTORIES has thousands.
ORDERS = max(1, int(os.environ.get("SPANPOST_HISTORIES") or "0") // 1000)


@cache
def the_rules() -> FoldRules:
    return msgspec.structs.replace(rules_of(load()), routes=Routes(), stall_rules=NO_STALL, launches=Launches())


@pytest.mark.slow
@pytest.mark.proves("captures", "random-orders")
@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize("run", RUNS)
def test_a_recorded_run_comes_to_what_the_oracle_makes_of_it(run: str) -> None:
    """A run, in order of arrival and shuffled, repeated and in batches, gives the oracle's rows and checkpoints."""
    rules = the_rules()
    history = batches.prepare(observations(CAPTURES / run), prices=rules.prices, redaction=rules.redaction)
    for order in range(ORDERS):
        assert compared(history, Random(f"{run} {order}"), rules) == []
