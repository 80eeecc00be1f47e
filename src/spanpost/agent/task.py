"""A task as a span: `agent_task`, and the helpers that report its progress."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode, Tracer

from spanpost import semconv as c
from spanpost.agent.decorate import decorate
from spanpost.agent.progress import StatusWord, progress_attributes, without_none

P = ParamSpec("P")
R = TypeVar("R")

_SCOPE = "spanpost.agent"
#: Variable with the launch order of a process that a launcher started.
ORDER_VARIABLE = "SPANPOST_ORDER"
_TASK_KEY = otel_context.create_key("spanpost-agent-task")


class Task:
    """A running task, to report what it does.

    Every method is safe after its end, and without any receiver.
    """

    def __init__(self, span: Span, task_id: str | None = None) -> None:
        self.span = span
        #: The id that was given; without one, the task is known by its trace and span ids.
        self.task_id = task_id
        self._status: str | None = None
        self._is_finished = False

    def checkpoint(
        self,
        message: str,
        *,
        progress: float | None = None,
        status: StatusWord | None = None,
        action: str | None = None,
        step: str | None = None,
        step_index: int | None = None,
        step_count: int | None = None,
        context_used: int | None = None,
        context_window: int | None = None,
        **attributes: Any,
    ) -> None:
        """Report a checkpoint: an event that people are notified of, not saved state.

        `progress` is in percent, `step_index` counts from 1. Progress also becomes an attribute of the task.
        Other attributes are put on the event unchanged.

            task.checkpoint("tests pass", progress=80, step="verify", step_index=3, step_count=4)
        """
        said = progress_attributes(
            progress=progress,
            status=status,
            action=action,
            step=step,
            step_index=step_index,
            step_count=step_count,
            context_used=context_used,
            context_window=context_window,
        )
        _tell_checkpoint(self.span, self, message, said, attributes)

    def artifact(self, name: str, uri: str | None = None, kind: str | None = None, **attributes: Any) -> None:
        """Report an artifact: ``task.artifact("PR 12", "https://…/pull/12", "pr")``."""
        _tell_artifact(self.span, name, uri, kind, attributes)

    def step(self, name: str, index: int | None = None, count: int | None = None) -> None:
        """Report the current step of the plan; `index` counts from 1."""
        self._keep(progress_attributes(step=name, step_index=index, step_count=count))

    def result(self, name: str, value: str | bool | int | float) -> None:
        """Set a result that is shown at the end: ``task.result("tests", "42 passed")``."""
        self._keep({c.RESULT_PREFIX + name: value})

    def link(self, name: str, url: str) -> None:
        """Set an http(s) link that is shown with the task: ``task.link("logs", "https://…")``."""
        self._keep({c.LINK_PREFIX + name: url})

    def context(self, used: int, window: int | None = None) -> None:
        """Report the used tokens of the context window, if the agent knows them better than the model's
        usage says.
        """
        self._keep(progress_attributes(context_used=used, context_window=window))

    def set(
        self,
        *,
        status: StatusWord | None = None,
        progress: float | None = None,
        action: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Set attributes without a checkpoint. A final `status` that is set here stays at the end."""
        self._keep({**progress_attributes(progress=progress, status=status, action=action), **without_none(attributes)})

    def _keep(self, attributes: Mapping[str, Any]) -> None:
        self._status = attributes.get(c.STATUS, self._status)
        if attributes and self.span.is_recording():
            self.span.set_attributes(dict(attributes))

    @contextmanager
    def _as_current(self) -> Iterator[None]:
        token = otel_context.attach(self._context())
        try:
            yield
        finally:
            otel_context.detach(token)

    def _context(self) -> otel_context.Context:
        return otel_context.set_value(_TASK_KEY, self, trace.set_span_in_context(self.span))

    def _finish(self, error: BaseException | None) -> None:
        """End the span, with the status that follows from `error`. Idempotent."""
        if self._is_finished:
            return
        self._is_finished = True
        span = self.span
        status = _final_status(self._status, error)
        if span.is_recording():
            span.set_attribute(c.STATUS, status)
            if status == c.ERROR:
                if isinstance(error, Exception):
                    span.record_exception(error)
                span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}" if error is not None else None)
        span.end()


def _final_status(said: str | None, error: BaseException | None) -> str:
    """Return the final status: an exception overrides a reported success, and a reported failure stays."""
    if said in (c.ERROR, c.CANCELLED):
        return str(said)
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return c.COMPLETE
    # CancelledError, KeyboardInterrupt, a generator that is closed early: stopped, not failed.
    return c.ERROR if isinstance(error, (Exception, SystemExit)) else c.CANCELLED


