"""People's answers, as an agent waits for them: `approval`, `cancelled`, `paused`, `messages`; and what it may spend: `budget`.

    from spanpost.agent import agent_task
    from spanpost.agent.control import approval

    async with agent_task("Release 1.4"):
        decision = await approval("Deploy to production?", detail=plan, risk="high", id="release-1.4")
        if decision.approved:
            deploy()

In a process in which `spanpost.attach` was called the answer comes without a network; elsewhere from the gateway (`agent.gateway`
says how it is found). What was asked is kept: a decision that was made while an agent was down is there when it asks again under
the same `id`. A time that is over is no refusal: `Decision.expired`. Needs opentelemetry-api and the standard library alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import getrandbits
from typing import Any, Literal
from uuid import uuid4

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from spanpost import semconv as c
from spanpost.agent.background import begin
from spanpost.agent.gateway import ControlUnavailable, GatewayClosed, Unreachable
from spanpost.agent.progress import without_none
from spanpost.agent.provider import Control as Control
from spanpost.agent.provider import control
from spanpost.agent.provider import install as install
from spanpost.agent.spending import AgentBudget as AgentBudget
from spanpost.agent.spending import Allowance as Allowance
from spanpost.agent.spending import budget as budget
from spanpost.agent.spending import budget_sync as budget_sync
from spanpost.agent.task import Task, current_task

__all__ = [
    "AgentBudget",
    "Allowance",
    "ApprovalTimeout",
    "ControlUnavailable",
    "Decision",
    "Message",
    "QuestionTooLong",
    "approval",
    "approval_sync",
    "budget",
    "budget_sync",
    "cancelled",
    "messages",
    "messages_sync",
    "paused",
]

_log = logging.getLogger("spanpost.control")

AtExpiry = Literal["wait", "deny", "escalate", "expire"]

#: Between two tries while nobody answers, growing; seconds. And how long a question may be unknown before that is said.
_PAUSE = (0.2, 5.0)
_UNKNOWN = 30.0
#: An answer that says nothing new and comes sooner than this was not waited for, seconds.
_SOON = 0.5
#: Tasks of which acts are followed at most; who was not asked for longest is let go.
_FOLLOWED = 1000
#: Who is asked of a task that was taken for ended listens again, but not sooner; seconds.
_AGAIN = 2.0


class QuestionTooLong(ValueError):
    """Not all of the question would be kept, and nobody could approve what they cannot read."""


class ApprovalTimeout(TimeoutError):
    """Nobody decided within the `timeout` that the agent gave itself. The question stays open."""


@dataclass(frozen=True)
class Decision:
    """What a person decided; or that nobody did in time (`expired`)."""

    id: str
    #: approve, deny, expired, or one of the `options`.
    decision: str
    by: str = ""
    comment: str = ""
    #: The time was over before anybody decided. `denied` only where the question said that it is to be denied then.
    expired: bool = False
    #: How a person decided: slack, api, cli; ``spanpost`` where a deadline did.
    source: str = ""

    @property
    def approved(self) -> bool:
        """True when a person said yes through spanpost. Of options that the agent gave itself, compare `decision`."""
        return self.decision == "approve" and bool(self.source) and not self.expired

    @property
    def denied(self) -> bool:
        """True when it was refused; not when merely nobody answered."""
        return self.decision == "deny"


@dataclass(frozen=True)
class Message:
    """Words of a person to the agent."""

    text: str
    by: str
    at: datetime


# --- approvals --------------------------------------------------------------------------------------------------------


async def approval(
    question: str,
    *,
    id: str | None = None,
    options: Sequence[str] = (),
    detail: str = "",
    risk: str = "",
    expires_in: timedelta | float | None = None,
    expires_at: datetime | None = None,
    at_expiry: AtExpiry | None = None,
    timeout: float | None = None,  # noqa: ASYNC109
) -> Decision:
    """Ask a person, and wait for the answer.

    `options` replace approve and deny. `id` names the decision in all of your tenant: whoever asks the same question under the
    same id gets the same answer, an agent that was restarted too; so put the run, the order or the commit in it. Without one the
    question is of this call alone. `expires_in` (seconds) or `expires_at` end it; what happens then is `at_expiry`, else a setting.
    `timeout` (seconds) ends this wait alone, by `ApprovalTimeout`. Raises `ControlUnavailable` where nobody can be asked, and
    `QuestionTooLong` for a question that people could not be shown whole.
    """
    asking = _Asking(question, id, options, detail, risk, expires_in, expires_at, at_expiry)
    with asking.waiting():
        return asking.heard(await asyncio.wrap_future(begin(asking.answer(timeout))))


def approval_sync(
    question: str,
    *,
    id: str | None = None,
    options: Sequence[str] = (),
    detail: str = "",
    risk: str = "",
    expires_in: timedelta | float | None = None,
    expires_at: datetime | None = None,
    at_expiry: AtExpiry | None = None,
    timeout: float | None = None,
) -> Decision:
    """Ask a person, and wait for the answer in this thread. See `approval`."""
    asking = _Asking(question, id, options, detail, risk, expires_in, expires_at, at_expiry)
    with asking.waiting():
        answer = begin(asking.answer(timeout))
        try:
            return asking.heard(answer.result())
        finally:
            answer.cancel()


class _Asking:
    """One question, from its telling to its answer."""

    def __init__(
        self,
        question: str,
        id: str | None,
        options: Sequence[str],
        detail: str,
        risk: str,
        expires_in: timedelta | float | None,
        expires_at: datetime | None,
        at_expiry: str | None,
    ) -> None:
        if not isinstance(question, str) or not question.strip():
            raise ValueError("approval: the question is empty; say what a person is to decide")
        if isinstance(options, str):
            raise TypeError("approval: options are a list of words, not one string")
        self.options = _options(options)
        if at_expiry is not None and at_expiry not in c.AT_EXPIRY:
            raise ValueError(f"approval: at_expiry is one of {', '.join(c.AT_EXPIRY)}, not {at_expiry!r}")
        if id is not None and not id.strip():
            raise ValueError("approval: the id is empty; leave it out, or name the decision")
        self.control = control()
        self.id = id or f"{uuid4()}"
        question, detail, risk = (
            _text("question", question),
            _text("detail", detail),
            _text("risk", risk, c.OPTION_LIMIT),
        )
        #: What is asked, in these words: an answer to others does not count.
        self.mark = c.question_mark(question, detail, self.options, risk)
        until = expires_at if expires_at is not None else _after(expires_in)
        self.said = without_none(
            {
                c.APPROVAL_ID: self.id,
                c.APPROVAL_QUESTION: question,
                c.APPROVAL_DETAIL: detail or None,
                c.APPROVAL_OPTIONS: tuple(self.options) or None,
                c.APPROVAL_RISK: risk or None,
                c.APPROVAL_EXPIRES_AT: until.isoformat() if until is not None else None,
                c.APPROVAL_AT_EXPIRY: at_expiry,
                c.APPROVAL_DIGEST: self.mark,
            }
        )
        task = current_task()
        self.span = task.span if task is not None else trace.get_current_span()
        self.at_ns = time.time_ns()
        #: The trace that asks: what another one asks under the same id is another question.
        self.trace_id = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Be within the span of the wait, with the question told on the task's span; on this one where there is no other."""
        tracer = trace.get_tracer("spanpost.agent")
        attributes = {c.APPROVAL_ID: self.id, c.APPROVAL_DIGEST: self.mark}
        # A wait that the agent ends by itself is no failure.
        with tracer.start_as_current_span(
            c.SPAN_APPROVAL_WAIT, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as wait:
            if not self.span.get_span_context().is_valid:
                self.span = wait
            if self.span.is_recording():
                self.span.add_event(c.EVENT_APPROVAL_REQUESTED, self.said, self.at_ns)
            yield

    def heard(self, told: Mapping[str, Any]) -> Decision:
        """Tell the answer on both spans, and return it."""
        said_so = str(told.get("decision", ""))
        decision = Decision(
            id=self.id,
            decision=self.options.get(said_so, said_so),
            by=str(told.get("by", "")),
            comment=str(told.get("comment", "")),
            expired=bool(told.get("is_expired")),
            source=str(told.get("source", "")),
        )
        said = {
            c.APPROVAL_DECISION: decision.decision,
            c.APPROVAL_BY: decision.by,
            c.APPROVAL_COMMENT: decision.comment,
        }
        said = {name: value for name, value in said.items() if value}
        trace.get_current_span().set_attributes(said)
        if self.span.is_recording():
            self.span.add_event(
                c.EVENT_APPROVAL_RESOLVED, {c.APPROVAL_ID: self.id, c.APPROVAL_DIGEST: self.mark, **said}
            )
        return decision

    async def answer(self, timeout: float | None) -> Mapping[str, Any]:  # noqa: ASYNC109
        """Ask, then wait, however often either side is away."""
        _unseen()
        try:
            async with asyncio.timeout(timeout):
                await self._ask()
                return await self._decided()
        except TimeoutError:
            raise ApprovalTimeout(
                f"nobody decided within {timeout:g} s: {self.said[c.APPROVAL_QUESTION][:100]}"
            ) from None

    async def _ask(self) -> None:
        context = self.span.get_span_context()
        # Where nothing is traced, the question is a trace of its own.
        made = getrandbits(127) + 1, getrandbits(63) + 1
        self.trace_id, span_id = (context.trace_id, context.span_id) if context.is_valid else made
        said = {"event.name": c.EVENT_APPROVAL_REQUESTED, **self.said}
        resource = getattr(getattr(self.span, "resource", None), "attributes", None) or {}
        tries = _Tries(f"the question {self.id} cannot be asked yet")
        while True:
            try:
                return await self.control.ask(said, self.trace_id, span_id, self.at_ns, dict(resource))
            except Unreachable as error:
                await tries.pause(error)

    async def _decided(self) -> Mapping[str, Any]:
        tries = _Tries(f"the answer to {self.id} cannot be waited for just now")
        asked_at, is_warned, is_first = time.monotonic(), False, True
        while True:
            began = time.monotonic()
            try:
                # The first look waits for nothing: that nobody can approve as it stands, the agent should know at once.
                told = await self.control.approval(
                    self.id, self.mark, self.trace_id, 0.0 if is_first else self.control.wait
                )
            except GatewayClosed:
                raise
            except (Unreachable, ControlUnavailable) as error:
                # It took the question: a token that is being replaced, a gateway that is being moved. A person may have answered.
                await tries.pause(error)
                continue
            tries.succeeded()
            if told is None:
                if time.monotonic() - asked_at > _UNKNOWN:
                    asked_at = time.monotonic()
                    _log.warning(
                        "the gateway does not know the question %s: is it the one that it was told to?", self.id
                    )
                await asyncio.sleep(_PAUSE[0])
                continue
            if told.get("reason") and not is_warned:
                is_warned = True
                _log.warning("the question %s: %s", self.id, str(told["reason"])[:500])
            if told.get("state") in ("decided", "expired") and told.get("source"):
                return told  # a decision without a source is none of spanpost's
            if told.get("state") == "void":
                return {
                    **told,
                    "decision": c.EXPIRED,
                    "is_expired": True,
                    "comment": "it was asked again in other words",
                }
            if not is_first and time.monotonic() - began < _SOON:  # it is on its way out, and lets nobody wait
                await asyncio.sleep(_SOON)
            is_first = False


def _after(expires_in: timedelta | float | None) -> datetime | None:
    if expires_in is None:
        return None
    seconds = expires_in.total_seconds() if isinstance(expires_in, timedelta) else float(expires_in)
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError("approval: expires_in must be more than 0 seconds")
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _text(name: str, given: object, most: int = c.QUESTION_LIMIT) -> str:
    """Return a text as it is kept. Raises `QuestionTooLong`."""
    text = c.question_text(str(given))
    if len(text) > most:
        raise QuestionTooLong(
            f"approval: the {name} has {len(text)} characters, and people can be shown {most}; shorten it"
        )
    return text


def _options(given: Sequence[str]) -> dict[str, str]:
    """Return options as they are asked, and as the agent wrote them. Raises `ValueError` for those that nobody could choose."""
    options = {c.question_text(str(option)).strip(): str(option) for option in given}
    most, longest = c.OPTIONS_LIMIT, c.OPTION_LIMIT
    if len(options) != len(given) or not all(options) or len(options) > most or any(len(o) > longest for o in options):
        raise ValueError(f"approval: options are up to {most} different texts of 1 to {longest} characters")
    if c.EXPIRED in options:
        raise ValueError(f"approval: {c.EXPIRED!r} is what is told when nobody decided; name the option otherwise")
    return options


class _Tries:
    """Pauses between tries, ever longer, said once."""

    def __init__(self, said: str) -> None:
        self._said = said
        self._pause = _PAUSE[0]
        self._is_said = False

    async def pause(self, error: Exception) -> None:
        if not self._is_said:
            self._is_said = True
            _log.warning("%s, trying again: %s", self._said, str(error)[:300])
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(self._pause * 2, _PAUSE[1])

    def succeeded(self) -> None:
        self._pause, self._is_said = _PAUSE[0], False


def _unseen() -> None:
    """Go on in a context without the caller's span, where instrumentations make none."""
    otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, otel_context.Context()))


