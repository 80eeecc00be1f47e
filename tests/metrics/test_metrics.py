"""Metrics: counted once, capped, served."""

from __future__ import annotations

import math
import urllib.request
from datetime import timedelta
from decimal import Decimal

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.parser import text_string_to_metric_families

from spanpost.metrics.labels import DROPPED, SeriesLimits
from spanpost.metrics.recorder import Metrics
from spanpost.metrics.series import MULTIPROCESS
from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Receipt
from spanpost.model.errors import ConfigError
from spanpost.model.fleet import Fleet, OpenTasks
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, RetryAt
from spanpost.model.recorded import FinalizedUsage, Recorded
from spanpost.model.usage import Usage
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return the sum over the series with these labels, None if there is none."""
    found = [
        sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


@pytest.mark.proves("counters")
def test_a_run_is_counted_from_what_was_recorded():
    """Start, end, duration, tokens, cost, checkpoints, events and duplicates each have their series."""
    metrics = Metrics()
    task = a_task(status="complete", ended_at=NOON + timedelta(seconds=90))
    usage = Usage(input=1000, output=50, cache_read=400, cost_usd=Decimal("0.25"))
    metrics.recorded(
        Recorded(
            events=3,
            parts={"ended": 2, "event": 1},
            duplicates=4,
            ignored=5,
            tasks=[task],
            started=[task.uid],
            ended=[task.uid],
            checkpoints=[a_checkpoint(kind=Kind.END)],
            finalized=[FinalizedUsage(agent_name="reporter", model="m-1", calls=1, usage=usage)],
            dropped={"unfoldable": 2, "never heard of": 1},
        )
    )
    who = {"agent": "reporter", "model": "m-1"}
    assert value(metrics, "spanpost_tasks_started_total", agent="reporter") == 1
    assert value(metrics, "spanpost_tasks_ended_total", agent="reporter", status="complete") == 1
    assert value(metrics, "spanpost_task_duration_seconds_sum", agent="reporter", status="complete") == 90
    assert value(metrics, "spanpost_tokens_total", kind="input", **who) == 1000
    assert value(metrics, "spanpost_tokens_total", kind="cache_read", **who) == 400
    assert value(metrics, "spanpost_tokens_total", kind="reasoning", **who) is None  # unknown is not 0
    assert value(metrics, "spanpost_cost_usd_total", **who) == 0.25
    assert value(metrics, "spanpost_checkpoints_total", kind="end") == 1
    assert value(metrics, "spanpost_events_total", part="ended") == 2
    assert value(metrics, "spanpost_duplicate_observations_total") == 4
    assert value(metrics, "spanpost_ignored_spans_total") == 5
    assert value(metrics, "spanpost_dropped_total", component="fold", reason="unfoldable") == 2
    assert value(metrics, "spanpost_dropped_total", component="fold", reason="other") == 1


def an_open(status: str, count: int, agent: str = "a", *, stall: float = 0.0, share: float | None = None) -> OpenTasks:
    return OpenTasks(
        status=status,
        agent_name=agent,
        task_type=None,
        environment=None,
        tenant="t",
        count=count,
        stall=stall,
        context_share=share,
    )


def test_open_tasks_are_shown_by_one_process():
    """The elected process shows every status that is not final, the others show nothing, so that the sum is
    correct.
    """
    metrics = Metrics()
    assert value(metrics, "spanpost_tasks_open", status="working") is None
    metrics.fleet(Fleet(tasks=[an_open("working", 3, stall=40.0), an_open("stalled", 1, stall=400.0)]))
    assert [value(metrics, "spanpost_tasks_open", status=s) for s in ("working", "stalled", "waiting")] == [3, 1, 0]
    metrics.fleet(None)
    assert value(metrics, "spanpost_tasks_open", status="working") is None


@pytest.mark.proves("one-stops-no-other", "label-explosion")
def test_label_values_are_capped():
    """After the maximum of distinct agents the rest is "other", and known ones stay."""
    metrics = Metrics(SeriesLimits(max_values=3))
    for i in range(10):
        task = a_task(f"t{i}", agent_name=f"agent-{i}")
        metrics.recorded(Recorded(tasks=[task], started=[task.uid]))
    metrics.recorded(Recorded(tasks=[a_task()], started=[a_task("unheard").uid]))
    assert value(metrics, "spanpost_tasks_started_total", agent="agent-2") == 1
    assert value(metrics, "spanpost_tasks_started_total", agent="other") == 7
    assert value(metrics, "spanpost_tasks_started_total", agent="unknown") == 1


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        (Receipt(), "delivered"),
        (Receipt(skipped="unchanged"), "skipped"),
        (RetryAt(at=NOON, reason="x"), "retried"),
        (RetryAt(at=NOON, reason="x", reconcile=True), "unknown"),
        (GiveUp(reason="x"), "dead"),
        (Arrived(receipt=Receipt()), "found"),
        (NotArrived(), "absent"),
    ],
)
def test_deliveries_are_counted_by_outcome(outcome, label):
    """Each outcome has its label; only delivered ones have an age, and dead letters count as dropped."""
    metrics = Metrics()
    metrics.delivered(a_delivery(), outcome, timedelta(seconds=2))
    assert value(metrics, "spanpost_deliveries_total", sink="console", outcome=label) == 1
    assert value(metrics, "spanpost_deliveries_age_seconds_sum", sink="console") == (
        2 if label == "delivered" else None
    )
    assert value(metrics, "spanpost_dropped_total", component="sinks", reason="dead") == (
        1 if label == "dead" else None
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"is_failure": True}, "failed"),
        ({"closes": ("k",)}, "throttled"),
        ({"closes": ("k",), "is_refusal": True}, "refused"),
        ({"reconcile": True, "is_failure": True}, "unknown"),
        ({"reconcile": True, "has_looked": True}, "not_seen"),
        ({"is_unsent": True}, "late"),
    ],
)
def test_what_waits_again_is_counted_by_reason(more, reason):
    """Each reason for waiting has a word from a closed list, whatever the sink said; closed limits count too."""
    metrics = Metrics()
    metrics.delivered(a_delivery(), RetryAt(at=NOON, reason="the sink's own word", **more), timedelta(seconds=2))
    assert value(metrics, "spanpost_deliveries_retried_total", sink="console", reason=reason) == 1
    metrics.closed("console", OpenCircuit(key="any key", why="failing", until=NOON, reason="the sink's own word"))
    assert value(metrics, "spanpost_circuit_breaker_opened_total", sink="console", reason="failing") == 1


@pytest.mark.proves("counters", "nan")
def test_hostile_figures_do_not_break_counters():
    """Negative tokens, a cost that is no number and an end before its start are not counted; nothing raises."""
    metrics = Metrics()
    task = a_task(status="error", ended_at=NOON - timedelta(days=1), agent_name='a"\n\x00')
    usage = Usage(input=-5, output=7, cost_usd=Decimal("NaN"))
    metrics.recorded(
        Recorded(
            tasks=[task],
            ended=[task.uid],
            finalized=[FinalizedUsage(agent_name=None, model=None, calls=1, usage=usage)],
        )
    )
    assert value(metrics, "spanpost_tokens_total", kind="output", agent="unknown", model="unknown") == 7
    assert value(metrics, "spanpost_tokens_total", kind="input", agent="unknown", model="unknown") is None
    assert value(metrics, "spanpost_task_duration_seconds_sum", agent='a"', status="error") == 0


def test_reasons_of_losses_are_a_closed_list():
    """A reason or a component that is not on its list becomes "other"."""
    metrics = Metrics()
    for reason in (*DROPPED, "made up"):
        metrics.count_dropped("intake", reason)
    metrics.count_dropped("cellar", "bug")
    assert value(metrics, "spanpost_dropped_total", component="intake", reason="other") == 2
    assert value(metrics, "spanpost_dropped_total", component="other", reason="bug") == 1


def test_two_instances_do_not_share_a_registry():
    """Each instance counts for itself, and a second one in a process does not clash."""
    one, other = Metrics(), Metrics()
    one.count_dropped("intake", "bug")
    assert value(other, "spanpost_dropped_total", component="intake", reason="bug") is None


def test_a_process_that_was_killed_over_its_file_ends_no_scrape(monkeypatch, tmp_path):
    """Of several processes' files an empty one is passed over, and so is one that vanishes; the others are shown."""
    monkeypatch.setenv(MULTIPROCESS, str(tmp_path))
    file = MmapedDict(str(tmp_path / "counter_1.db"))
    file.write_value(mmap_key("runs", "runs_total", (), (), "Runs."), 3.0, 0.0)
    file.close()
    (tmp_path / "counter_2.db").touch()
    (tmp_path / "gauge_livesum_3.db").symlink_to(tmp_path / "gone")
    _, page = Metrics().page()
    [family] = text_string_to_metric_families(page.decode())
    assert [(sample.name, sample.value) for sample in family.samples] == [("runs_total", 3.0)]


