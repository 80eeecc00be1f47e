"""Erasure reaches messages: those of erased tasks are deleted, those that named a person are cleaned."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanpost.dispatch.dispatcher import Dispatcher
from spanpost.routing.routes import Routes
from spanpost.sinks.slack.rates import Rates
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.transport import WebApi
from spanpost.store.erasing.run import advance
from spanpost.store.postgres import PostgresStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.observed import an_event
from tests.interactions.local_slack import BOT_TOKEN, CHANNEL, LocalSlack, run_local_slack
from tests.store.archiving.aged import age, retain, rules
from tests.store.erasing_history import ALICE, COMMENT, NEEDLES, a_task, act, erased, found
from tests.store.test_erasing_archives import in_files

#: One server: `test_erasing` tries both.
pytestmark = [pytest.mark.acceptance, pytest.mark.parametrize("postgres_server", ["system"], indirect=True)]
#: Tasks of the test among many; with SPANPOST_TEST_ERASING=1000 the measure of the promise.
MANY = int(os.environ.get("SPANPOST_TEST_ERASING", "40"))
FAST = Rates(
    edits_per_minute=6e4, deletions_per_minute=6e4, posts_per_minute=6e4, posts_per_channel_per_minute=6e4,
    lookups_per_minute=6e4,
)  # fmt: skip


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as slack:
        yield slack


@pytest.fixture
async def posting(server: str, postgres_dsn: str, slack: FakeSlack) -> AsyncIterator[tuple[PostgresStore, Dispatcher]]:
    """A store whose checkpoints go to the fake Slack."""
    store = PostgresStore(postgres_dsn, rules=FoldRules(routes=Routes(sinks=("slack",))), pool_size=4)
    await store.open()
    sink = SlackSink(channel="#agents", transport=WebApi(slack.token, base_url=slack.url), rates=FAST)
    dispatcher = Dispatcher(store.outbox, store, {"slack": sink})
    yield store, dispatcher
    await dispatcher.close()
    await sink.close()
    await store.close()


def everything(slack: FakeSlack) -> str:
    """Return all that the workspace shows."""
    kept = [slack.state()["channels"], list(slack.workspace.files.values())]
    return msgspec.json.encode(kept, enc_hook=str).decode().lower()


@pytest.mark.proves("erased")
async def test_messages_of_an_erased_task_are_deleted(
    posting: tuple[PostgresStore, Dispatcher], slack: FakeSlack, database: Any
) -> None:
    """The root message, its replies and the file with its log are deleted; other tasks' messages stay."""
    store, dispatcher = posting
    failure = {"agent.task.name": "x", "exception.type": "Boom", "exception.message": "alice's log\n" * 2000}
    await store.record([*a_task(1), an_event(trace=1, span=1, name="exception", attributes=failure, index=7)])
    await store.record(a_task(2))
    assert await dispatcher.drain(60)
    assert "work 1" in everything(slack)
    report = await erased(database, task="task-default-1")
    assert report.deletions["waiting"] > 0
    assert await dispatcher.drain(60)
    assert report.id is not None
    done = await advance(database, report.id)
    assert (done.state, done.deletions["refused"], done.deletions["waiting"]) == ("done", 0, 0)
    shown = everything(slack)
    assert "work 1" not in shown
    assert "alice" not in shown
    assert "work 2" in shown
    assert await database.fetchval("SELECT count(*) FROM deliveries WHERE mode = 'erase'") == 0


async def test_messages_that_name_a_person_are_cleaned(
    posting: tuple[PostgresStore, Dispatcher], slack: FakeSlack, database: Any
) -> None:
    """Of another's task the root message and the replies that named the person are edited; none is lost."""
    store, dispatcher = posting
    await act(store, ALICE)
    assert await dispatcher.drain(60)
    assert "alice liddell" in everything(slack)
    count = len(slack.workspace.channel("#agents").all())
    await erased(database, person=("alice@wonder.example",))
    assert await dispatcher.drain(60)
    shown = everything(slack)
    assert "alice" not in shown
    assert COMMENT not in shown
    assert "deployment 900" in shown
    assert len(slack.workspace.channel("#agents").all()) == count


