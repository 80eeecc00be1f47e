"""Annotations over HTTP: each once, whatever Grafana answers or does not answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spanpost.dispatch.dispatcher import Dispatcher
from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Receipt, SinkCall
from spanpost.model.errors import (
    ConfigError,
    DeliveryError,
    DeliveryRefused,
    DeliveryUncertain,
    Rejected,
    Throttled,
    Unavailable,
)
from spanpost.routing import rate_limiting
from spanpost.routing.retries import Policy
from spanpost.routing.routes import Routes
from spanpost.runtime.assembly import enabled_sinks, open_sinks
from spanpost.settings import load
from spanpost.sinks.grafana import plugin
from spanpost.sinks.grafana.api import GrafanaRequest
from spanpost.sinks.grafana.render import TAGS, note
from spanpost.sinks.grafana.settings import GrafanaSettings
from spanpost.sinks.grafana.sink import GrafanaSink, meaning
from spanpost.sinks.grafana.transport import GrafanaAnswer, Wire
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_sink import CHECKS
from spanpost.testing.fake_grafana import FakeGrafana, GrafanaFault
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task
from spanpost.testing.observed import a_run, started
from spanpost.testing.strategies import checkpoints, tasks
from tests.thorough import thorough

APIS = ("legacy", "apis")
LINKED = {"pr": "https://example.org/pr/7", "bad": "javascript:alert(1)"}


def made(grafana: FakeGrafana, api: str = "legacy", timeout: float = 5.0, **settings: Any) -> GrafanaSink:
    given: dict[str, Any] = {
        "url": grafana.url,
        "token": grafana.token,
        "api": api,
        "per_minute": 6000,
        "reconcile_timeout": 0,
        **settings,
    }
    wire = Wire(grafana.url, grafana.token, timeout=timedelta(seconds=timeout))
    return GrafanaSink(GrafanaSettings(**given), wire)


@pytest.fixture(params=APIS)
async def sink(request: pytest.FixtureRequest) -> AsyncIterator[tuple[FakeGrafana, GrafanaSink]]:
    async with FakeGrafana() as grafana:
        one = made(grafana, request.param)
        yield grafana, one
        await one.close()


def test_an_address_alone_is_for_links() -> None:
    """With the address alone the sink is off and its address stays; settings of annotations need the token."""
    links = load(grafana={"url": "https://grafana.example"})
    assert enabled_sinks(links) == ()
    assert open_sinks(links) == {}
    assert links.sinks["grafana"].url == "https://grafana.example"
    for wrong in ({"dashboard": "fleet"}, {"url": "https://grafana.example", "tags": ["prod"]}):
        with pytest.raises(ConfigError, match="links need no token"):
            open_sinks(load(grafana=wrong))
    with pytest.raises(ConfigError, match="sink 'grafana' is not on"):
        open_sinks(load(grafana={"url": "https://grafana.example"}, routes=[{"sink": "grafana"}]))
    assert enabled_sinks(load(grafana={"token": "glsa_x"})) == ("grafana",)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
async def test_it_behaves_as_a_sink(check: Any, api: str) -> None:
    """With either API it behaves as the dispatcher expects."""
    async with FakeGrafana() as grafana:
        await check(lambda: made(grafana, api))


async def test_a_task_is_a_region_from_start_to_end(sink: tuple[FakeGrafana, GrafanaSink]) -> None:
    """A task is an open annotation, then a region with name, outcome, safe links, agent and environment."""
    grafana, one = sink
    task = a_task(name="Refactor <b>", links=LINKED, environment="prod")
    receipt = await one.deliver(a_delivery(task, sink="grafana"))
    [opened] = grafana.shown()
    assert opened["time"] == opened["timeEnd"]
    assert (
        await one.deliver(a_delivery(replace(task, action="on"), sink="grafana", message_receipt=receipt))
    ).skipped == "unchanged"
    over = replace(task, status="complete", ended_at=NOON + timedelta(minutes=3))
    last = await one.deliver(a_delivery(over, sink="grafana", message_receipt=receipt))
    [region] = grafana.shown()
    assert region["timeEnd"] - region["time"] == (over.ended_at - task.started_at).total_seconds() * 1000  # type: ignore[operator]
    assert region["text"].startswith("✅ Refactor &lt;b&gt; · complete")
    assert '<a href="https://example.org/pr/7">pr</a>' in region["text"]
    assert "javascript" not in region["text"]
    assert {"spanpost", "task", "env:prod", f"agent:{task.agent_name}"} <= set(region["tags"])
    assert (await one.deliver(a_delivery(over, sink="grafana", message_receipt=last))).skipped == "unchanged"
    longer = replace(over, ended_at=NOON + timedelta(minutes=9))
    await one.deliver(a_delivery(longer, sink="grafana", message_receipt=last))
    [again] = grafana.shown()
    assert again["timeEnd"] > region["timeEnd"]


async def test_an_annotation_has_no_content(sink: tuple[FakeGrafana, GrafanaSink]) -> None:
    """Grafana shows a task's own name, not what was asked of it: dashboards have other readers."""
    grafana, one = sink
    await one.deliver(a_delivery(a_task(name="agent", ask="What does Ada earn?", answer="Much"), sink="grafana"))
    [shown] = grafana.shown()
    assert ("agent" in shown["text"], "Ada" in str(shown)) == (True, False)


