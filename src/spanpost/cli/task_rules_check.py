"""The check of which traces have a message."""

from __future__ import annotations

from spanpost.cli.listening import NamedFinding
from spanpost.settings import Settings
from spanpost.tasks.task_rules import ONE_TASK
from spanpost.text.sanitise import line


def examine_task_rules(settings: Settings) -> NamedFinding:
    """Report which traces have a message, and how conversations are shown."""
    rules = settings.tasks
    said = {
        "agents": "runs of agents",
        "model calls": "runs of agents and all traces with model calls",
        "failures": "runs of agents and traces with model calls, once they failed",
        "nothing": "questions alone",
    }
    requests = "".join(f"; in {line(name, 60)}: {said[when]}" for name, when in rules.requests.items())
    turns = "a conversation is one task" if rules.conversations == ONE_TASK else "each turn is a task"
    cure = "" if rules.requests or rules.when != "agents" else "tasks.when and tasks.requests choose others"
    return NamedFinding("tasks", True, f"with a message: {said[rules.when]}{requests}; {turns}", cure)
