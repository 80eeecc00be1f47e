"""The harness for faults: a short run, its plan, and the names of what it tries."""

from __future__ import annotations

import os
import shlex
import shutil
import tomllib

import pytest

from spanpost.sinks.slack.render import marker
from tests.conftest import COMPONENTS, ROOT
from tests.faults.soak.__main__ import arguments, options
from tests.faults.soak.checker import DELIVERED_WITHIN
from tests.faults.soak.dealt import FAULTS
from tests.faults.soak.kafka import KafkaFront
from tests.faults.soak.kept import KEPT, Kept
from tests.faults.soak.plan import plan
from tests.faults.soak.prometheus import falls
from tests.faults.soak.run import fresh, run, table
from tests.faults.soak.watched import Watcher


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


def test_an_increase_has_a_counters_resets() -> None:
    """A counter that began anew is counted from 0 again, and its fall is known by the times around it."""
    assert falls([(1, 3.0), (2, 5.0), (3, 1.0), (4, 1.0), (5, 4.0)]) == ([(2, 3)], 9.0)
    assert falls([]) == ([], 0.0)


def test_who_takes_no_part_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka takes part only if it is asked for, and an actor whose component is missing says how to install it."""
    assert KafkaFront.absence([]) == "takes part only with --with kafka"
    monkeypatch.setitem(COMPONENTS, "kafka", (lambda: None, "Kafka's jars"))
    assert KafkaFront.absence(["kafka"]) == "missing: Kafka's jars"
    monkeypatch.setitem(COMPONENTS, "kafka", (lambda: "/jars", "Kafka's jars"))
    assert KafkaFront.absence(["kafka"]) == ""


def test_a_second_post_in_local_slack_needs_a_look_up() -> None:
    """The watcher knows each post's mark, which local-slack forgets, and the look-ups of its place before it."""
    watcher = Watcher()

    def called(method: str, **arguments: object) -> None:
        watcher.hear({"t": "log", "entry": {"kind": "web_api", "summary": method, "detail": arguments}})

    def posted(ts: str, key: str, thread: str = "") -> None:
        called("chat.postMessage", metadata=marker(key))
        watcher.hear({"t": "message", "message": {"ts": ts} | ({"thread_ts": thread} if thread else {})})

    posted("1.1", "a")
    posted("1.2", "line", "1.1")
    called("conversations.history", include_all_metadata=True)
    posted("1.3", "a")
    assert [post.ts for post in watcher.again()] == ["1.3"]
    assert watcher.rash() == []
    posted("1.4", "line", "1.1")  # looked up was the channel, not the thread
    assert [post.ts for post in watcher.rash()] == ["1.4"]


def repeated(kept: Kept) -> None:
    """Repeat a kept run."""
    given = arguments().parse_args(shlex.split(kept.arguments))
    home = fresh()
    try:
        result = run(home, given.seed, given.seconds, only=given.only.split(","), **options(given))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert result["findings"] == [], table(result)
    assert sum(result["faults"].values()) >= 2, table(result)
    assert result["spans"] > 100, table(result)
    if os.environ.get("CI") == "true":
        assert set(result["absent"]) == {"kafka"}, table(result)


SHORT = [kept for kept in KEPT if kept.is_test]
LIMIT = pytest.mark.timeout(240 + DELIVERED_WITHIN)


@pytest.mark.acceptance
@pytest.mark.slow
@LIMIT
@pytest.mark.proves("replicas", "rebalance")
@pytest.mark.parametrize("kept", SHORT[:1], ids=lambda kept: kept.arguments.split()[1])
def test_traces_that_move_between_gateways(kept: Kept) -> None:
    """The parts of each trace go to several gateways, one is killed, connections are cut: all is there, once."""
    repeated(kept)


@pytest.mark.acceptance
@pytest.mark.slow
@LIMIT
@pytest.mark.proves("answered", "index-corrupted", "snapshot-held", "replica-frozen")
@pytest.mark.parametrize("kept", SHORT[1:], ids=lambda kept: kept.arguments.split()[1])
def test_an_index_with_garbage_loses_nothing(kept: Kept) -> None:
    """An index has garbage, a gateway is frozen, a snapshot is held: what was acknowledged is there, once."""
    repeated(kept)


def test_each_kept_seed_names_its_faults() -> None:
    """The arguments of each kept run are understood, and its faults are known."""
    for kept in KEPT:
        given = arguments().parse_args(shlex.split(kept.arguments))
        assert set(given.only.split(",")) <= FAULTS.keys(), kept
        assert given.seed is not None, kept
