"""The whole way to Slack under every fault: each task one current message, each checkpoint once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanpost.dispatch.dispatcher import Dispatcher
from spanpost.model.checkpoints import Kind
from spanpost.model.queries import TaskQuery
from spanpost.routing import rate_limiting
from spanpost.routing.retries import Policy
from spanpost.routing.routes import Routes
from spanpost.sinks.slack import render
from spanpost.sinks.slack.rates import Rates
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.transport import WebApi
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.fake_slack import FakeSlack, Fault, Faults
from spanpost.testing.observed import a_run, started
from tests.thorough import IS_THOROUGH

pytestmark = pytest.mark.slow

FAST = Policy(base=timedelta(milliseconds=20), cap=timedelta(milliseconds=200), floor=timedelta(milliseconds=5))
MANY = Rates(edits_per_minute=1e6, posts_per_minute=1e6, posts_per_channel_per_minute=1e6, lookups_per_minute=1e6)
ROOT_SPAN = {"agent.task.name": "task", "gen_ai.operation.name": "invoke_agent"}
METHODS = ("chat.postMessage", "chat.update", "conversations.history", "conversations.replies")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circuit breaker opens for moments, not for half a minute."""
    monkeypatch.setattr(rate_limiting, "PAUSES", (timedelta(milliseconds=30), timedelta(milliseconds=200)))
    monkeypatch.setattr(rate_limiting, "REFUSALS", (timedelta(milliseconds=100), timedelta(milliseconds=400)))


async def walk(slack: FakeSlack, tasks: int) -> tuple[MemoryStore, SlackSink]:
    """Let agents work while Slack fails; return when everything is delivered."""
    store = MemoryStore(FoldRules(routes=Routes(sinks=("slack",))))
    api = WebApi(slack.token, base_url=slack.url, timeout=timedelta(seconds=0.4))
    # As in the settings, longer than a call takes plus the time until its message is visible: else a slow machine
    # posts twice.
    sink = SlackSink(transport=api, rates=MANY, reconcile_timeout=timedelta(seconds=0.8))
    dispatcher = Dispatcher(store.outbox, store, {"slack": sink}, FAST)
    runs = [a_run(f"task {i}", trace=i + 1, is_failed=i % 3 == 2) for i in range(tasks)]
    for i in range(tasks):
        store.record_now([started(trace=i + 1, span=1, name="agent", attributes=ROOT_SPAN)])
    dispatcher.start()
    try:
        for part in ((3,), (1, 2), (0,)):
            for run in runs:
                store.record_now([run[n] for n in part])
            dispatcher.wake()
            if part != (0,):
                await dispatcher.drain(0.3)  # a part is sent, then the rest
        assert await dispatcher.drain(60), [(row.state, row.mode, row.error) for row in await store.outbox.deliveries()]
    finally:
        await dispatcher.close()
        await sink.close()
    return store, sink


async def judge(slack: FakeSlack, store: MemoryStore) -> None:
    """Compare the messages in Slack with the store."""
    dead = [row for row in await store.outbox.deliveries() if row.state != "delivered"]
    assert dead == []
    tasks = await store.tasks(TaskQuery(limit=100))
    messages = {m["metadata"]["event_payload"]["k"]: m for m in slack.messages()}
    assert len(messages) == len(slack.messages()) == len(tasks)
    for task in tasks:
        ordering_key = f"slack||{task.uid}"
        message, newest = messages[ordering_key], render.root(task, key=ordering_key)
        assert (message["text"], message["blocks"], message["attachments"]) == (
            newest.text,
            newest.blocks,
            newest.attachments,
        )
        expected = [str(c.id) for c in await store.reader.checkpoints(task_uid=task.uid) if c.kind is not Kind.START]
        posted = Counter(reply["metadata"]["event_payload"]["k"] for reply in slack.thread(message["ts"]))
        assert posted == Counter(expected)
    # A call under way when the first of its kind was throttled could not know.
    assert [early for early in slack.tiers.early if early.since > 0.3] == []


scripts: st.SearchStrategy[dict[str, list[Fault | None]]] = st.fixed_dictionaries(
    {
        method: st.lists(st.none() | st.sampled_from([f for f in Fault if f is not Fault.THROTTLE]), max_size=8)
        for method in METHODS
    }
)


days = st.tuples(scripts, st.sampled_from([0.0, 0.2]), st.none() | st.sampled_from(METHODS[:2]))


@pytest.mark.proves("one-message", "slack-answer-lost", "slack-throttles")
@given(st.lists(days, min_size=4, max_size=4))
@settings(max_examples=10 if IS_THOROUGH else 3, deadline=None, suppress_health_check=list(HealthCheck))
async def test_any_script_of_faults(several: list[tuple[dict[str, list[Fault | None]], float, Any]]) -> None:
    """Any faults in the first calls of each kind: in the end each message is there once, with the newest
    text. Each script has its own Slack and store; several run at once, because they mostly wait.
    """
    async with asyncio.TaskGroup() as group:
        for script, stale, throttled in several:
            group.create_task(_follow(script, stale, throttled))


async def _follow(script: dict[str, list[Fault | None]], stale: float, throttled: Any) -> None:
    async with FakeSlack() as slack:
        slack.workspace.stale = stale
        for method, faults in script.items():
            slack.faults.script(method, [Fault.THROTTLE] if method == throttled else [])
            slack.faults.script(method, faults)
        store, _ = await walk(slack, 3)
        await judge(slack, store)


