"""The two lines that say a task: what matters of it now, and its own words. All sinks share them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from spanpost.model.tasks import MERGED, Task
from spanpost.model.totals import together
from spanpost.semconv import ERROR
from spanpost.sinks import labels
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import line


def headline(task: Task, children: Sequence[Task] = (), locale: Locale = ENGLISH) -> str:
    """Return what matters of a task now, in place of its status where the sign says that already:

    ``step 3 of 5 · 50 %``, ``waits for you``, ``1 of 8 agents waits · 1 failed``, ``54 s · $0.72``.
    """
    label = labels.task_label(task, locale)
    if task.is_alert or task.end_reason == MERGED:
        return label.word
    if labels.is_final(task):
        return _at_end(task, children, label.word, locale)
    place = _place(task, locale)
    asked = locale.say("headline.waits_for_you") if task.open_approvals else ""
    if asked or not children:
        word = asked or ("" if task.status == "working" and place else label.word)
        return " · ".join(filter(None, (word, place)))
    word = "" if task.status == "working" or task.waits_for_person else label.word
    return " · ".join(filter(None, (word, agents(task, children, locale), place)))


def agents(task: Task, children: Sequence[Task], locale: Locale = ENGLISH) -> str:
    """Return what the tasks below do together, the most in need of a person first:

    ``1 of 8 agents waits · 1 failed · 3 at work``.

    The state counts them (`tasks.agents_below`), at any depth. A state that was stored before a count has none: then
    the given tasks are counted.
    """
    open_, waiting, failed = task.working_children, task.waiting_children, task.failed_children
    n = open_ + waiting + failed + task.done_children
    if not n:
        n = len(children)
        waiting = sum(is_asking(c) for c in children)
        failed = sum(c.status == ERROR for c in children)
        open_ = sum(not labels.is_final(c) for c in children) - waiting
    if not n:
        return ""
    said = []
    if waiting:
        key = "headline.agents_wait" if n > 1 else "headline.agent_waits"
        said.append(locale.say(key, waiting=waiting, all=n, n=waiting))
    if failed:
        key = "figure.failed" if said else "headline.agents_failed" if n > 1 else "headline.agent_failed"
        said.append(locale.say(key, failed=failed, n=failed, all=n))
    if open_:
        said.append(
            locale.say("headline.at_work", n=open_) if said else locale.say("figure.agents_at_work", open=open_, n=n)
        )
    return " · ".join(said) or locale.say("figure.agents_done", n=n)


def is_asking(task: Task) -> bool:
    """Tell whether a task waits for a person. One that failed while it asked does not, though it may be answered."""
    return not labels.is_final(task) and (bool(task.open_approvals) or task.waits_for_person)


def words(task: Task, limit: int = 300, locale: Locale = ENGLISH) -> str:
    """Return the task's own last words: its last checkpoint, else its reported action; empty where it said nothing."""
    if task.last_checkpoint:
        return line(locale.translate(task.messages.get("last_checkpoint"), task.last_checkpoint), limit)
    return "" if task.messages.get("action") is not None else line(task.action or "", limit)


def last_words(task: Task, locale: Locale = ENGLISH) -> str:
    """Return line 2 of a task that asks nothing and has not failed: its words, at the end its answer.

    Of a task that says nothing: the call that is open, at the end the tools that it called.
    """
    is_final = labels.is_final(task)
    if is_final and task.answer:
        return line(task.answer, 300)
    if said := words(task, 300, locale):
        return "" if is_final and (task.results or task.artifacts) else said
    if is_final:
        return _called(task, locale)
    if task.step_name or labels.is_count_of_agents(task.messages.get("action")):
        return ""
    return labels.doing(task, 300, locale)


def _called(task: Task, locale: Locale) -> str:
    """Return the tools that a task called, where they are its steps: ``tool: search, read_file ×3``."""
    if any(step.index is not None for step in task.steps) or task.results or task.artifacts:
        return ""
    names = ", ".join(filter(None, (line(locale.translate(one.message, one.name), 60) for one in task.steps)))
    return locale.say("task.tool", name=line(names, 120)) if names and not task.step_name else ""


def family(task: Task, children: Sequence[Task]) -> Task:
    """Return a task with the figures of itself and all tasks below it."""
    if not children:
        return task
    sums = together((task, *children))
    return msgspec.structs.replace(
        task,
        input_tokens=sums.usage.input,
        output_tokens=sums.usage.output,
        cost_usd=sums.usage.cost_usd,
        unpriced_calls=sums.unpriced_calls,
        tool_calls=sum(one.tool_calls for one in (task, *children)),
        tool_errors=sum(one.tool_errors for one in (task, *children)),
    )


def _place(task: Task, locale: Locale) -> str:
    """Return how far a task is: ``step 3 of 5 · 50 %``."""
    said = []
    if task.step_index and task.step_count:
        said.append(locale.say("headline.step_of", index=task.step_index, count=task.step_count))
    elif task.step_index:
        said.append(locale.say("headline.step", index=task.step_index))
    if (done := labels.percent(task)) is not None and (task.progress is not None or not said):
        said.append(labels.share(done, locale))
    return " · ".join(said)


def _at_end(task: Task, children: Sequence[Task], word: str, locale: Locale) -> str:
    said = []
    if task.status == ERROR:
        said.append(_where(task, locale) or word)
    elif task.status != "complete" or task.child_failed:
        said.append(agents(task, children, locale) if task.status == "complete" and children else word)
    if (span := labels.age(task, None)) is not None and span.total_seconds() >= 0:
        said.append(locale.duration(span.total_seconds()))
    if cost := labels.cost(family(task, children), locale):
        said.append(cost)
    return " · ".join(said) or word


def _where(task: Task, locale: Locale) -> str:
    """Return the step in which a task failed: ``failed in step 2 of 3, canary``."""
    name = line(locale.translate(task.messages.get("step_name"), task.step_name or ""), 80)
    if task.step_index and task.step_count:
        said = locale.say("headline.failed_in_step_of", index=task.step_index, count=task.step_count)
    elif task.step_index:
        said = locale.say("headline.failed_in_step", index=task.step_index)
    else:
        return locale.say("headline.failed_in", name=name) if name else ""
    return f"{said}, {name}" if name else said
