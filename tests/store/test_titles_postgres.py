"""One title for a task: in rows, views, the API, messages, the command line and on the board."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import msgspec
import pytest

from spanpost.cli import task_lines
from spanpost.interactions.api.waterfalls import WaterfallBody
from spanpost.interactions.slack import lines, modals
from spanpost.model.queries import ApprovalFilter, TaskFilter
from spanpost.sinks import labels
from spanpost.sinks.slack import render
from spanpost.sinks.slack.style import SlackStyle
from spanpost.store.postgres import PostgresStore
from spanpost.tasks.api_json import task_summary
from spanpost.tasks.json_form import question_json, streamed_json
from spanpost.testing.exercise_people import asking
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import started

_ASK = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Mend the tests"}]}])
_RUN = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "coder", "gen_ai.input.messages": _ASK}
_VIEWS = "agent_tasks title", "agent_tasks_now title", "agent_timeline task", "grafana_annotations text"


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("said", "keeps", "expected"),
    [
        (_RUN | {"agent.task.name": "Nightly build"}, True, "Nightly build"),
        (_RUN, True, "Mend the tests"),
        (_RUN, False, "coder"),
    ],
    ids=["named", "asked", "without content"],
)
async def test_a_task_has_one_title(postgres_dsn: str, said: dict[str, Any], keeps: bool, expected: str) -> None:
    """Its name from its agent, else what was asked where content is kept, else a name: the same on every surface."""
    store = PostgresStore(postgres_dsn, rules=msgspec.structs.replace(ROUTED_RULES, keeps_content=keeps), pool_size=2)
    await store.open()
    try:
        head = await store.reader.head()
        await store.record(
            [started(trace=1, span=1, name="invoke_agent coder", attributes=said), asking("go", trace=1)]
        )
        [task] = (await store.reader.tasks(TaskFilter(tenant="default"), None, 5)).items
        seen = {"summary": task_summary(task)["title"], "labels": labels.title(task)}
        seen["terminal"] = task_lines.row_of(task, 0, datetime.now(UTC), None)[2]
        seen["slack"] = render.titled(task, SlackStyle())
        seen["slack list"] = "".join(str(part) for part in lines.task(task))
        seen["slack details"] = modals.texts(task)[0]
        [question] = (await store.reader.approvals(ApprovalFilter(tenant="default"), None, 5)).items
        seen["question"] = question_json(question.row, question.task)["task_name"]
        streamed = await store.reader.streamed(head, 9)
        seen["stream"] = streamed_json(streamed[0])["task_name"]
        async with store._pool.acquire() as connection:
            for view in _VIEWS:
                table, column = view.split()
                seen[view] = await connection.fetchval(f"SELECT {column} FROM {table} LIMIT 1")
        found = (await store.reader.tasks(TaskFilter(tenant="default", q=expected[2:].upper()), None, 5)).items
        assert [one.uid for one in found] == [task.uid]
    finally:
        await store.close()
    assert {name: str(text) for name, text in seen.items() if expected not in str(text)} == {}
    others = {"Nightly build", "Mend the tests"} - {expected}
    seen.pop("slack details")
    assert [name for name, text in seen.items() if any(one in str(text) for one in others)] == []


def test_the_board_shows_the_title_of_the_api() -> None:
    """No file of the board makes a title of a task's name, and a waterfall's tracks have titles."""
    board = resources.files("spanpost.interactions.board") / "static"
    assert [one.name for one in board.iterdir() if one.name.endswith(".js") and "task.name" in one.read_text()] == []
    assert "line(task.title" in (board / "words.js").read_text()
    assert "title" in WaterfallBody.model_json_schema()["$defs"]["TrackBody"]["properties"]