@pytest.mark.proves("one-message", "slack-answer-lost", "lookup-fails")
@pytest.mark.parametrize("seed", range(3))
async def test_a_bad_day(seed: int) -> None:
    """A third of all calls fail, lookups too, and the history lags: the same holds for many tasks."""
    bad = {
        Fault.ERROR_BEFORE: 0.05,
        Fault.RESET_BEFORE: 0.03,
        Fault.RESET_AFTER: 0.12,
        Fault.ERROR_AFTER: 0.1,
        Fault.HANG_AFTER: 0.02,
    }
    odds = {"posts": bad | {Fault.THROTTLE: 0.02}, "updates": bad | {Fault.THROTTLE: 0.02}, "lookups": bad}
    async with FakeSlack(faults=Faults(odds, seed=seed)) as slack:
        slack.workspace.stale = 0.2
        store, _ = await walk(slack, 20)
        await judge(slack, store)
        assert sum(slack.faults.dealt.values()) > 20


AILMENTS: dict[str, tuple[Callable[[FakeSlack], Any], Callable[[FakeSlack], Any], str]] = {
    "a revoked token": (lambda s: s.refuse("token_revoked"), lambda s: s.refuse(""), "install the app"),
    "an archived channel": (lambda s: s.archive(), lambda s: s.archive(archived=False), "unarchive"),
    "an app that was removed": (lambda s: s.kick(), lambda s: s.invite(), "/invite"),
    "a lost scope": (lambda s: s.remove_scope("chat:write"), lambda s: s.add_scope("chat:write"), "chat:write"),
}


@pytest.mark.proves("delivered", "channels")
@pytest.mark.parametrize("when", ["from the start", "in the middle"])
@pytest.mark.parametrize("ailment", AILMENTS)
async def test_what_a_person_must_mend(ailment: str, when: str, caplog: pytest.LogCaptureFixture) -> None:
    """An error that needs a person is logged once with its remedy and tried rarely; after the repair all is
    delivered.
    """
    fall_ill, heal, cure = AILMENTS[ailment]
    async with FakeSlack() as slack:
        store = MemoryStore(FoldRules(routes=Routes(sinks=("slack",))))
        sink = SlackSink(transport=WebApi(slack.token, base_url=slack.url), rates=MANY)
        dispatcher = Dispatcher(store.outbox, store, {"slack": sink}, FAST)
        for i in range(8):
            store.record_now([started(trace=i + 1, span=1, name="agent", attributes=ROOT_SPAN)])
        if when == "in the middle":
            assert await dispatcher.drain(60)
        fall_ill(slack)
        before = len(slack.asked)
        for i in range(8):
            store.record_now(a_run(f"task {i}", trace=i + 1))
        assert not await dispatcher.drain(1.0)
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(errors) == 1
        assert cure in errors[0].getMessage()
        # Eight were under way when the first was refused; then one at a time, ever more rarely.
        assert len(slack.asked) - before <= 8 + 10
        heal(slack)
        assert await dispatcher.drain(60)
        await dispatcher.close()
        await sink.close()
        await judge(slack, store)


@pytest.mark.proves("one-message")
@pytest.mark.parametrize(
    "script",
    [[], [Fault.RESET_AFTER] * 3, [Fault.ERROR_BEFORE, None, Fault.HANG_AFTER]],
    ids=["fair", "resets", "mixed"],
)
async def test_messages_that_people_delete(script: list[Fault | None]) -> None:
    """Deleted messages stay deleted; only those of failed tasks return once, with later checkpoints."""
    async with FakeSlack() as slack:
        store = MemoryStore(FoldRules(routes=Routes(sinks=("slack",))))
        api = WebApi(slack.token, base_url=slack.url, timeout=timedelta(seconds=0.4))
        # As above.
        sink = SlackSink(transport=api, rates=MANY, reconcile_timeout=timedelta(seconds=0.8))
        dispatcher = Dispatcher(store.outbox, store, {"slack": sink}, FAST)
        for i in range(6):
            store.record_now([started(trace=i + 1, span=1, name="agent", attributes=ROOT_SPAN)])
        assert await dispatcher.drain(60)
        for message in slack.messages():
            slack.delete(message["ts"])
        for method in ("chat.postMessage", "chat.update"):
            slack.faults.script(method, script)
        for i in range(6):
            store.record_now(a_run(f"task {i}", trace=i + 1, is_failed=i % 3 == 2))
        assert await dispatcher.drain(60)
        await dispatcher.close()
        await sink.close()
        assert {row.state for row in await store.outbox.deliveries()} == {"delivered"}
        failed = {f"slack||{t.uid}": t for t in await store.tasks(TaskQuery(limit=100)) if t.status == "error"}
        assert len(failed) == 2
        standing = {m["metadata"]["event_payload"]["k"]: m for m in slack.messages()}
        assert standing.keys() == failed.keys()
        assert len(slack.messages()) == 2
        for ordering_key, message in standing.items():
            assert message["metadata"]["event_payload"]["g"] == 1
            assert message["text"] == render.root(failed[ordering_key], key=ordering_key).text
