"""What looks like a failure and is none: a wait for a person, a handoff, a stop on purpose."""

from __future__ import annotations

import re

from spanpost.text.content import HANDOFF

#: A wait for a person that looks like a failure: LangGraph (in JavaScript the interrupts as JSON), llama-index,
#: pydantic-ai's deferred tools, strands, ADK's confirmation, Eino.
INTERRUPT = re.compile(
    r"\b(?:GraphInterrupt|NodeInterrupt|WaitingForEvent|InterruptException|CallDeferred|ApprovalRequired|InterruptSignal"
    r"|\w{0,80}InterruptError)\b|^\(?Interrupt\("
    r'|^\W{0,20}\[\s*\{\s*"(?:(?:interrupt_)?id": ?"[^"]{0,100}",\s*"value"|value":.{0,300}?"when": ?"during")'
    r"|requires (?:confirmation|approval), please approve or reject|\binterrupt signal: ID=",
    re.DOTALL,
)
_CANCELLED = frozenset({"CancelledError", "KeyboardInterrupt", "TaskCancelled", "OperationCanceledError"})
_CANCELLED |= {"AbortError", "APIUserAbortError"}
#: JavaScript's aborts, whose type is often no more than ``Error``.
_ABORTED = re.compile(
    r"(?:Error: )*(?:Abort(?:ed)?|Request was aborted|(?:This|The) operation was aborted"
    r"|\w[\w ]{0,40} process aborted by user|context canceled)"
    r"\.?"
)


def is_interrupt(kind: str, message: str) -> bool:
    """Return whether an error is a wait for a person."""
    return INTERRUPT.search(kind) is not None or INTERRUPT.search(message, 0, 400) is not None


def is_handoff(kind: str, message: str) -> bool:
    """Return whether an error is a handoff to another agent."""
    return HANDOFF.match(kind) is not None or HANDOFF.match(message) is not None


def is_cancel(kind: str, message: str = "") -> bool:
    """Return whether an error is a stop on purpose."""
    return kind.rpartition(".")[2] in _CANCELLED or _ABORTED.fullmatch(message) is not None
