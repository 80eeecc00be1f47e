"""Requests of people to a task: `cancelled`, `paused`, `messages`."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from opentelemetry import trace

from spanpost import semconv as c
from spanpost.agent.background import begin
from spanpost.agent.gateway import ControlUnavailable, GatewayClosed, Unreachable
from spanpost.agent.provider import Control, control
from spanpost.agent.retries import SHORTEST, SOON, Retries, leave_caller_context, log
from spanpost.agent.task import Task, current_task

#: Maximum number of followed tasks; the one that was queried longest ago is dropped.
_FOLLOWED: Final = 1000
#: Shortest time between two starts of the listener of a task that spanpost reported as ended, seconds.
_RESTART: Final = 2.0
#: Longest time that the first query of a task waits for an answer, seconds.
_FIRST_ANSWER: Final = 1.0


@dataclass(frozen=True)
class Message:
    """A person's message to the agent."""

    #: What the person wrote: untrusted text.
    text: str
    #: Who wrote it, as the endpoint knows the person.
    by: str
    #: When, in UTC.
    at: datetime


@dataclass
class _FollowedTask:
    """The requests of people to one task so far."""

    after: int = 0
    is_cancelled: bool = False
    is_paused: bool = False
    messages: list[Message] = field(default_factory=list)
    listener: Any = None
    has_answer: threading.Event = field(default_factory=threading.Event)
    #: No gateway and no attached spanpost can be asked.
    is_unavailable: bool = False
    #: The span of the newest query. While it records, the task is at work.
    span: Any = None
    began_at: float = 0.0

    @property
    def is_over(self) -> bool:
        """True when no recording span of this process belongs to the task."""
        return self.span is None or not self.span.is_recording()

    @property
    def may_begin(self) -> bool:
        """True when there is no listener, or it ended because the task had ended."""
        return self.listener is None or (self.listener.done() and time.monotonic() - self.began_at > _RESTART)


_followed: OrderedDict[tuple[str, int], _FollowedTask] = OrderedDict()
_following = threading.Lock()


def _in_child() -> None:
    """Begin anew in a forked child: the listeners belong to the parent."""
    global _following
    _following = threading.Lock()
    _followed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def cancelled(task: Task | None = None) -> bool:
    """Return whether a person asked to stop the task (else the current one).

    Cheap, never raises: call it in loops.

    The first call starts a listener, and waits at most a second for its first answer.
    """
    return _follow(task).is_cancelled


def paused(task: Task | None = None) -> bool:
    """Return whether a person asked to pause the task and did not resume it. As cheap as `cancelled`."""
    return _follow(task).is_paused


def messages_sync(task: Task | None = None) -> list[Message]:
    """Return the messages to the task since the last call."""
    followed = _follow(task)
    with _following:
        new, followed.messages = followed.messages, []
    return new


async def messages(task: Task | None = None) -> list[Message]:
    """Return the messages to the task since the last call."""
    if _ref(task) in _followed:  # it has a listener already
        return messages_sync(task)
    # The first answer may take a second: not in the agent's loop. `to_thread` keeps the context and the
    # current task.
    return await asyncio.to_thread(messages_sync, task)


def _ref(task: Task | None) -> tuple[str, int]:
    """Return a name that spanpost knows the task by (its id, else its span, else the trace), and its run."""
    task = task or current_task()
    context = (task.span if task is not None else trace.get_current_span()).get_span_context()
    if task is not None and task.task_id:
        return task.task_id, context.span_id
    if not context.is_valid:
        return "", 0
    return (
        (f"{context.trace_id:032x}-{context.span_id:016x}", context.span_id)
        if task is not None
        else (f"{context.trace_id:032x}", 0)
    )


def _follow(task: Task | None) -> _FollowedTask:
    task = task or current_task()
    ref = _ref(task)
    if not ref[0]:
        return _FollowedTask()
    with _following:
        followed = _followed.setdefault(ref, _FollowedTask())
        followed.span = task.span if task is not None else trace.get_current_span()
        if followed.may_begin and not followed.is_unavailable:
            followed.began_at = time.monotonic()
            try:
                followed.listener = begin(_listen(control(), ref[0], followed))
            except ControlUnavailable as error:
                log.warning("people's requests to a task cannot be received: %s", error)
                followed.is_unavailable = True
                followed.has_answer.set()
        _followed.move_to_end(ref)
        if len(_followed) > _FOLLOWED:
            _, oldest = _followed.popitem(last=False)
            if oldest.listener is not None:
                oldest.listener.cancel()
    followed.has_answer.wait(_FIRST_ANSWER)
    return followed


async def _listen(control: Control, ref: str, followed: _FollowedTask) -> None:
    """Receive people's requests to a task, until spanpost and this process both say that it has ended.

    A task that spanpost reports as ended may be at work again in this process, before spanpost knows of it.
    """
    leave_caller_context()
    retries = Retries("people's requests to a task cannot be received at the moment")
    while True:
        began, is_first = time.monotonic(), not followed.has_answer.is_set()
        try:
            answer = await control.task(ref, followed.after, 0.0 if is_first else control.wait)
            status, has_acts = _apply(followed, answer) if answer is not None else ("", False)
        except GatewayClosed:
            return
        except (Unreachable, ControlUnavailable) as error:
            await retries.pause(error)
            continue
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            await retries.pause(Unreachable(f"the answer is malformed ({type(error).__name__})"))
            continue
        retries.succeeded()
        followed.has_answer.set()
        if (answer is None or status in c.FINAL_STATUSES) and followed.is_over:
            return
        if answer is None:  # spanpost does not know the task yet
            await asyncio.sleep(SHORTEST)
        elif not (is_first or has_acts) and time.monotonic() - began < SOON:
            await asyncio.sleep(SOON)


def _apply(followed: _FollowedTask, answer: Mapping[str, Any]) -> tuple[str, bool]:
    """Apply an answer; return the task's status and whether it has requests.

    Raises for a malformed answer.
    """
    acts, after = list(answer.get("acts", ())), int(answer.get("after", followed.after))
    messages = [_message(act) for act in acts if act["verb"] == "message"]
    with _following:
        for act in acts:
            match act.get("verb"):
                case "cancel":
                    followed.is_cancelled = True
                case "pause":
                    followed.is_paused = True
                case "resume":
                    followed.is_paused = False
        followed.messages += messages
        followed.after = after
    return str(answer.get("status")), bool(acts)


def _message(act: Mapping[str, Any]) -> Message:
    at = datetime.fromisoformat(str(act["at"]))
    return Message(text=str(act.get("text", "")), by=str(act.get("by", "")), at=at)
