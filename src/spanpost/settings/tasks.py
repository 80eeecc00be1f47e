"""Settings of the section `tasks`."""

from __future__ import annotations

from pydantic import Field

from spanpost.settings.section import Section
from spanpost.tasks.task_rules import Conversations, TaskRules, When


class TaskSettings(Section, TaskRules):
    """What becomes a task with a message. What has none has a row and its figures: tokens, cost, errors."""

    conversations: Conversations = Field(
        default=TaskRules.conversations,
        description="Runs of one agent in one service that name the same conversation (thread, session): `one task` "
        "with a run each, or `a task a turn`.",
    )
    when: When = Field(
        default=TaskRules.when,
        description="Which traces have a message: `agents` (runs of agents and workflows, tasks that name themselves), "
        "`model calls` (every trace with a model call, too), `failures` (those of them that ended in an error), "
        "`nothing`. A task that asks a person always has one.",
    )
    requests: dict[str, When] = Field(
        default={},
        max_length=100,
        description="The same for work in an HTTP request, a job or a message of a queue, by the name of its span. `*` "
        'stands for any text, and the first pattern that matches decides: `{"POST /answer" = "failures", '
        '"GET *" = "nothing"}`.',
    )
