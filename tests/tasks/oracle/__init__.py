"""A second fold, to compare the real one with: task rows made from all observations at once.

The real fold takes observations one by one, in any order, and changes records in place. Here everything is known
from the beginning: observations are sorted, each span is built once, and each field of a row is one expression over
the observations of its task. It shares no code with `spanpost.tasks` but the readers. What a reader cannot say and a
table of its own proves (context windows, forecasts) is handed in by `rules.Rules`.

Read it in this order:

    notes        an observation with its meaning
    tree         the spans of one trace: the copy that counts, the parent, the owners
    placement    the run in which each span lies
    counting     model calls and tool calls, each once
    facts        the facts that the notes of a task give
    questions    questions to people, and their answers
    context      how full the context is
    usage        tokens and money of a task
    status       the status of a task, and why
    resumption   which runs of different traces are one task
    tasks        runs to tasks, and which task hangs below which
    rows         a task to its row
    checkpoints  the reported checkpoints
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.tasks.oracle.checkpoints import checkpoints_of
from tests.tasks.oracle.notes import Note, arranged
from tests.tasks.oracle.placement import Runs
from tests.tasks.oracle.rows import row
from tests.tasks.oracle.rules import Outcome, Point, Rules
from tests.tasks.oracle.tasks import Tasks
from tests.tasks.oracle.tree import traces_of

__all__ = ["Note", "Outcome", "Point", "Rules", "fold"]


def fold(notes: Iterable[Note], rules: Rules) -> Outcome:
    """Return the rows and the reported checkpoints of a finished history."""
    traces = traces_of(arranged(notes))
    tasks = Tasks(Runs(traces), rules)
    shown = [task for task in tasks.all if task.is_shown]
    rows = [row(task, tasks, rules) for task in shown]
    return Outcome(rows, checkpoints_of(tasks, shown), tasks.used_by_model(), tasks.used_by_task())