# --- what is asked of a task ------------------------------------------------------------------------------------------


@dataclass
class _Followed:
    """What people asked of one task so far."""

    after: int = 0
    is_cancelled: bool = False
    is_paused: bool = False
    messages: list[Message] = field(default_factory=list)
    work: Any = None
    has_looked: threading.Event = field(default_factory=threading.Event)
    #: Nobody can be asked from here.
    is_deaf: bool = False
    #: By which it is known that the task goes on: of the newest that asked.
    span: Any = None
    began_at: float = 0.0

    @property
    def is_over(self) -> bool:
        """True where nothing in this process says that the task goes on."""
        return self.span is None or not self.span.is_recording()

    @property
    def may_begin(self) -> bool:
        """True where nobody listens, or who did was told that the task has ended."""
        return self.work is None or (self.work.done() and time.monotonic() - self.began_at > _AGAIN)


_followed: OrderedDict[tuple[str, int], _Followed] = OrderedDict()
_following = threading.Lock()


def _in_child() -> None:
    """Begin anew in a forked child: who listened is the parent's."""
    global _following
    _following = threading.Lock()
    _followed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def cancelled(task: Task | None = None) -> bool:
    """Tell whether a person asked to stop the task (else the current one). Cheap, never waits long, never raises: ask it in loops.

    The first call begins to listen, and waits for the first answer for a second at most.
    """
    return _follow(task).is_cancelled