async def test_warnings_errors_and_questions_are_points(sink: tuple[FakeGrafana, GrafanaSink]) -> None:
    """Warnings, errors and questions are points with their kind as a tag; an agent's own progress is none."""
    grafana, one = sink
    for kind in Kind:
        checkpoint = a_checkpoint(a_task(), str(kind), kind=kind, text="Look")
        await one.deliver(a_delivery(a_task(), checkpoint, sink="grafana"))
    shown = {a["tags"][2] for a in grafana.shown()}
    assert shown == {
        "error", "approval_requested", "approval_resolved", "context_warning", "context_forecast", "compaction",
        "stalled", "loop", "alert",
    }  # fmt: skip
    assert all(a["time"] == a["timeEnd"] for a in grafana.shown())


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f in GrafanaFault if f.is_after])
async def test_after_a_lost_answer_it_is_found_and_not_made_again(
    sink: tuple[FakeGrafana, GrafanaSink], fault: GrafanaFault
) -> None:
    """An annotation after a lost answer is unknown, is found by its tag, and changed there."""
    grafana, patient = sink
    one = made(grafana, patient._settings.api, timeout=0.3) if fault is GrafanaFault.HANG_AFTER else patient
    grafana.script("POST", [fault])
    delivery = a_delivery(
        a_task(), sink="grafana", sent_at=NOON, claimed_at=NOON + timedelta(minutes=1), is_unknown=True
    )
    if one._api.exists and fault is GrafanaFault.HTML_AFTER:
        await one.deliver(delivery)  # its name is ours: whatever a 200 says, it exists
    else:
        with pytest.raises(DeliveryUncertain):
            await one.deliver(delivery)
    while not grafana.annotations:  # noqa: ASYNC110  (on a busy machine it is carried out only after nobody waits any more)
        await asyncio.sleep(0.01)
    await one.close()
    receipt = (await patient.reconcile([delivery]))[delivery.id]
    assert isinstance(receipt, Receipt)
    over = replace(a_task(), status="complete", ended_at=NOON + timedelta(minutes=3))
    await patient.deliver(a_delivery(over, sink="grafana", message_receipt=receipt))
    assert len(grafana.annotations) == 1
    assert grafana.shown()[0]["timeEnd"] > grafana.shown()[0]["time"]


