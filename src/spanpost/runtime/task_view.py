"""The message of a task as Slack would show it, for its page on the board."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode
from spanpost.model.queries import TaskFilter
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route, Routes, Verbosity, chosen, deliveries

if TYPE_CHECKING:
    from spanpost.settings import Settings
    from spanpost.sinks.slack.style import SlackStyle
    from spanpost.store.protocols import Reader

#: Maximum numbers of sub-agents and thread replies of a message, and of checkpoints that are read per task.
_CHILDREN: Final = 50
_REPLIES: Final = 100
_CHECKPOINTS: Final = 10_000
_SLACK: Final = "slack"


class TaskMessages:
    """Draws the messages of tasks."""

    def __init__(self, reader: Reader, settings: Settings) -> None:
        self._reader = reader
        self.settings = settings

    async def draw(self, task: Task) -> dict[str, Any]:
        """Return the message of a task, and its thread, as the arguments of Slack's API by the task's
        route.

        A sub-agent's is the message of its root task. Without Slack it is drawn as Slack would show it by
        default. Raises `StoreUnavailable`.
        """
        from spanpost.sinks.slack.render import root

        carrier = (
            next(iter(await self._reader.those([task.root_uid])), task)
            if task.root_uid not in (None, task.uid)
            else task
        )
        route, slack_style, channel = self._route(carrier)
        below = await self._reader.tasks(TaskFilter(tenant=carrier.tenant, parent=carrier.uid), None, _CHILDREN)
        children = list(reversed(below.items))
        thread = (await self._thread([carrier, *children], carrier, route))[-_REPLIES:]
        message = root(carrier, children, key="", slack_style=slack_style)
        return {
            "message": _shown(message),
            "replies": [
                _shown(_reply(one, checkpoint, carrier, slack_style, count)) for one, checkpoint, count in thread
            ],
            "channel": channel,
            "verbosity": str(route.verbosity),
            "task_uid": str(carrier.uid),
        }

    def _route(self, carrier: Task) -> tuple[Route, SlackStyle, str | None]:
        """Return the permanent route of a task's message, its style there, and its channel; None if none is
        sent.
        """
        from spanpost.runtime.assembly import routes_of, with_buttons
        from spanpost.sinks.slack import slack_style_of
        from spanpost.sinks.slack.settings import SlackSettings

        settings = self.settings
        section = settings.sinks.get(_SLACK)
        is_on = isinstance(section, SlackSettings) and section.enabled
        said = with_buttons(section, settings) if isinstance(section, SlackSettings) else SlackSettings()
        assert isinstance(said, SlackSettings)
        launches = settings.launchers
        slack_style = msgspec.structs.replace(slack_style_of(said), retries=lambda task: bool(launches.retrier(task)))
        taken = (
            [route for route in chosen(carrier, routes_of(settings), sink=_SLACK) if not route.is_passing]
            if is_on
            else []
        )
        if not taken:
            return Route(sink=_SLACK), slack_style, None
        route = taken[0]
        is_posted = is_on and route.verbosity is not Verbosity.MUTE and carrier.is_announced
        return route, slack_style.by(route), (route.address or said.channel or None) if is_posted else None

    async def _thread(self, family: Sequence[Task], carrier: Task, route: Route) -> list[tuple[Task, Checkpoint, int]]:
        """Return the checkpoints of a message's thread in order of time, each with its count of reports. A
        muted route is drawn in full.
        """
        found = await asyncio.gather(
            *(self._reader.checkpoints(task_uid=one.uid, limit=_CHECKPOINTS) for one in family)
        )
        by_uid = {one.uid: one for one in family}
        checkpoints = sorted((one for each in found for one in each), key=lambda one: (one.at, one.id))
        known = {one.id: one for one in checkpoints}
        verbosity = route.verbosity if route.verbosity is not Verbosity.MUTE else Verbosity.LIVE
        # The interval of milestones and the age of notifications cannot be reconstructed afterwards.
        open_route = Route(sink=_SLACK, address=route.address, severity=route.severity, verbosity=verbosity)
        table = Routes(sinks=(_SLACK,), routes=(open_route,), editing=frozenset({_SLACK}))
        lines: dict[str, tuple[Task, Checkpoint, int]] = {}
        for one in checkpoints:
            task = by_uid[one.task_uid]
            if one.kind is Kind.START and task.uid == carrier.uid:
                continue  # the message shows it
            for delivery in deliveries(task, one, table, root=carrier, is_milestone=True):
                shown = (
                    known.get(delivery.checkpoint_id)
                    if delivery.mode is Mode.CHECKPOINT and delivery.checkpoint_id is not None
                    else None
                )
                if shown is not None:
                    count = lines[delivery.key][2] + 1 if delivery.key in lines else 1
                    lines[delivery.key] = (task, shown, count if shown.kind is Kind.ERROR else 1)
        return list(lines.values())


def _reply(task: Task, checkpoint: Checkpoint, carrier: Task, slack_style: SlackStyle, count: int) -> Any:
    from spanpost.sinks.slack.replies import reply

    return reply(task, checkpoint, key="", is_root=task.uid == carrier.uid, slack_style=slack_style, count=count)


def _shown(message: Any) -> dict[str, Any]:
    return {"text": message.text, "blocks": message.blocks, "attachments": message.attachments}
