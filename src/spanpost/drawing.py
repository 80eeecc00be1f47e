"""What stands behind a task's page on the board: its message as Slack would show it, and how full its context was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from spanpost.domain.browsing import TaskFilter
from spanpost.domain.checkpoints import Kind

if TYPE_CHECKING:
    from spanpost.domain.tasks import Task
    from spanpost.fold.curve import Point
    from spanpost.pipeline import Pipeline
    from spanpost.settings import Settings

#: Sub-agents of a message, and news of its thread: the newest.
_CHILDREN: Final = 50
_REPLIES: Final = 100


class Drawing:
    """Draws tasks of a pipeline's ledger. All of it raises `LedgerUnavailable`."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self._pipeline = pipeline
        self.settings = settings

    async def task(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, its uid, or its trace's id."""
        return await self._pipeline.ledger.browse.task(tenant, ref)

    async def curve(self, task_uid: UUID) -> list[Point]:
        """Return how full the context was, oldest first."""
        return await self._pipeline.ledger.curves.of(task_uid)

    async def message(self, task: Task) -> dict[str, Any]:
        """Return a task's message, and its thread, as the arguments that Slack would get: hidden is what the settings hide there."""
        from spanpost.reception import slack_of
        from spanpost.sinks.slack import manner_of
        from spanpost.sinks.slack.render import root
        from spanpost.sinks.slack.replies import reply
        from spanpost.sinks.slack.settings import SlackSettings

        manner = manner_of(slack_of(self.settings) or SlackSettings())
        ledger = self._pipeline.ledger
        below = await ledger.browse.tasks(TaskFilter(tenant=task.tenant, parent=task.uid), None, _CHILDREN)
        news = [one for one in await ledger.checkpoints(task_uid=task.uid, limit=10_000) if one.kind is not Kind.START]
        message = root(task, list(reversed(below.items)), key="", manner=manner)
        replies = [reply(task, one, key="", manner=manner) for one in news[-_REPLIES:]]
        return {"message": _shown(message), "replies": [_shown(one) for one in replies]}


def _shown(message: Any) -> dict[str, Any]:
    return {"text": message.text, "blocks": message.blocks, "attachments": message.attachments}