async def test_what_was_not_made_is_looked_for_twice(sink: tuple[FakeGrafana, GrafanaSink]) -> None:
    """An annotation looked up without result, twice and after `reconcile_timeout`, was not made; sooner it stays
    unknown.
    """
    grafana, _ = sink
    one = made(grafana, sink[1]._settings.api, reconcile_timeout=30)
    late = {"sent_at": NOON, "claimed_at": NOON + timedelta(minutes=1)}
    assert await one.reconcile([a_delivery(a_task(), sink="grafana", **late)]) == {}
    assert await one.reconcile([a_delivery(a_task(), sink="grafana", lookups=1, **late)]) == {1: None}
    assert await one.reconcile([a_delivery(a_task(), sink="grafana", lookups=5, sent_at=NOON, claimed_at=NOON)]) == {}
    await one.close()


async def test_of_two_one_goes() -> None:
    """Of two with one tag, made by a frozen process and another, the first stays."""
    async with FakeGrafana() as grafana:
        one = made(grafana)
        delivery = a_delivery(a_task(), sink="grafana", sent_at=NOON, claimed_at=NOON)
        await asyncio.gather(one.deliver(delivery), one.deliver(delivery))
        assert len(grafana.doubles()) == 1
        assert (await one.reconcile([delivery]))[1] == Receipt(ref={"id": "1"})
        assert list(grafana.annotations) == [1]
        await one.close()


async def test_what_somebody_deleted_stays_deleted(sink: tuple[FakeGrafana, GrafanaSink]) -> None:
    """A deleted region is not made again when its text changes."""
    grafana, one = sink
    receipt = await one.deliver(a_delivery(a_task(), sink="grafana"))
    grafana.annotations.clear()
    gone = await one.deliver(a_delivery(replace(a_task(), name="renamed"), sink="grafana", message_receipt=receipt))
    assert gone.ref == {"ended": "deleted"}
    over = replace(a_task(), status="complete", ended_at=NOON + timedelta(minutes=3))
    assert (await one.deliver(a_delivery(over, sink="grafana", message_receipt=gone))).skipped
    assert grafana.annotations == {}


@pytest.mark.slow
@pytest.mark.proves("literal", "html")
@thorough(60)
@given(tasks, checkpoints, st.lists(st.text(max_size=80), max_size=9))
def test_any_delivery_fits(task, checkpoint, more) -> None:
    """Any task and checkpoint: a text, tags that Grafana accepts together, its own tag first, no markup of
    agents.
    """
    for delivery in (a_delivery(task, sink="grafana"), a_delivery(task, checkpoint, sink="grafana")):
        drawn = note(delivery, tags=more)
        if drawn is None:
            continue
        assert drawn.text
        assert len(",".join(drawn.tags)) <= TAGS
        assert drawn.tags[0].startswith("spanpost:")
        assert not any("," in tag for tag in drawn.tags)
        assert "<" not in drawn.text.replace('<a href="', "").replace("</a>", "")
        assert drawn.until_ms is None or drawn.until_ms >= drawn.at_ms > 0


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (429, "POST", Throttled), (401, "POST", DeliveryRefused), (403, "GET", DeliveryRefused),
        (404, "POST", DeliveryRefused), (302, "GET", DeliveryRefused), (400, "POST", Rejected),
        (422, "PATCH", Rejected), (500, "POST", DeliveryUncertain), (502, "POST", DeliveryUncertain),
        (500, "PATCH", Unavailable), (503, "GET", Unavailable),
    ],
)  # fmt: skip
def test_statuses(status: int, method: str, expected: type[DeliveryError]) -> None:
    """Each status has its outcome; one that may have made something is unknown."""
    assert type(meaning(GrafanaAnswer(status=status), GrafanaRequest(method=method, path="/"), now=0.0)) is expected


