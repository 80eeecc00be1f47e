"""The label of a task whose agent repeats itself."""

from __future__ import annotations

from spanpost.model.tasks import Task
from spanpost.semconv import FINAL_STATUSES
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import line


def loop(task: Task, locale: Locale = ENGLISH) -> str:
    """Return ``🔁 repeats read_file ×6``; empty unless a running task repeats itself and no person let it be."""
    found = task.loop
    if found is None or found.is_dismissed or task.status in FINAL_STATUSES:
        return ""
    names = ", ".join(line(tool, 40) for tool in found.tools)
    return f"🔁 {locale.say('figure.loop', tools=names, count=found.count)}"
