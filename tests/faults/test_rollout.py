"""A rollout: a newer revision of the schema comes while this version writes, and both run side by side."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from spanpost.store.sql import schema
from tests.acceptance.gateways import Gateway
from tests.conftest import ROOT
from tests.faults.posted import Slack, final_states, settings
from tests.faults.rollout import (
    RUNS,
    alone,
    body,
    held,
    newer_source,
    send,
    stream,
    torn,
    upgrade_under_a_writer,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(900)]

OLDER = ROOT / "src"


@pytest.mark.proves("stop", "rolling-restart")
def test_a_newer_revision_is_rolled_out_beside_this_one(dsn: str, tmp_path: Path) -> None:
    """Upgraded twice at once and written by both versions, the database has each row, task and message once."""
    newer, revision = newer_source(tmp_path)
    whole, chance = stream(RUNS, time.time_ns()), random.Random(RUNS)
    first, rest = whole[: len(whole) // 3], whole[len(whole) // 3 :]
    with ExitStack() as stack:
        slack = Slack(tmp_path / "slack.json")
        stack.callback(slack.close)

        def start(source: Path) -> Gateway:
            gateway = Gateway(dsn, tmp_path, **settings(slack.url) | {"PYTHONPATH": str(source)})
            stack.callback(gateway.stop)
            return gateway

        old = start(OLDER)
        with pytest.raises(AssertionError, match="spanpost db upgrade"):
            start(newer)  # before the database is upgraded
        assert upgrade_under_a_writer(dsn, newer, old, torn(first, chance)) == [revision, revision]
        assert asyncio.run(schema.upgrade(dsn)) == (revision, revision)  # an older one leaves it as it is
        new = start(newer)
        send([old, new], torn(whole, chance))
        another = start(OLDER)  # on the newer schema, as after a step back
        send([another, old, new], torn(rest, chance))
        stopped = {old.stop(), another.stop()}
        send([new], [body(whole[at : at + 50]) for at in range(0, len(whole), 50)])
        deliveries = asyncio.run(final_states(dsn, 120))
        stopped.add(new.stop())
        posted = slack.end()
        found = held(dsn)
        faults = [
            line for each in (old, another, new) for line in each.log.splitlines() if not line.startswith("info: ")
        ]
    messages = [m for c in posted["channels"].values() for m in c if m.get("thread_ts", m["ts"]) == m["ts"]]
    roots = Counter(m["text"].partition(" · ")[0] for m in messages)
    assert stopped <= {0, 1}  # 1: deliveries wait, which another delivers
    assert set(deliveries) == {"delivered"}, faults
    assert found == alone(whole), faults
    assert [roots[f"✅ Job {number}: complete"] for number in range(RUNS)] == [1] * RUNS, faults