async def test_the_token_is_nowhere(sink: tuple[FakeGrafana, GrafanaSink], caplog: pytest.LogCaptureFixture) -> None:
    """The token is in no error, log or settings' text, with a wrong token and without a server."""
    grafana, _ = sink
    secret = "glsa_very_secret_token"
    shown = []
    for url in (grafana.url, "http://127.0.0.1:1"):
        one = GrafanaSink(GrafanaSettings(url=url, token=secret), Wire(url, secret))
        with pytest.raises(DeliveryError) as raised:
            await one.deliver(a_delivery(a_task(), sink="grafana"))
        shown += [
            str(raised.value),
            repr(raised.value),
            getattr(raised.value, "cure", ""),
            *(f.found + f.cure for f in await one.check()),
        ]
        await one.close()
    shown += [caplog.text, repr(GrafanaSettings(token=secret)), repr(one.rate_limits("", SinkCall.POST))]
    assert not any(secret in each for each in shown)


async def test_check_sees_what_grafana_does_not_say(sink: tuple[FakeGrafana, GrafanaSink]) -> None:
    """`check` reports a missing dashboard, which would accept annotations and show none, and a wrong token."""
    grafana, one = sink
    await one.deliver(a_delivery(a_task(), sink="grafana", address="nobody-has-it"))
    assert (len(grafana.annotations), grafana.shown()) == (1, [])
    assert [f.ok for f in await one.check(["", "known", "nobody-has-it"])] == [True, True, False]
    grafana.token = "another"
    [finding] = await one.check([""])
    assert (finding.ok, "SPANPOST_GRAFANA__TOKEN" in finding.cure) == (False, True)


@pytest.mark.parametrize("url", ["grafana", "ftp://x", "http://u:p@x", "http://x:port", "https://x/?a=b"])
def test_addresses_that_are_none(url: str) -> None:
    """Invalid addresses are refused at the start, without being repeated."""
    with pytest.raises(ValueError, match="url") as raised:
        GrafanaSettings(url=url)
    assert "u:p" not in str(raised.value)
    with pytest.raises(ConfigError, match="SPANPOST_GRAFANA__TOKEN"):
        plugin.open(GrafanaSettings())


@pytest.mark.proves("in-doubt", "slack-answer-lost")
@pytest.mark.slow
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("seed", range(2))
async def test_each_stands_once_whatever_goes_wrong(api: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every other call to Grafana failing, each of eight tasks has its annotations once. About 3 s."""
    monkeypatch.setattr(rate_limiting, "PAUSES", (timedelta(milliseconds=30), timedelta(milliseconds=200)))
    odds = {GrafanaFault(f): 0.45 / len(GrafanaFault) for f in GrafanaFault}
    async with FakeGrafana(
        {"POST": odds, "PATCH": odds, "GET": {GrafanaFault.AWAY: 0.2}, "DELETE": {GrafanaFault.ERROR_AFTER: 0.3}},
        seed=seed,
    ) as grafana:
        store = MemoryStore(FoldRules(routes=Routes(sinks=("grafana",))))
        one = made(grafana, api, timeout=0.3, reconcile_timeout=0.4)
        policy = Policy(
            base=timedelta(milliseconds=20), cap=timedelta(milliseconds=100), floor=timedelta(milliseconds=5)
        )
        dispatcher = Dispatcher(store.outbox, store, {"grafana": one}, policy, jitter=random.Random(seed).random)
        dispatcher.start()
        try:
            root_span = {"agent.task.name": "n", "gen_ai.operation.name": "invoke_agent"}
            for n in range(8):
                store.record_now([started(trace=n + 1, span=1, name="agent", attributes=root_span)])
            dispatcher.wake()
            await dispatcher.drain(0.3)
            for n in range(8):
                store.record_now(a_run(f"task {n}", trace=n + 1, is_failed=n % 3 == 2))
            dispatcher.wake()
            assert await dispatcher.drain(60)
        finally:
            await dispatcher.close(1)
            await one.close()
        assert grafana.doubles() == []
        regions = [a for a in grafana.shown() if "task" in a["tags"]]
        assert len(regions) == 8
        assert all(a["timeEnd"] > a["time"] for a in regions)
        assert grafana.dealt.total() >= 5