class AgentTask:
    """A task that is about to run: a context manager (sync and async) and a decorator.

    Made by `agent_task`.
    """

    def __init__(
        self,
        name: str,
        attributes: Mapping[str, Any],
        task_id: str | None,
        tracer: Tracer | None,
        *,
        takes_order: bool = False,
    ) -> None:
        self._name = name
        self._attributes = attributes
        self._task_id = task_id
        self._tracer = tracer
        self._takes_order = takes_order
        self._entered: list[tuple[Task, Any]] = []

    def _start(self) -> Task:
        tracer = self._tracer or trace.get_tracer(_SCOPE)
        attributes = dict(self._attributes)
        if self._takes_order and not trace.get_current_span().get_span_context().is_valid:
            attributes = {**_order_of_process(), **attributes}
        return Task(tracer.start_span(self._name, attributes=attributes), self._task_id)

    def __enter__(self) -> Task:
        task = self._start()
        self._entered.append((task, otel_context.attach(task._context())))
        return task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, token = self._entered.pop()
        otel_context.detach(token)
        task._finish(error)

    async def __aenter__(self) -> Task:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Run each call of `function` (sync, async, generator, async generator) as a task of its own."""
        return decorate(self._start, function)


def agent_task(
    name: str,
    *,
    task_id: str | None = None,
    agent: str | None = None,
    repo: str | None = None,
    topic: str | None = None,
    type: str | None = None,
    requested_by: str | None = None,
    parent_id: str | None = None,
    retry_of: str | None = None,
    order: Mapping[str, Any] | None = None,
    links: Mapping[str, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    tracer: Tracer | None = None,
) -> AgentTask:
    """Run an agent's piece of work as a task: one span, current while it runs.

    It ends ``complete``; ``error`` when an exception leaves it (recorded once, and raised on); ``cancelled``
    when it was cancelled or interrupted. `name` is the title that people read. Give `task_id` to continue a
    task in another process. `order` is the launch order that started it (`started_by`): it sets the order's
    id and the task that this one retries. Without it, the first topmost task of a process that a launcher
    started reads the order from the environment.

        with agent_task("Fix the build", agent="builder", repo="acme/shop", topic="ci") as task:
            task.checkpoint("found the failing test", progress=30)

        @agent_task("Nightly triage")
        async def triage() -> None: ...
    """
    said = {
        c.TASK_NAME: name,
        c.TASK_ID: task_id,
        c.TASK_TYPE: type,
        c.TASK_PARENT_ID: parent_id,
        c.NAME: agent,
        c.REPO: repo,
        c.TOPIC: topic,
        c.REQUESTED_BY: requested_by,
        c.RETRY_OF: retry_of,
        **{c.LINK_PREFIX + k: v for k, v in (links or {}).items()},
        **(attributes or {}),
    }
    ordered = started_by(order) if order is not None else {}
    return AgentTask(name, {**ordered, **without_none(said)}, task_id, tracer, takes_order=order is None)


def started_by(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a task that a launch order started.

    `order` is a launcher's JSON, whole or its ``data``.
    """
    fields = order["data"] if isinstance(order.get("data"), Mapping) else order
    names = {c.ORDER_ID: "id", c.RETRY_OF: "retry_of", c.CAUSED_BY: "caused_by", c.REQUESTED_BY: "requested_by"}
    return {name: value for name, key in names.items() if isinstance(value := fields.get(key), str) and value}


def _order_of_process() -> dict[str, Any]:
    """Return this process's launch order, once: a second task or a child process does not get it again."""
    text = os.environ.pop(ORDER_VARIABLE, "")
    if not text:
        return {}
    try:
        order = json.loads(text)
    except ValueError:
        return {}
    return started_by(order) if isinstance(order, dict) else {}


def current_task() -> Task | None:
    """Return the innermost task that runs here, or None."""
    task = otel_context.get_value(_TASK_KEY)
    return task if isinstance(task, Task) else None


def checkpoint(
    message: str,
    *,
    progress: float | None = None,
    status: StatusWord | None = None,
    action: str | None = None,
    step: str | None = None,
    step_index: int | None = None,
    step_count: int | None = None,
    context_used: int | None = None,
    context_window: int | None = None,
    **attributes: Any,
) -> None:
    """Report a checkpoint on the current span. Progress also becomes an attribute of the task's span.

    For example ``checkpoint("indexed 3 of 9 repositories", progress=33)``.
    """
    said = progress_attributes(
        progress=progress,
        status=status,
        action=action,
        step=step,
        step_index=step_index,
        step_count=step_count,
        context_used=context_used,
        context_window=context_window,
    )
    _tell_checkpoint(trace.get_current_span(), current_task(), message, said, attributes)


def artifact(name: str, uri: str | None = None, kind: str | None = None, **attributes: Any) -> None:
    """Report an artifact on the current span: ``artifact("report.md", kind="file")``."""
    _tell_artifact(trace.get_current_span(), name, uri, kind, attributes)


def step(name: str, index: int | None = None, count: int | None = None) -> None:
    """Report the current step of the current task (else the current span); `index` counts from 1."""
    said = progress_attributes(step=name, step_index=index, step_count=count)
    (current_task() or Task(trace.get_current_span()))._keep(said)


def _tell_checkpoint(
    span: Span, task: Task | None, message: str, said: dict[str, Any], more: Mapping[str, Any]
) -> None:
    # The event first: a reader of the live span recognises what is new by its events.
    if span.is_recording():
        span.add_event(c.EVENT_CHECKPOINT, {c.CHECKPOINT_MESSAGE: str(message), **said, **without_none(more)})
    if said:
        (task or Task(span))._keep(said)


def _tell_artifact(span: Span, name: str, uri: str | None, kind: str | None, more: Mapping[str, Any]) -> None:
    if span.is_recording():
        made = {c.ARTIFACT_NAME: str(name), c.ARTIFACT_URI: uri, c.ARTIFACT_KIND: kind, **more}
        span.add_event(c.EVENT_ARTIFACT, without_none(made))
