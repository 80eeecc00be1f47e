"""Short ids: the beginning of what lists show names one task, question or rule, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.cli.columns import short
from spanpost.cli.references import NoSuchTask, key_in, question_in, task_in
from spanpost.model.errors import ConfigError
from spanpost.model.queries import ApprovalFilter, TaskFilter
from spanpost.runtime.decisions import NoSuchQuestion
from spanpost.store.memory import MemoryStore
from spanpost.store.protocols import Store
from spanpost.testing.exercise_browse import at_work_on
from spanpost.testing.exercise_people import asking, at_work


async def a_store() -> Store:
    store = MemoryStore()
    await store.open()
    await store.record([at_work_on(1, agent__task__id="deploy-eu"), at_work_on(2, agent__task__id="deploy-us")])
    return store


async def test_a_task_is_found_by_the_beginning_of_what_lists_show() -> None:
    """Whole ids, trace ids, the short id of a list and the beginning of a task id find the same task."""
    store = await a_store()
    [task] = [
        one
        for one in (await store.reader.tasks(TaskFilter(shows_all=True), None, 9)).items
        if one.task_id == "deploy-eu"
    ]
    for tenant in ("default", None):
        for ref in ("deploy-eu", "deploy-e", str(task.uid), short(task.uid), task.uid.hex[:6].upper()):
            assert (await task_in(store, tenant, ref)).uid == task.uid
    assert (await task_in(store, "default", task.trace_id.hex())).uid == task.uid


async def test_the_beginning_of_several_ids_names_them() -> None:
    """A beginning of several ids is refused with the candidates; a short or unknown one is no task."""
    store = await a_store()
    with pytest.raises(
        ConfigError, match=r"'deploy' is the beginning of several ids: name one, .*\(job .\) or .*\(job .\)"
    ):
        await task_in(store, "default", "deploy")
    for ref in ("deplo", "deploy-x", "ffffff0", "", "%", "deploy_"):
        with pytest.raises(NoSuchTask, match="spanpost tasks"):
            await task_in(store, "default", ref)
    with pytest.raises(NoSuchTask):
        await task_in(store, "acme", "deploy-eu")


async def test_a_question_is_found_by_the_beginning_of_its_key() -> None:
    """The short id of a question's list and the beginning of the agent's id find the question."""
    store = MemoryStore()
    await store.open()
    await store.record([at_work(), asking(id="deploy-to-eu")])
    [one] = (await store.reader.approvals(ApprovalFilter(tenant="default"), None, 9)).items
    for ref in ("deploy-to-eu", "deploy-t", str(one.row.key), short(one.row.key)):
        assert (await question_in(store, "default", ref)).key == one.row.key
    for ref in ("deplo", "no-such"):
        with pytest.raises(NoSuchQuestion):
            await question_in(store, "default", ref)


def test_a_row_is_found_by_the_beginning_of_its_id() -> None:
    """Rows with UUIDs are found by six digits; a whole id asks for no list, and several candidates are named."""
    rows = [{"id": f"abcdef0{n}-0000-4000-8000-000000000000", "tool": f"tool {n}"} for n in (1, 2)]
    assert key_in(lambda: rows, "abcdef01", "tool") == rows[0]["id"]
    assert key_in(lambda: rows, "abc", "tool") == "abc"
    assert key_in(lambda: rows, "unknown", "tool") == "unknown"
    with pytest.raises(ConfigError, match=r"several ids: name one, .*\(tool 1\) or .*\(tool 2\)"):
        key_in(lambda: rows, "abcdef0", "tool")

    def never() -> Any:
        raise AssertionError("a whole id needs no list")

    assert key_in(never, rows[1]["id"], "tool") == rows[1]["id"]
