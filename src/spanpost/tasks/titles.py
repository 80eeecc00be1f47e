"""The title of a task: one rule for rows, the API, the board, dashboards, messages and the command line. Pure."""

from __future__ import annotations

from spanpost.model.tasks import Task
from spanpost.text.sanitise import line

#: Characters of a title in a row and in the API.
LONGEST = 200


def title(task: Task, limit: int = LONGEST, unnamed: str = "task {id}") -> str:
    """Return the name that people read: its own, else what was asked, else its framework's, its agent's or its id.

    A surface that shows no content hands over a task without what was asked. `unnamed`: the words around an id.
    """
    return (
        line((not task.is_named and task.ask) or task.name, limit)
        or line(task.agent_name or "", limit)
        or line(unnamed.format(id=task.task_id), limit)
    )
