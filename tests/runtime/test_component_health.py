"""State of each component, from the figures of the metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from spanpost.cli.health_check import component_findings
from spanpost.metrics.recorder import Metrics
from spanpost.model.fleet import Fleet, RetentionLag, Sealing, SinkQueue
from spanpost.model.outcomes import Receipt
from spanpost.runtime.component_health import SAMPLES, ComponentHealth, components
from spanpost.settings import load
from spanpost.testing.nouns import a_delivery


def by_name(found: list[ComponentHealth]) -> dict[str, ComponentHealth]:
    return {one.name: one for one in found}


def test_what_is_behind_is_late() -> None:
    """Dead letters and an old delivery make outbox and sink late; sealing and retention say since when."""
    fleet = Fleet(
        deliveries=[SinkQueue(sink="console", waiting=4, oldest=900.0, dead=1)],
        sealing=Sealing(lag=2.0, ways={}),
        retention=RetentionLag(run_age=60.0, overdue=200_000.0),
        closed_rate_limits={"failing": 2},
    )
    metrics = Metrics()
    metrics.delivered(a_delivery(), Receipt(), timedelta())
    settings = load(console={"enabled": True}, sealing={"enabled": False})
    found = by_name(components(settings, fleet, metrics.samples(SAMPLES)))
    names = "outbox", "sink console", "circuit breakers", "sealing", "retention"
    assert [found[name].state for name in names] == ["late", "late", "down", "ok", "late"]
    outbox, sink = found["outbox"], found["sink console"]
    assert outbox.detail == "4 waiting, the oldest for 900 s; 1 given up"
    now = datetime.now(UTC)
    assert outbox.since is not None
    assert timedelta(seconds=899) < now - outbox.since < timedelta(seconds=960)
    assert sink.since is not None
    assert now - sink.since < timedelta(seconds=60)
    checked = {one.name: one for one in component_findings(fleet)}
    assert (checked["outbox"].finding, bool(checked["outbox"].next_step)) == (outbox.detail, True)


def test_a_sink_says_its_circuit_and_its_last_success() -> None:
    """A sink whose circuit breaker is open is down, one that is throttled is late; its last success is the newest that
    this process or the database knows, also after a restart.
    """
    now = datetime.now(UTC)
    closed = [("console", "throttled"), ("console:post", "failing"), ("other:T1", "refused")]
    settings = load(console={"enabled": True})
    sent = now - timedelta(hours=3)

    def sink(fleet: Fleet, metrics: Metrics) -> ComponentHealth:
        return by_name(components(settings, fleet, metrics.samples(SAMPLES)))["sink console"]

    found = sink(Fleet(circuits=Fleet.circuits_of(closed), delivered_at={"console": sent}), Metrics())
    assert (found.state, found.since) == ("down", sent)
    assert "circuit breaker open: failing" in found.detail
    found = sink(Fleet(circuits=Fleet.circuits_of(closed[:1])), Metrics())
    assert (found.state, found.since, "no success is known" in found.detail) == ("late", None, True)
    metrics = Metrics()
    metrics.delivered(a_delivery(), Receipt(), timedelta())
    found = sink(Fleet(delivered_at={"console": sent}), metrics)
    assert found.since is not None
    assert (found.state, found.since > sent) == ("ok", True)


def test_without_the_database_nothing_is_claimed() -> None:
    """While the database cannot be read it is down since its trouble began, and what it would tell is unknown."""
    since = datetime(2026, 11, 23, tzinfo=UTC)
    found = by_name(components(load(console={"enabled": True}), None, {}, "it is down", since))
    assert (found["database"].state, found["database"].since) == ("down", since)
    assert {found["outbox"].state, found["sink console"].state} == {"unknown"}


def test_a_topic_that_takes_nothing_is_down() -> None:
    """Kafka is down while the topic does not take what is written, and late while its messages are old."""
    metrics = Metrics()
    metrics.not_produced("spans")
    metrics.consuming([("other", 1, 7, 900.0)])
    found = by_name(components(load(), Fleet(), metrics.samples(SAMPLES)))
    assert (found["kafka spans"].state, found["kafka other"].state) == ("down", "late")
