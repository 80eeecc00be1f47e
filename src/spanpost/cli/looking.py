"""A whole task for the command line: the task, the tasks below it, its questions and the end of its timeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from spanpost.cli.options import ask, note_read
from spanpost.cli.references import task_at, task_in
from spanpost.cli.remote import Remote, path_of
from spanpost.model.acts import ContentKind

if TYPE_CHECKING:
    from uuid import UUID

    from spanpost.model.tasks import Task
    from spanpost.settings import Settings
    from spanpost.store.protocols import Store

#: Tasks below the task that are shown, and child tasks, follow-ups and questions that are read of each.
_BELOW: Final = 200
_CHILDREN, _FOLLOWERS, _QUESTIONS = 100, 50, 200
#: Entries of a timeline that are read at once.
_PAGE = 200


class WholeTask(NamedTuple):
    """A task as the API returns it, the tasks below it, and the newest entries of its timeline."""

    task: dict[str, Any]
    below: list[dict[str, Any]]
    timeline: list[dict[str, Any]]


def whole_in(settings: Settings, tenant: str, ref: str, entries: int) -> WholeTask:
    """Return a task of the database. Raises `ConfigError`."""
    task = ask(settings, lambda store: task_in(store, tenant, ref))
    if task.approvals:
        note_read(settings, ContentKind.QUESTION, tenant=tenant, tasks=[task.uid])
    return ask(settings, lambda store: read_in(store, tenant, task, entries))


async def read_in(store: Store, tenant: str, task: Task, entries: int) -> WholeTask:
    from spanpost.model.queries import ApprovalQuery, TaskFilter, TimelineFilter
    from spanpost.tasks.api_json import task_summary, task_whole, timeline_entry_json
    from spanpost.tasks.json_form import question_json

    async def below(uid: UUID) -> list[Task]:
        return (await store.reader.tasks(TaskFilter(tenant=tenant, parent=uid, shows_all=True), None, _CHILDREN)).items

    family: list[Task] = []
    waiting, seen = [task], {task.uid}
    while waiting and len(family) < _BELOW:
        found = [one for one in await below(waiting.pop(0).uid) if one.uid not in seen]
        seen.update(one.uid for one in found)
        family += found
        waiting += [one for one in found if one.child_count]
    follows = TaskFilter(tenant=tenant, follows=tuple(dict.fromkeys((task.task_id, *task.aliases))))
    after = (await store.reader.tasks(follows, None, _FOLLOWERS)).items
    rows = await store.interventions.approvals(ApprovalQuery(task_uid=task.uid, limit=_QUESTIONS))
    newest: list[dict[str, Any]] = []
    order, key = TimelineFilter(is_newest_first=True), None
    while (left := entries - len(newest)) > 0:
        page = await store.reader.timeline(task.uid, key, min(left, _PAGE), content=False, asked=order)
        newest += map(timeline_entry_json, page.items)
        if (key := page.next) is None:
            break
    children = [one for one in family if one.parent_uid == task.uid]
    questions = [question_json(row, task) | {"acts": []} for row in rows]
    whole = task_whole(task, children, after, questions, ())
    return WholeTask(whole, list(map(task_summary, family)), newest[::-1])


def whole_at(url: str, data_dir: Path | None, ref: str, entries: int) -> WholeTask:
    """Return a task of a gateway. Raises `ConfigError` and `RemoteAnswered`."""
    with Remote(url, data_dir) as remote:
        return read_at(remote, task_at(remote, ref), entries)


def read_at(remote: Remote, task: dict[str, Any], entries: int) -> WholeTask:
    """Return what else there is of a gateway's task. Raises `RemoteAnswered`."""
    family: list[Mapping[str, Any]] = []
    waiting, seen = [task], {task["uid"]}
    while waiting and len(family) < _BELOW:
        uid = waiting.pop(0)["uid"]
        found = remote.items("/api/tasks", {"parent": uid, "all": True}, _CHILDREN)
        found = [one for one in found if one["uid"] not in seen]
        seen.update(one["uid"] for one in found)
        family += found
        waiting += [one for one in found if one["child_count"]]
    newest: list[dict[str, Any]] = []
    key = None
    while (left := entries - len(newest)) > 0:
        asked = {"limit": min(left, _PAGE), "order": "newest", **({"after": key} if key else {})}
        page = remote.get(f"/api/tasks/{path_of(task['uid'])}/timeline", asked)
        newest += page["items"]
        if (key := page["next"]) is None:
            break
    return WholeTask(task, [dict(one) for one in family], newest[::-1])