def test_metrics_are_served_and_read_by_prometheus():
    """Port 0 gives a real port; its page parses, every name has our prefix and every sample is a number."""
    metrics = Metrics()
    metrics.recorded(Recorded(tasks=[a_task(agent_name='ev"il\\ \n')], started=[a_task().uid]))
    port = metrics.serve("127.0.0.1", 0)
    try:
        assert port > 0
        assert metrics.serve() == port  # serving twice serves once
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
    finally:
        metrics.close()
        metrics.close()
    assert {f.name.split("_")[0] for f in families} == {"spanpost"}
    assert all(f.documentation for f in families)
    assert all(math.isfinite(s.value) for f in families for s in f.samples)
    assert any(f.name == "spanpost_build_info" for f in families)


@pytest.mark.slow
def test_a_busy_port_is_a_clear_error():
    """The error names address, port and the setting to change; the port is free again after close."""
    first, second = Metrics(), Metrics()
    port = first.serve("127.0.0.1", 0)
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1 port {port}.*SPANPOST_METRICS__PORT"):
        second.serve("127.0.0.1", port)
    first.close()
    assert second.serve("127.0.0.1", port) == port
    second.close()


@pytest.mark.parametrize(("address", "port"), [("127.0.0.1", 70_000), ("no.such.host.invalid", 0), ("127.0.0.1", -1)])
def test_an_impossible_address_is_a_clear_error(address, port):
    """A port out of range or an unknown host is a ConfigError without a traceback."""
    with pytest.raises(ConfigError):
        Metrics().serve(address, port)


def test_every_reason_of_the_in_process_receiver_has_a_label():
    """A loss that a receiver counts has its own reason, not "other"."""
    from spanpost.metrics.labels import DROPPED
    from spanpost.receivers.queue import Loss

    assert {loss.value for loss in Loss} <= set(DROPPED)