def paused(task: Task | None = None) -> bool:
    """Tell whether a person asked to pause the task, and nobody asked to go on. As cheap as `cancelled`."""
    return _follow(task).is_paused


def messages_sync(task: Task | None = None) -> list[Message]:
    """Return what people wrote to the task since this was asked last."""
    followed = _follow(task)
    with _following:
        new, followed.messages = followed.messages, []
    return new


async def messages(task: Task | None = None) -> list[Message]:
    """Return what people wrote to the task since this was asked last."""
    if _ref(task) in _followed:  # it listens already
        return messages_sync(task)
    # The first look may take a second: not in the agent's loop. The context comes along, and with it the current task.
    return await asyncio.to_thread(messages_sync, task)


def _ref(task: Task | None) -> tuple[str, int]:
    """Return by what spanpost knows the task (its id, else its span, else the trace), and which run of it this is."""
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


def _follow(task: Task | None) -> _Followed:
    task = task or current_task()
    ref = _ref(task)
    if not ref[0]:
        return _Followed()
    with _following:
        followed = _followed.setdefault(ref, _Followed())
        followed.span = task.span if task is not None else trace.get_current_span()
        if followed.may_begin and not followed.is_deaf:
            followed.began_at = time.monotonic()
            try:
                followed.work = begin(_listen(control(), ref[0], followed))
            except ControlUnavailable as error:
                _log.warning("what people ask of a task is not heard: %s", error)
                followed.is_deaf = True
                followed.has_looked.set()
        _followed.move_to_end(ref)
        if len(_followed) > _FOLLOWED:
            _, oldest = _followed.popitem(last=False)
            if oldest.work is not None:
                oldest.work.cancel()
    followed.has_looked.wait(1.0)
    return followed


