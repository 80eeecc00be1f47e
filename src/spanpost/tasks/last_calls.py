"""The newest model call and tool call of a run, and whether they left something open.

Rules. What begins after a run has ended says nothing about how it ended: a tool that cleans up afterwards
leaves no question open, a summary that fails afterwards fails no run. It may close what was open: a late
answer to a tool call answers it.

Theory. The end may become known before or after what follows it, so the newest few calls are kept with their
starts, and selected as of the end when that is judged. Where all kept calls began after the end, they
conclude nothing.
"""

from __future__ import annotations

import msgspec

from spanpost.model.readings import Finish
from spanpost.tasks.facts import Facts

#: Tools after which no model turn is expected: a run that closes on one of them has ended, not asked.
_CLOSING = (
    "final_answer",
    "final_result",
    "final_output",
    "finish",
    "handoff",
    "transfer",
    "submit",
    "return_",
    "complete_task",
    "attempt_completion",
)


class Called(msgspec.Struct, frozen=True, gc=False):
    """A model call or a tool call that ended."""

    at: int
    has_failed: bool
    #: Of a model call its `Finish`; of a tool its result: unknown (0), nothing (1), something (2).
    outcome: int
    name: str = ""
    id: str = ""


class Last(msgspec.Struct, frozen=True, gc=False):
    """The newest model call and the newest tool call."""

    call: Called | None = None
    tool: Called | None = None

    @property
    def has_failed(self) -> bool:
        """True when the newest call is a model call that failed."""
        return self.call is not None and self.call.has_failed and (self.tool is None or self.tool.at <= self.call.at)

    @property
    def is_unresolved(self) -> bool:
        """True when the run closed on a tool call that was requested and not made, or made and not followed
        by a model turn.
        """
        call, tool = self.call, self.tool
        if call is None:
            return tool is not None and tool.outcome == 1
        if tool is not None and tool.at > call.at:
            name = tool.name.lower()
            if any(closing in name for closing in _CLOSING):
                return False
            return tool.outcome == 1 or (tool.outcome != 2 and call.outcome in (Finish.TOOLS, Finish.UNKNOWN))
        return call.outcome == Finish.TOOLS


def last(facts: Facts) -> Last:
    """Return the newest calls of all that are known."""
    call, tool = facts.call, facts.tool
    return Last(
        Called(call.at_ns, call.value.has_failed, call.value.outcome) if call is not None else None,
        Called(tool.at_ns, tool.value.has_failed, tool.value.outcome, tool.value.name, tool.value.id)
        if tool is not None
        else None,
    )


def last_by(facts: Facts, end_ns: int) -> Last:
    """Return the newest calls that had begun by then."""
    newest = last(facts)
    call, tool = newest.call, newest.tool
    if call is not None and call.at > end_ns:
        call = _begun(facts, end_ns, is_tool=False)
    if tool is not None and tool.at > end_ns:
        tool = _begun(facts, end_ns, is_tool=True)
    return newest if call is newest.call and tool is newest.tool else Last(call, tool)


def _begun(facts: Facts, end_ns: int, *, is_tool: bool) -> Called | None:
    for deed in reversed(facts.deeds):
        if deed.is_tool == is_tool and deed.start_ns <= end_ns:
            return Called(deed.at_ns, deed.has_failed, deed.outcome, deed.name, deed.id)
    return None
