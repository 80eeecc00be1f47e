"""Ask a person for a decision and wait for it: `approval`, `approval_sync`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import getrandbits
from typing import Any, Final

from opentelemetry import trace

from spanpost import semconv as c
from spanpost.agent.background import begin
from spanpost.agent.gateway import ControlUnavailable, GatewayClosed, Unreachable
from spanpost.agent.provider import Control, control
from spanpost.agent.questions import AskedQuestion, AtExpiry
from spanpost.agent.retries import SHORTEST, SOON, Retries, leave_caller_context, log
from spanpost.agent.task import current_task

#: Seconds after which a question that the gateway does not know is logged.
_UNKNOWN: Final = 30.0


class ApprovalTimeout(TimeoutError):
    """No decision came within the `timeout` of the agent. The question stays open."""


@dataclass(frozen=True)
class Decision:
    """A person's decision, or `expired` if no decision came in time."""

    #: The question's id.
    id: str
    #: approve, deny, expired, or one of the `options`.
    decision: str
    #: Who decided: a name or address as the endpoint knows it; empty without a decision.
    by: str = ""
    #: What that person wrote besides: untrusted text.
    comment: str = ""
    #: The deadline passed without a decision. It is `denied` only if the question asked for that.
    expired: bool = False
    #: Where the decision was made: slack, api, app, cli; ``rule`` for a standing approval, ``spanpost`` for a deadline.
    source: str = ""

    @property
    def approved(self) -> bool:
        """True when a person approved through spanpost. With `options` of your own, compare `decision`."""
        return self.decision == "approve" and bool(self.source) and not self.expired

    @property
    def denied(self) -> bool:
        """True when it was refused; a question without an answer is not denied."""
        return self.decision == "deny"


async def approval(
    question: str,
    *,
    id: str | None = None,
    options: Sequence[str] = (),
    detail: str = "",
    risk: str = "",
    tool: str = "",
    needs: int = 1,
    to: Sequence[str] = (),
    to_after: timedelta | float | None = None,
    expires_in: timedelta | float | None = None,
    expires_at: datetime | None = None,
    at_expiry: AtExpiry | None = None,
    timeout: float | None = None,  # noqa: ASYNC109
) -> Decision:
    """Ask a person, and wait for the answer.

    `options` replace approve and deny. `id` names the decision within your tenant: every agent that asks the
    same question under the same id gets the same answer, also after a restart. Put the run, the order or the
    commit in it. Without an id the question belongs to this call alone. `tool` names the tool that you ask for:
    people may then allow it for a while (a standing approval). `needs` people must approve; they are asked in
    the places of `to`, one after the other, each for `to_after` seconds; the settings can ask for more.
    `expires_in` (seconds) or `expires_at` set a deadline; `at_expiry`, else a setting, says what happens then.
    `timeout` (seconds) ends this wait alone, with `ApprovalTimeout`. Raises `ControlUnavailable` where no
    gateway and no attached spanpost can be asked, and `QuestionTooLong`.
    """
    asking = _Asking(
        AskedQuestion(question, id, options, detail, risk, expires_in, expires_at, at_expiry, tool, needs, to, to_after)
    )
    with asking.waiting():
        return asking.decided(await asyncio.wrap_future(begin(asking.answer(timeout))))


def approval_sync(
    question: str,
    *,
    id: str | None = None,
    options: Sequence[str] = (),
    detail: str = "",
    risk: str = "",
    tool: str = "",
    needs: int = 1,
    to: Sequence[str] = (),
    to_after: timedelta | float | None = None,
    expires_in: timedelta | float | None = None,
    expires_at: datetime | None = None,
    at_expiry: AtExpiry | None = None,
    timeout: float | None = None,
) -> Decision:
    """Ask a person, and wait for the answer in this thread. See `approval`."""
    asking = _Asking(
        AskedQuestion(question, id, options, detail, risk, expires_in, expires_at, at_expiry, tool, needs, to, to_after)
    )
    with asking.waiting():
        answer = begin(asking.answer(timeout))
        try:
            return asking.decided(answer.result())
        finally:
            answer.cancel()


def decision_of(question: AskedQuestion, answer: Mapping[str, Any]) -> Decision:
    """Return the decision that an answer of the gateway carries."""
    word = str(answer.get("decision", ""))
    return Decision(
        id=question.id,
        decision=question.options.get(word, word),
        by=str(answer.get("by", "")),
        comment=str(answer.get("comment", "")),
        expired=bool(answer.get("is_expired")),
        source=str(answer.get("source", "")),
    )


