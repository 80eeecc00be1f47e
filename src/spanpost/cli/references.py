"""References on the command line: a task, question or other row by any of its ids, or by the beginning of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from spanpost.cli.remote import Remote, RemoteAnswered, path_of
from spanpost.model.errors import ConfigError
from spanpost.model.queries import LEAST_PREFIX, is_begun
from spanpost.tasks.titles import title
from spanpost.text.sanitise import line

if TYPE_CHECKING:
    from spanpost.model.interventions import ApprovalRow
    from spanpost.model.tasks import Task
    from spanpost.store.protocols import Store

#: Candidates that are named for the beginning of several ids.
_MOST: Final = 5


class NoSuchTask(ConfigError):
    """No task has that id, and none an id that begins so."""


async def task_in(store: Store, tenant: str | None, ref: str) -> Task:
    """Return a task by any of its ids, its trace id or a beginning; without a tenant, one of any tenant.

    Raises `NoSuchTask`, and `ConfigError` for the beginning of several ids.
    """
    from spanpost.model.queries import TaskFilter, TaskQuery
    from spanpost.store.pages import uuid_of

    if tenant is not None:
        task = await store.reader.task(tenant, ref)
        found = [task] if task is not None else []
    else:
        found = await store.tasks(TaskQuery(task_id=ref, limit=_MOST))
        if not found and (uid := uuid_of(ref)) is not None and (task := await store.reader.find(uid)) is not None:
            found = [task]
        if len({one.tenant for one in found}) > 1:
            raise ConfigError(f"{ref[:100]!r} is a task of several tenants: name one with --tenant")
    if not found and len(ref) >= LEAST_PREFIX:
        asked = TaskFilter(tenant=tenant, begins=ref, shows_all=True)
        page = await store.reader.tasks(asked, None, _MOST)
        found = [_only(ref, page.items, lambda one: (one.uid, title(one)))] if page.items else []
    if not found:
        raise _no_task(ref)
    return found[0]


def task_at(remote: Remote, ref: str) -> dict[str, Any]:
    """Return a gateway's whole task by the same ids. Raises `NoSuchTask`, `ConfigError`, `RemoteAnswered`."""
    found = _at(remote, "/api/tasks", ref, {"all": True}, "uid", lambda one: one["title"])
    if found is None:
        raise _no_task(ref)
    return found


async def question_in(store: Store, tenant: str, ref: str) -> ApprovalRow:
    """Return a tenant's question by its id, its key or a beginning. Raises `NoSuchQuestion`, `ConfigError`."""
    from spanpost.model.queries import ApprovalFilter
    from spanpost.runtime.decisions import NoSuchQuestion, question_named

    try:
        return await question_named(store.interventions, tenant, ref)
    except NoSuchQuestion:
        if len(ref) < LEAST_PREFIX:
            raise
        page = await store.reader.approvals(ApprovalFilter(tenant=tenant, begins=ref), None, _MOST)
        row: ApprovalRow | None = _only(ref, [one.row for one in page.items], lambda one: (one.key, one.question))
        if row is None:
            raise
        return row


def question_at(remote: Remote, ref: str) -> dict[str, Any]:
    """Return a gateway's question by the same ids. Raises `ConfigError`, `RemoteAnswered`."""
    found = _at(remote, "/api/approvals", ref, {}, "key", lambda one: one["question"] or one["id"])
    if found is None:
        raise ConfigError(f"{ref[:100]!r}: no question has that id or key; `spanpost approvals list` lists them")
    return found


def key_in(rows: Callable[[], Sequence[Mapping[str, Any]]], ref: str, name: str) -> str:
    """Return the `id` of the row that begins so; `ref` if it is a whole key or none begins so. Raises `ConfigError`."""
    with suppress(ValueError):
        return str(UUID(ref))
    if len(ref) < LEAST_PREFIX:
        return ref
    begun = [row for row in rows() if is_begun(UUID(row["id"]), row["id"], ref)]
    row = _only(ref, begun, lambda one: (one["id"], one[name] or ""))
    return row["id"] if row is not None else ref


def _at(remote: Remote, path: str, ref: str, asked: Mapping[str, Any], key: str, name: Any) -> dict[str, Any] | None:
    try:
        return dict(remote.get(f"{path}/{path_of(ref)}", {}))
    except RemoteAnswered as error:
        if error.status != 404:
            raise
        if len(ref) < LEAST_PREFIX:
            return None
    one = _only(ref, remote.items(path, {**asked, "begins": ref[:200]}, _MOST), lambda one: (one[key], name(one)))
    return dict(remote.get(f"{path}/{path_of(one[key])}", {})) if one is not None else None


def _only(ref: str, found: Sequence[Any], named: Any) -> Any:
    """Return the only one that was found; None without any. Raises `ConfigError` with the candidates."""
    if len(found) > 1:
        some = " or ".join(f"{key} ({line(name, 60)})" for key, name in map(named, found))
        raise ConfigError(f"{ref[:100]!r} is the beginning of several ids: name one, {some}")
    return found[0] if found else None


def _no_task(ref: str) -> NoSuchTask:
    return NoSuchTask(
        f"{ref[:100]!r}: no task has an id that is this or begins so ({LEAST_PREFIX} characters at least); "
        "`spanpost tasks` lists them"
    )
