"""``spanpost watch``: checkpoints of tasks as they happen, from the database or from a gateway."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spanpost.cli import completion
from spanpost.cli.options import DatabaseUrl, DataDir, opened, refuse_unknown, settings_of
from spanpost.cli.references import task_at, task_in
from spanpost.cli.remote import Url

if TYPE_CHECKING:
    from spanpost.model.queries import TaskFilter
    from spanpost.settings import Settings

#: Pause between two queries, seconds; and rows per query.
_POLL: Final = 0.5
_PAGE: Final = 200
_BEGUN: Final = "watching; stop with Ctrl-C"


def watch(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="Only checkpoints in this status.")
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option("--agent", metavar="NAME", help="Only tasks of this agent.")
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option("--topic", metavar="NAME", help="Only tasks with this topic.")
    ] = None,
    q: Annotated[
        str, typer.Option("--search", metavar="TEXT", help="Only tasks with this text in name, action, id or agent.")
    ] = "",
    task: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", autocompletion=completion.tasks, help="Only this task and the tasks below it."
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Tenant of the tasks, in the database.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", metavar="N", min=1, help="Exit after this many.")] = None,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Print checkpoints of tasks as they happen, from now on, until Ctrl-C."""
    refuse_unknown(status)
    show = _line if as_json else _row
    if url is not None:
        from spanpost.cli.remote import Remote

        asked = {"status": status, "agent": agent, "topic": topic, "q": q, "event": "checkpoint"}
        with Remote(url, data_dir) as remote:
            if task is not None:
                asked["task"] = task_at(remote, task)["uid"]
            for fields in itertools.islice(_followed(remote.follow(asked)), count):
                show(fields)
        return
    from spanpost.model.queries import TaskFilter

    settings = settings_of(database_url, data_dir)
    found = TaskFilter(
        tenant=tenant if tenant is not None else settings.intake.tenant,
        agents=tuple(agent or ()),
        topics=tuple(topic or ()),
        q=q,
    )
    asyncio.run(_watch(settings, found, tuple(status or ()), task, count, show))


def _followed(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    has_begun = False
    for event in events:
        if event["event"] == "checkpoint":
            yield event["data"]
        elif event["event"] == "hello" and not has_begun:
            has_begun = True
            print(_BEGUN, file=sys.stderr, flush=True)


async def _watch(
    settings: Settings,
    asked: TaskFilter,
    statuses: tuple[str, ...],
    ref: str | None,
    count: int | None,
    show: Callable[[Any], None],
) -> None:
    left = count
    async for fields in _checkpoints(settings, asked, statuses, ref):
        show(fields)
        left = left - 1 if left is not None else None
        if left == 0:
            return


async def _checkpoints(
    settings: Settings, asked: TaskFilter, statuses: tuple[str, ...], ref: str | None
) -> AsyncIterator[dict[str, Any]]:
    from spanpost.model.errors import StoreUnavailable
    from spanpost.tasks.json_form import streamed_json

    async with opened(settings) as store:
        uid = None
        if ref is not None:
            uid = (await task_in(store, asked.tenant, ref)).uid
        place = await store.reader.head()
        print(_BEGUN, file=sys.stderr, flush=True)
        while True:
            try:
                page = await store.reader.streamed(place, _PAGE, asked.tenant)
            except StoreUnavailable:
                page = []  # an outage; checkpoints of that time are read afterwards
            for one in page:
                place = one.position
                is_of = uid is None or uid in (one.task.uid, one.task.parent_uid, one.task.root_uid)
                if is_of and asked.takes(one.task) and (not statuses or one.checkpoint.status in statuses):
                    yield streamed_json(one)
            if len(page) < _PAGE:
                await asyncio.sleep(_POLL)


def _line(fields: Mapping[str, Any]) -> None:
    print(json.dumps(fields), flush=True)


def _row(fields: Mapping[str, Any]) -> None:
    from spanpost.cli import tables

    tables.print_event(fields)
