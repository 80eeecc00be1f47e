"""Answers that the state of a question stands for, at a prompt and before a call that waits without a process.

Rules. Only a decision to approve, by a person or a standing approval, allows. At a prompt everything else is no
opinion. A deferred call is put off while its question is open, and refused in every other state: without an opinion
it would run where the program's own settings allow it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from spanpost.control_protocol import ApprovalAnswer
from spanpost.interactions.answers import Answers, UnknownQuestion
from spanpost.interactions.hooks.events import HookEvent
from spanpost.interactions.hooks.programs import NO_OPINION, HookAnswer
from spanpost.interactions.hooks.questions import HookQuestion
from spanpost.model.interventions import InterventionState

#: Refusals of calls that cannot be deferred, or no longer.
NOT_RESUMABLE: Final = "it cannot be deferred: it has no tool_use_id, or its session_id cannot be resumed"
NOT_RECORDED: Final = "spanpost cannot record its question now"
_EXPIRED: Final = "nobody answered in time"
_CLOSED: Final = "its question was closed without an approval"


def answer_of(answer: ApprovalAnswer) -> HookAnswer:
    """Return what a decision means for the program. Only a decision to approve allows."""
    if answer["state"] != InterventionState.DECIDED or answer["is_expired"] or not answer["source"]:
        return NO_OPINION
    by, comment = answer["by"] or "spanpost", answer["comment"]
    if answer["decision"] == "approve":
        return HookAnswer(is_allowed=True, reason=f"allowed by {by}")
    if answer["decision"] == "deny":
        return HookAnswer(is_allowed=False, reason=f"denied by {by}{f': {comment}' if comment else ''}")
    return NO_OPINION


async def deferred(
    answers: Answers,
    tenant: str,
    event: HookEvent,
    question: HookQuestion,
    record: Callable[[], Awaitable[None]],
    launcher: str,
) -> HookAnswer:
    """Return the answer to a deferred call; `record` records its question where there is none. Raises any error.

    `launcher` resumes the run after the decision; empty: a person does.
    """
    try:
        answer = await answers.approval(tenant, question.id, question.mark)
    except UnknownQuestion:
        await record()
        answer = await answers.approval(tenant, question.id, question.mark)
    if answer["state"] == InterventionState.OPEN:
        after = f"launcher {launcher} resumes it" if launcher else f"go on with {event.program.resumes} {event.session}"
        return HookAnswer(may_defer=True, reason=f"people are asked; after their decision {after}")
    said = answer_of(answer)
    if said.is_allowed is None:
        return HookAnswer(is_allowed=False, reason=_EXPIRED if answer["is_expired"] else _CLOSED)
    return msgspec.structs.replace(said, may_defer=True)