class _Asking:
    """One question, from the request to the answer."""

    def __init__(self, question: AskedQuestion) -> None:
        self.control = control()
        self.question = question
        task = current_task()
        self.span = task.span if task is not None else trace.get_current_span()
        #: The trace that asks: the same id in another trace is another question.
        self.trace_id = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Open the span of the wait and record the question on the task's span, or on this span if there is
        none.
        """
        tracer = trace.get_tracer("spanpost.agent")
        attributes = {c.APPROVAL_ID: self.question.id, c.APPROVAL_DIGEST: self.question.mark}
        # A wait that the agent ends by itself is no failure.
        with tracer.start_as_current_span(
            c.SPAN_APPROVAL_WAIT, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as wait:
            if not self.span.get_span_context().is_valid:
                self.span = wait
            if self.span.is_recording():
                self.span.add_event(c.EVENT_APPROVAL_REQUESTED, self.question.attributes, self.question.at_ns)
            yield

    def decided(self, answer: Mapping[str, Any]) -> Decision:
        """Record the answer on both spans and return it."""
        decision = decision_of(self.question, answer)
        attributes = {
            c.APPROVAL_DECISION: decision.decision,
            c.APPROVAL_BY: decision.by,
            c.APPROVAL_COMMENT: decision.comment,
        }
        attributes = {name: value for name, value in attributes.items() if value}
        trace.get_current_span().set_attributes(attributes)
        if self.span.is_recording():
            identity = {c.APPROVAL_ID: self.question.id, c.APPROVAL_DIGEST: self.question.mark}
            self.span.add_event(c.EVENT_APPROVAL_RESOLVED, {**identity, **attributes})
        return decision

    async def answer(self, timeout: float | None) -> Mapping[str, Any]:  # noqa: ASYNC109
        """Ask, then wait. Goes on through outages of the agent's network and of the gateway."""
        leave_caller_context()
        try:
            async with asyncio.timeout(timeout):
                await self._ask()
                return await answer_of(self.control, self.question.id, self.question.mark, self.trace_id)
        except TimeoutError:
            raise ApprovalTimeout(f"nobody decided within {timeout:g} s: {self.question.text[:100]}") from None

    async def _ask(self) -> None:
        context = self.span.get_span_context()
        # Without tracing, the question is a trace of its own.
        made = getrandbits(127) + 1, getrandbits(63) + 1
        self.trace_id, span_id = (context.trace_id, context.span_id) if context.is_valid else made
        event = {"event.name": c.EVENT_APPROVAL_REQUESTED, **self.question.attributes}
        resource = getattr(getattr(self.span, "resource", None), "attributes", None) or {}
        retries = Retries(f"the question {self.question.id} cannot be asked yet")
        while True:
            try:
                return await self.control.ask(event, self.trace_id, span_id, self.question.at_ns, dict(resource))
            except Unreachable as error:
                await retries.pause(error)


async def answer_of(control: Control, id: str, mark: str, trace_id: int) -> Mapping[str, Any]:
    """Wait for the answer to a question that was asked. Goes on through outages of the network and of the gateway."""
    retries = Retries(f"the answer to {id} cannot be waited for at the moment")
    asked_at, is_warned, is_first = time.monotonic(), False, True
    while True:
        began = time.monotonic()
        try:
            # The first request does not wait: an agent should know at once that its question cannot be
            # approved.
            answer = await control.approval(id, mark, trace_id, 0.0 if is_first else control.wait)
        except GatewayClosed:
            raise
        except (Unreachable, ControlUnavailable) as error:
            # The gateway accepted the question: its token is being replaced, or it is being moved. A
            # person may have answered.
            await retries.pause(error)
            continue
        retries.succeeded()
        if answer is None:
            if time.monotonic() - asked_at > _UNKNOWN:
                asked_at = time.monotonic()
                log.warning("the gateway does not know the question %s: is it the gateway that was asked?", id)
            await asyncio.sleep(SHORTEST)
            continue
        if answer.get("reason") and not is_warned:
            is_warned = True
            log.warning("the question %s: %s", id, str(answer["reason"])[:500])
        if answer.get("state") in ("decided", "expired") and answer.get("source"):
            return answer  # a decision without a source was not made through spanpost
        if answer.get("state") == "void":
            comment = "it was asked again in other words"
            return {**answer, "decision": c.EXPIRED, "is_expired": True, "comment": comment}
        if not is_first and time.monotonic() - began < SOON:  # a gateway that shuts down does not hold requests
            await asyncio.sleep(SOON)
        is_first = False