async def _listen(control: Control, ref: str, followed: _Followed) -> None:
    """Hear what people ask of a task, until it has ended here and there.

    A task that spanpost takes for ended may be at work again here, and spanpost not have heard of it yet.
    """
    _unseen()
    tries = _Tries("what people ask of a task is not heard just now")
    while True:
        began, is_first = time.monotonic(), not followed.has_looked.is_set()
        try:
            told = await control.task(ref, followed.after, 0.0 if is_first else control.wait)
            status, has_acts = _take(followed, told) if told is not None else ("", False)
        except GatewayClosed:
            return
        except (Unreachable, ControlUnavailable) as error:
            await tries.pause(error)
            continue
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            await tries.pause(Unreachable(f"an answer that is none ({type(error).__name__})"))
            continue
        tries.succeeded()
        followed.has_looked.set()
        if (told is None or status in c.FINAL_STATUSES) and followed.is_over:
            return
        if told is None:  # it is not known yet
            await asyncio.sleep(_PAUSE[0])
        elif not (is_first or has_acts) and time.monotonic() - began < _SOON:
            await asyncio.sleep(_SOON)


def _take(followed: _Followed, told: Mapping[str, Any]) -> tuple[str, bool]:
    """Take in an answer; return the task's status, and whether anything was asked of it. Raises for what is no answer."""
    acts, after = list(told.get("acts", ())), int(told.get("after", followed.after))
    messages = [_message(act) for act in acts if act["verb"] == "message"]
    with _following:
        for act in acts:
            _hear(followed, act)
        followed.messages += messages
        followed.after = after
    return str(told.get("status")), bool(acts)


def _message(act: Mapping[str, Any]) -> Message:
    at = datetime.fromisoformat(str(act["at"]))
    return Message(text=str(act.get("text", "")), by=str(act.get("by", "")), at=at)


def _hear(followed: _Followed, act: Mapping[str, Any]) -> None:
    match act.get("verb"):
        case "cancel":
            followed.is_cancelled = True
        case "pause":
            followed.is_paused = True
        case "resume":
            followed.is_paused = False
