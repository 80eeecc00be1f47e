"""Two hostile tenants of one gateway have nothing of each other, and all that each of them has alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.hostile_tenants import compare

#: How long the tenants send; `SPANPOST_TEST_TENANTS=3600` is the hour.
SECONDS = float(os.environ.get("SPANPOST_TEST_TENANTS", "0"))

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(int(SECONDS) + 1800)]


@pytest.mark.proves("nothing-crosses", "tenant-attacks")
def test_nothing_crosses_between_tenants_with_the_same_ids(server: str, tmp_path: Path) -> None:
    """With shared ids of every kind no word or id of a tenant reaches the other; rows, figures and answers fit."""
    seen = compare(server, tmp_path, seed=1, seconds=SECONDS, rounds=3)
    assert seen.crossed == []
    assert seen.differ == []
    assert seen.counts["ids searched"] > 100
    for kind in ("proofs, HTTP", "proofs, gRPC", "lies, "):
        assert sum(number for name, number in seen.counts.items() if name.startswith(kind)) > 2, kind
    for what in ("answers", "messages", "streamed checkpoints", "rows of agent_events", "rows of agent_tasks"):
        assert seen.counts[what] > 10, what