async def test_what_slack_refuses_is_reported(
    posting: tuple[PostgresStore, Dispatcher], slack: FakeSlack, database: Any
) -> None:
    """A message that belongs to another app cannot be deleted: the erasure says so."""
    store, dispatcher = posting
    await store.record(a_task(1))
    assert await dispatcher.drain(60)
    for message in slack.messages():
        message["bot_id"] = "B0ANOTHER"
    report = await erased(database, task="task-default-1")
    await dispatcher.drain(60)
    assert report.id is not None
    done = await advance(database, report.id)
    assert done.deletions["refused"] == 1
    assert done.refusals == ["cant_delete_message"]


async def test_a_person_among_many_tasks(
    posting: tuple[PostgresStore, Dispatcher], slack: FakeSlack, database: Any, tmp_path: Path
) -> None:
    """Half of the tasks are archived: nothing of the person is left in a table, a file or Slack; the others' stay."""
    pytest.importorskip("pyarrow")
    store, dispatcher = posting
    directory = tmp_path / "archive"
    for first in (0, MANY // 2):
        for number in range(first + 1, first + MANY // 2 + 1):
            user = {"user.id": "slack:T1:U0ALICE99"} if number % 10 == 5 else {"user.id": f"user-{number:06}"}
            requested_by = "alice@wonder.example" if number % 10 == 0 else "bob@wonder.example"
            await store.record(a_task(number, requested_by=requested_by, attributes=user))
            if number % 20 == 7:
                await act(store, ALICE, 100_000 + number)
        assert await dispatcher.drain(60 + MANY)
        if not first:
            await age(database)
            await retain(database, rules(directory))
    assert all(needle in everything(slack) for needle in ("alice liddell", COMMENT))
    assert "alice@wonder.example" in in_files(directory)
    report = await erased(database, directory, person=("alice@wonder.example",))
    assert await dispatcher.drain(60 + MANY)
    assert report.id is not None
    assert (await advance(database, report.id)).state == "done"
    assert await found(database) == []
    for text in (everything(slack), in_files(directory)):
        assert [needle for needle in NEEDLES if needle in text] == []
    assert everything(slack).count("work ") > 0
    assert "bob@wonder.example" in in_files(directory)
    left = await database.fetchval("SELECT count(*) FROM agent_tasks WHERE requested_by = 'bob@wonder.example'")
    assert left >= MANY // 2 * 8 // 10


@pytest.mark.needs("local-slack")
async def test_messages_in_a_third_partys_slack_are_deleted(
    server: str, postgres_dsn: str, database: Any, tmp_path: Path
) -> None:
    """In a Slack that others wrote the messages of the erased task are gone, and those of another task stay."""
    with run_local_slack(tmp_path) as url:
        slack = LocalSlack(url)
        store = PostgresStore(postgres_dsn, rules=FoldRules(routes=Routes(sinks=("slack",))), pool_size=4)
        await store.open()
        sink = SlackSink(channel=CHANNEL, transport=WebApi(BOT_TOKEN, base_url=slack.api), rates=FAST)
        dispatcher = Dispatcher(store.outbox, store, {"slack": sink})
        try:
            await store.record([*a_task(1), *a_task(2)])
            assert await dispatcher.drain(60)
            assert "work 1" in str(await slack.messages())
            report = await erased(database, task="task-default-1")
            assert await dispatcher.drain(60)
            assert report.id is not None
            done = await advance(database, report.id)
            assert (done.state, done.deletions["refused"], done.deletions["waiting"]) == ("done", 0, 0)
            after = await slack.messages()
            assert "work 1" not in str(after)
            assert "work 2" in str(after)
        finally:
            await dispatcher.close()
            await sink.close()
            await store.close()
            await slack.close()
